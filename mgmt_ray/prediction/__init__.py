"""Predict with trained models: test set, external cohorts, new patients; saliency maps."""
