"""The MLflow copy of a study: the only room that imports MLflow."""
