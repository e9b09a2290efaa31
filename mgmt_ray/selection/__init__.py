"""Criterion M, the choice of epochs and members, ensembles: prediction tables in and out."""
