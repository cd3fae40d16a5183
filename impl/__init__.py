"""A correct training loop for MiniGPT, NumPy and numba only: the implementation that honestloop grades by default."""
