"""How long the subject's kernels and its training step take."""
