"""Training and evaluating one network, without Ray or MLflow."""
