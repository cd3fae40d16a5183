"""Whole-array steps that are one line of mathematics: embed, copy rows, add, multiply."""

from impl.kernels.runtime.compile import kernel


@kernel
def gather_rows(table, rows, out):
    """out[n] = table[rows[n]]: the embedding; table [V, D], rows int64 [N], out [N, D]."""
    for n in range(rows.size):
        row = rows[n]
        for d in range(table.shape[1]):
            out[n, d] = table[row, d]


@kernel
def scatter_add_rows(values, rows, table):
    """table[rows[n]] += values[n], n ascending: the embedding's gradient."""
    for n in range(rows.size):
        row = rows[n]
        for d in range(table.shape[1]):
            table[row, d] += values[n, d]


@kernel
def add_rows(values, total):
    """total += the sum over rows of values [N, D], n ascending: a bias's gradient."""
    for n in range(values.shape[0]):
        for d in range(values.shape[1]):
            total[d] += values[n, d]


@kernel
def fill_rows(row, out):
    """Every row of out [N, D] = row: the bias that a product is then added to."""
    for n in range(out.shape[0]):
        for d in range(out.shape[1]):
            out[n, d] = row[d]


@kernel
def copy(x, out):
    """out = x over [N, D]."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            out[n, d] = x[n, d]


@kernel
def multiply_by(x, y):
    """x *= y over [N, D]; in place by name, as LLVM vectorises no loop whose result may be one of its operands."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            x[n, d] *= y[n, d]


@kernel
def add_to(total, x):
    """total += x over [N, D]."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            total[n, d] += x[n, d]


@kernel
def add(x, y, out):
    """out = x + y over [N, D]; out is neither of them."""
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            out[n, d] = x[n, d] + y[n, d]


@kernel
def take_sum(x, y, out):
    """out = x + y over flat arrays, and x = y = 0: what is to be added to next is at hand now."""
    for i in range(out.size):
        out[i] = x[i] + y[i]
        x[i] = 0.0
        y[i] = 0.0


@kernel
def take_onto(total, x):
    """total += x over flat arrays, and x = 0."""
    for i in range(x.size):
        total[i] += x[i]
        x[i] = 0.0


@kernel
def sum_onto(total, x):
    """total + x[0] + x[1] + ..., one after the other: a sum that the next array can continue. float64 [N]."""
    for i in range(x.size):
        total += x[i]
    return total


@kernel
def scale(x, factor):
    """x *= factor over a flat array."""
    for i in range(x.size):
        x[i] *= factor
