"""The stages of a study, from the cohort to the report, and what the command line prints."""
