"""How kernels are compiled and cached, and the threads that run them: no mathematics."""
