"""Looking at a cohort's files, and bringing its volumes and slices up to date."""
