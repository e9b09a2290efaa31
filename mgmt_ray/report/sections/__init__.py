"""The sections of a study's report, each with the template that it fills."""
