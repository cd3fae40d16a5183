"""The law: what a correct training loop computes, as fp64 NumPy oracles, and how far a correct one may be from them."""
