"""A study's report: one HTML file that needs nothing else, and a table for the terminal."""
