"""A study: its configuration, and the plan of trials that follows from it."""
