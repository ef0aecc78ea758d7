"""The figures: what is done in one round, and the marks that the medians must reach."""
