"""The definition of done: train for real, recompute every number, refuse what cannot be verified."""
