"""Training and evaluation of one network, in torch alone: no Ray, no MLflow."""
