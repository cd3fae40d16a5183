"""Taking turns: how threads share the pieces of a batch without a number depending on who took which.

Pieces are handed out in order, and what each adds to a sum it adds when the piece before it has: the order of the sum
is that of the pieces. A piece is claimed after the ones before it, by a thread that is running: nobody waits for a
thread that never came.
"""

import os
import threading

from llvmlite import ir
from numba.core import cgutils, types

from impl.kernels.runtime.compile import intrinsic_or, kernel

GAVE_UP, NEXT_PIECE, DONE, TRANSPOSING, TRANSPOSED, HEAD, EMBEDDING, BRANCHES = range(8)
"""The counters of a chain; the first of them serve kernels/shares.py as well. GAVE_UP: not 0 if a worker failed.
NEXT_PIECE: to be taken. DONE: how many are. TRANSPOSING, of the first chain: how many workers came, whose first
transposes the matrices; TRANSPOSED: 1 if it has. From HEAD on whose turn it is to add to the gradients of the head, the
embedding, and of the branches of each block: attention of block i at BRANCHES + 2i, its feed-forward network at
BRANCHES + 2i + 1."""
_PATIENCE = 2000
"""Looks at a counter before the processor is offered to other threads."""
_LOCK = threading.Lock()


def _address(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, value=args[0])
    return builder.gep(array.data, [args[1]])


def _next_in_python(counters, i):
    with _LOCK:
        counters[i] += 1
        return counters[i] - 1


@intrinsic_or(_next_in_python)
def take(typingctx, counters, i):
    """counters[i], counted up by one at the same moment; counters int64."""

    def codegen(context, builder, signature, args):
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", _address(context, builder, signature, args), one, "seq_cst")

    return types.int64(counters, types.intp), codegen


@intrinsic_or(lambda counters, i: counters[i])
def _look(typingctx, counters, i):
    """counters[i] as the other threads left it, and with it what they had written before."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_address(context, builder, signature, args), "acquire", 8)

    return types.int64(counters, types.intp), codegen


@intrinsic_or(os.sched_yield)
def _offer_processor(typingctx):
    """Let other threads run first, if there are any."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@kernel
def wait_for_turn(counters, i, turn):
    """Return when counters[i] is `turn`; `take` passes it on. RuntimeError if a worker failed."""
    looks = 0
    while _look(counters, i) != turn:
        looks += 1
        if looks > _PATIENCE:
            _offer_processor()
            if _look(counters, GAVE_UP) != 0:
                raise RuntimeError("another thread gave up")
