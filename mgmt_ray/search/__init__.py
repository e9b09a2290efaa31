"""Configurations of a search: spaces, suggestions, rungs, the choice on validation alone."""
