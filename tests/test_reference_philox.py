"""Philox4x32-10, the streams, dropout masks and epoch orders, against published vectors and plain loops."""

import hashlib
import math

import numpy as np
import pytest

from reference import data, dropout
from reference.philox import counters, philox4x32, stream_key

# Known answers published with Random123 (Salmon et al., SC 2011), kat_vectors, philox4x32-10: counter, key, output.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_known_answers(counter, key, output):
    k0, k1 = words(key)
    got = philox4x32(np.array([words(counter)], dtype=np.uint32), (k0, k1))
    assert got.dtype == np.uint32
    assert got[0].tolist() == words(output)


def test_rows_are_independent():
    rows = counters(np.arange(50), 3, 2**33 + 5)
    together = philox4x32(rows, (1, 2))
    assert rows[7].tolist() == [7, 3, 5, 2]
    for i in (0, 7, 49):
        assert together[i].tolist() == philox4x32(rows[[i]], (1, 2))[0].tolist()


def test_streams_have_keys_of_their_own():
    digest = hashlib.sha256(b"12/control").digest()
    assert stream_key(12, "control") == (
        int.from_bytes(digest[:4], "little"),
        int.from_bytes(digest[4:8], "little"),
    )
    keys = {stream_key(seed, name) for seed in (0, 1, 2**64 - 1) for name in ("init", "data", "control")}
    assert len(keys) == 9


def test_dropout_is_its_law_entry_by_entry():
    shape, p, seed, step, site, context = (2, 3, 5), 0.3, 9, 2**32 + 4, 2, 7
    key = stream_key(seed, "control")
    mask = dropout.kept(shape, p, seed=seed, step=step, site=site, context=context)
    for row, position, feature in np.ndindex(shape):
        index = (row * context + position) * shape[2] + feature
        block = np.array([[index // 4, site, step % 2**32, step >> 32]], dtype=np.uint32)
        word = int(philox4x32(block, key)[0, index % 4])
        assert mask[row, position, feature] == (word >= math.floor(p * 2**32))


def test_dropout_keeps_the_share_it_should():
    """Hoeffding: a share of n = 160,000 independent entries is off by more than 0.009 with probability 1e-11."""
    n = 5 * 32 * 1000
    share = dropout.kept((5, 32, 1000), 0.1, seed=0, step=0, site=0, context=32).mean()
    assert abs(share - 0.9) < math.sqrt(math.log(2.0 / 1e-11) / (2 * n))


def test_epoch_order_is_its_law_index_by_index():
    n, seed, epoch = 23, 5, 2**32 + 1
    key = stream_key(seed, "data")

    def sort_key(i):
        x = philox4x32(np.array([[i, 0, 1, 1]], dtype=np.uint32), key)[0]
        return int(x[0]) | int(x[1]) << 32

    assert data.epoch_order(n, seed, epoch).tolist() == sorted(range(n), key=sort_key)
    assert data.epoch_order(1, seed, epoch).tolist() == [0]
