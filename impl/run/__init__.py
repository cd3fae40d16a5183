"""A run directory: manifest, log, checkpoints, and how files are written."""
