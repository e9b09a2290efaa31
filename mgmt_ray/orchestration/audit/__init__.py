"""The alarm: what a sound study must survive, and what its results must not show."""
