"""Loops over whole arrays that are one line of mathematics: gather rows, copy, add, multiply.

If `out` aliases an input, the overlap check that LLVM compiles into a vectorised loop fails at run time, and the scalar
loop runs instead. So each operation in place is a function of its own, without `out`.
"""

from impl.kernels.runtime.compile import kernel


@kernel
def gather_rows(table, tokens, out):
    """out[n] = table[tokens[n]]: the embedding; table [V, D], tokens int64 [N], out [N, D]."""
    for n in range(tokens.size):
        token = tokens[n]
        for d in range(table.shape[1]):
            out[n, d] = table[token, d]


@kernel
def scatter_add_rows(values, tokens, table):
    """table[tokens[n]] += values[n], n ascending: the gradient of the embedding."""
    for n in range(tokens.size):
        token = tokens[n]
        for d in range(table.shape[1]):
            table[token, d] += values[n, d]


@kernel
def add_rows(values, total):
    """total [D] += values[n] for every row n of values [N, D], ascending: the gradient of a bias."""
    for n in range(values.shape[0]):
        for d in range(values.shape[1]):
            total[d] += values[n, d]


@kernel
def fill_rows(row, out):
    """out[n] = row for every row of out [N, D]: the bias, to which a matrix product is then added."""
    for n in range(out.shape[0]):
        for d in range(out.shape[1]):
            out[n, d] = row[d]


@kernel
def copy(x, out):
    """out = x; both [N, D]."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            out[n, d] = x[n, d]


@kernel
def add(x, y, out):
    """out = x + y; all [N, D]; out must alias neither x nor y."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            out[n, d] = x[n, d] + y[n, d]


@kernel
def add_in_place(total, x):
    """total += x; both [N, D]."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            total[n, d] += x[n, d]


@kernel
def multiply_in_place(x, y):
    """x *= y; both [N, D]."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            x[n, d] *= y[n, d]


@kernel
def reduce_and_clear(x, y, out):
    """out = x + y, then x = y = 0; flat. The accumulators are zeroed while they are in the cache."""
    for i in range(out.size):
        out[i] = x[i] + y[i]
        x[i] = 0.0
        y[i] = 0.0


@kernel
def add_and_clear(total, x):
    """total += x, then x = 0; flat."""
    for i in range(x.size):
        total[i] += x[i]
        x[i] = 0.0


@kernel
def sum_in_order(total, x):
    """total + x[0] + x[1] + ..., i ascending, so that another array can continue the sum; x float64 [N]."""
    for i in range(x.size):
        total += x[i]
    return total


@kernel
def scale(x, factor):
    """x *= factor; flat."""
    for i in range(x.size):
        x[i] *= factor
