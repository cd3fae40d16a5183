"""The numba kernels: the only compiled code. One file a family; `compile.py` says how all of them are compiled."""
