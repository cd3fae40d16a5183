"""The numba kernels, the only compiled code: one operation, or one family of operations, a file.

Arithmetic: elementary, reduce, gemm, transpose, elementwise, philox, normal. Layers: attention, layer_norm, activation,
rotary, dropout, loss. The model: packing (a batch as rows), views (where arrays lie in memory), forward_backward. Many
threads: worker (a batch), parallel and adamw (all parameters). runtime/ compiles kernels, caches them and runs threads.
"""
