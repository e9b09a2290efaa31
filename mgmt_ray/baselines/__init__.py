"""Models without a network: six radiomic features with a forest, and logistic regressions."""
