"""Synthetic cohorts with a known relation between scans and label, and writers of masks."""
