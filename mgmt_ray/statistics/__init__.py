"""Metrics with intervals, comparisons between networks, tables, and the paper's numbers."""
