"""The comparison models: six radiomic features with a forest, and logistic regressions."""
