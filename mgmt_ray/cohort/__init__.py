"""Subjects, labels and scans: readers of data sets, inclusion and exclusion, checks of files."""
