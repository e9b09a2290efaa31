"""Members on held-out subjects: test set, external cohorts, new patients; saliency."""
