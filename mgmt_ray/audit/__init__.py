"""Leakage and sanity checks of a study and of its results."""
