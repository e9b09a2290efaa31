"""Splits of a cohort into test set, folds and unused subjects."""
