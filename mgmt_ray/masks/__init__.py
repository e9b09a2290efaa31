"""Predicted tumour masks: for subjects without a mask, and to compare with given masks."""
