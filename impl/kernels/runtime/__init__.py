"""How kernels are compiled, cached and run on threads, and the memory that they use: no mathematics of the model."""
