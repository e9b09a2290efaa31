"""Criterion M, the choice of epochs, members and ensembles: from prediction table to ensembles."""
