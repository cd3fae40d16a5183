"""Which split an example belongs to."""

import json
import os
import subprocess
import sys

from hypothesis import strategies as st

from fixtures.parts_strategies import texts
from honestloop import protocol
from properties.assertions import holds
from properties.checks import checks
from reference.split import SPLITS

MANY = [f"example {number}" for number in range(2000)]
"""Of a share of 1 % held out, none among them has a probability below 2e-9."""
ASK = (
    "import json, sys; from {protocol} import Subject; split_of = Subject({name!r}).raw('split_of'); "
    "json.dump([split_of(t) for t in json.load(sys.stdin)], sys.stdout)"
)


class Rehashed(str):
    """The same text with another hash, as in another process."""

    __slots__ = ()

    def __hash__(self):
        return str.__hash__(self) ^ 0x5DEECE66D

    def __eq__(self, other):
        return str.__eq__(self, other)


@checks("SPLIT-01", corpus=st.lists(texts, min_size=2, max_size=12), data=st.data())
def test_a_split_is_the_example_s_own(subject, corpus, data):
    """Alone, in another order, between others, twice, and as another object with the same characters."""
    first = {text: subject.split_of(text) for text in corpus}
    for text in [*data.draw(st.permutations(corpus)), *corpus[::-1]]:
        got = subject.split_of("".join(list(text)))
        holds("SPLIT-01", got == first[text], f"{text!r} is in {first[text]}, and asked again in {got}")


@checks("SPLIT-02")
def test_a_split_is_the_same_in_every_process(subject):
    """A module is asked in two processes with other hash seeds, anything else about texts with another hash."""
    here = [subject.split_of(text) for text in MANY[:200]]
    if subject.module is None:
        others = [[subject.split_of(Rehashed(text)) for text in MANY[:200]]]
    else:
        others = [asked(subject.module, seed) for seed in ("1", "2")]
    for there in others:
        moved = [text for text, a, b in zip(MANY, here, there, strict=False) if a != b]
        holds("SPLIT-02", not moved, f"{len(moved)} of 200 examples are in another split elsewhere")


def asked(module, hash_seed):
    """The splits of the first examples in another process."""
    code = ASK.format(protocol=protocol.__name__, name=module)
    path = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, input=json.dumps(MANY[:200]), env=environment, capture_output=True, text=True, check=False
    )
    last = (done.stderr.strip().splitlines() or [""])[-1]
    holds("SPLIT-02", done.returncode == 0, f"split_of cannot be asked in another process: {last}")
    return json.loads(done.stdout)


@checks("SPLIT-03")
def test_both_splits_get_examples(subject):
    found = [subject.split_of(text) for text in ["", *MANY]]
    other = [x for x in found if not (isinstance(x, str) and x in SPLITS)]
    holds("SPLIT-03", not other, f"split_of gives {other[:1]}, none of {SPLITS}")
    empty = {"train", "val"} - set(found)
    holds("SPLIT-03", not empty, f"of {len(MANY)} examples none is in {', '.join(sorted(empty))}")
