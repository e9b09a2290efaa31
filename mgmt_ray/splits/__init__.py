"""Who tests, who trains, in which fold, and who is left out."""
