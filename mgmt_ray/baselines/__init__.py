"""Baseline models without a network: a random forest on radiomic features, and regressions."""
