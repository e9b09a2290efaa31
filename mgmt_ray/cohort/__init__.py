"""Subjects, labels and scans: who is in a study, who is out and why, and checks of files."""
