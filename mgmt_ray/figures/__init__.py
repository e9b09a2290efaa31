"""Figures: each function takes tables and returns a matplotlib Figure, without pyplot's state."""
