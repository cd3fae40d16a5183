"""The random numbers of one worker of a data loader in one epoch: a stream of its own for each (seed, epoch, worker).

The worker is a word of the counter, the epoch two, and the seed is in the key (philox.py): no two triples share a
counter and a key, however large they are, and none depends on how many workers there are or on what was drawn before.
Adding them up, as seed + worker + epoch, gives one worker the stream that another had an epoch ago.

Source: Salmon et al., SC 2011; github.com/pytorch/pytorch/issues/5059 (workers that share a stream).
"""

import numpy as np
from jaxtyping import UInt64

from reference.philox import counters, philox4x32, stream_key

HALF = 32


def worker_stream(seed: int, epoch: int, worker: int, n: int) -> UInt64[np.ndarray, "n"]:
    """The first n numbers of 64 random bits, [n]; worker below 2^32, epoch below 2^64."""
    words = philox4x32(counters(np.arange(n), worker, epoch), stream_key(seed, "workers")).astype(np.uint64)
    return words[:, 0] | words[:, 1] << np.uint64(HALF)
