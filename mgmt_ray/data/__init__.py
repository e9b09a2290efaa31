"""Inspecting a cohort's files, and preparing its volumes and slices."""
