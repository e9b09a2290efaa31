"""Synthetic cohorts, in which the truth is known."""
