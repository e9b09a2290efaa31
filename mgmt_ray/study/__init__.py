"""A study: its configuration, its folder, and the plan of its trials."""
