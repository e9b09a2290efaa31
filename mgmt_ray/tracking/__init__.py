"""A copy of each study in MLflow; the only package that imports MLflow."""
