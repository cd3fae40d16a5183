"""A training loop and its adapter."""
