"""A study's stages in their order, and what each verb of the command line does."""
