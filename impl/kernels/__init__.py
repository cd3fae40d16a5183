"""The numba kernels, the only compiled code: one operation, or one family of operations, per file.

Arithmetic: math_functions, reduce, gemm, transpose, elementwise, philox, normal_random. Layers: attention, layer_norm,
activation, rotary, dropout, loss. The model: packing (a batch as rows), memory_layout (where arrays lie in memory),
forward_backward. Many threads: batch_worker (a batch), parameter_passes and adamw (all parameters). runtime/ compiles
kernels, caches them and runs threads.
"""
