"""Ordered accumulation with ticket counters: threads share work items, and the result is bitwise reproducible.

A thread claims the next item with `fetch_add`. Before it adds to a sum that all threads share, it waits until the sum's
counter equals the number of its item; afterwards it increments the counter. So every sum is formed in the order of the
items. There is no deadlock: when an item is claimed, running threads have claimed all the items before it.
"""

import os
import threading

from llvmlite import ir
from numba.core import cgutils, types

from impl.kernels.runtime.compile import intrinsic_or_python, kernel

FAILED, NEXT_ITEM, DONE = range(3)
"""Indices of counters, which start at 0. FAILED: not 0 if a thread raised an error. NEXT_ITEM: the number of the next
item to be claimed. DONE: how many items are finished."""
FIRST_FREE_COUNTER = DONE + 1
"""A task may have further counters, from this index on; without any, an array of this size is enough."""
_SPIN_LIMIT = 2000
"""How often a waiting thread reads a counter before it yields the CPU."""
_LOCK = threading.Lock()


def _address(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, value=args[0])
    return builder.gep(array.data, [args[1]])


def _fetch_add_in_python(counters, i, value):
    with _LOCK:
        counters[i] += value
        return counters[i] - value


@intrinsic_or_python(_fetch_add_in_python)
def fetch_add(typingctx, counters, i, value):
    """Atomically add `value` to counters[i] and return what it was before; counters int64."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", _address(context, builder, signature, args), args[2], "seq_cst")

    return types.int64(counters, types.intp, types.int64), codegen


@intrinsic_or_python(lambda counters, i: counters[i])
def load_acquire(typingctx, counters, i):
    """counters[i], read so that whatever a thread wrote before it set this value is visible afterwards."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_address(context, builder, signature, args), "acquire", 8)

    return types.int64(counters, types.intp), codegen


@intrinsic_or_python(os.sched_yield)
def yield_cpu(typingctx):
    """Let the operating system run another thread first."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@kernel
def wait_until(counters, i, value):
    """Return once counters[i] equals `value`. RuntimeError if another thread failed."""
    reads = 0
    while load_acquire(counters, i) != value:
        reads += 1
        if reads > _SPIN_LIMIT:
            yield_cpu()
            if load_acquire(counters, FAILED) != 0:
                raise RuntimeError("another thread failed")
