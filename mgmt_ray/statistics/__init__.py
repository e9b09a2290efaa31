"""Metrics with intervals, comparisons between networks, tables, and the papers' results."""
