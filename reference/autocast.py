"""What a matrix product is under autocast: operands of 16 bits, sums in single precision.

    y  = r(r(a) r(b))                  a [M, K], b [K, N] in float32
    da = r(r(dy) r(b)^T)               the gradients of a and b, in float32 as they are
    db = r(r(a)^T r(dy))

r rounds to float16 or bfloat16, to nearest; the sums of the products are formed in single precision or wider. a and b,
the weights among them, stay in float32: what is rounded is a copy, made of them as they are now. A legal variant leaves
the three results in single precision.

Source: Micikevicius et al., "Mixed precision training", ICLR 2018, sections 3.1 and 3.3; torch.autocast.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from reference.mixed_precision import rounded


def stored(x: Any, form: str, product: str) -> Any:
    """A result in the type in which it is stored, by the convention `product`: "rounded" or "single"."""
    return rounded(x, form) if product == "rounded" else x


def autocast_matmul(
    a: Float[np.ndarray, "M K"], b: Float[np.ndarray, "K N"], form: str, *, product: str = "rounded"
) -> Float[np.ndarray, "M N"]:
    """The product of a and b. KeyError for a form that is not of 16 bits."""
    return stored(rounded(a, form) @ rounded(b, form), form, product)


def autocast_matmul_backward(
    a: Float[np.ndarray, "M K"],
    b: Float[np.ndarray, "K N"],
    form: str,
    dout: Float[np.ndarray, "M N"],
    *,
    product: str = "rounded",
) -> tuple[Float[np.ndarray, "M K"], Float[np.ndarray, "K N"]]:
    """(da, db) for an incoming gradient dout."""
    dy = rounded(dout, form)
    da, db = dy @ rounded(b, form).swapaxes(0, 1), rounded(a, form).swapaxes(0, 1) @ dy
    return stored(da, form, product), stored(db, form, product)
