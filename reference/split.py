"""Which split an example belongs to: a function of its text alone.

The first 64 bits of the text's SHA-256, as a fraction: the example is held out if they are below the share. The order
of a corpus, what else is in it, the process and its hash seed have no say, and an example that is there twice is both
times in one split. A corpus can grow without an example changing sides.

Source: the usual construction by a hash of the identifier (Géron, "Hands-on machine learning", chapter 2);
github.com/for-all-dev/git-history-evals/issues/120 (Python's own hash differs from process to process).
"""

import hashlib

SHARE = 0.1
"""Of the examples held out, on the average."""
SPLITS = "train", "val", "test"


def split_of(text: str, share: float = SHARE) -> str:
    """ "train" or "val"."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return "val" if number < share * 2.0**64 else "train"
