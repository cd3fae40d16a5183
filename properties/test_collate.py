"""Examples of a prompt and its completion, as a batch."""

import numpy as np
from hypothesis import strategies as st

from fixtures.parts_strategies import examples, ids, large_ids, many_examples
from properties.assertions import holds
from properties.checks import checks
from reference.collate import collate

NAMES = {
    "mask": ("input", "target", "loss_mask", "key_mask"),
    "-100": ("input", "target", "key_mask"),
    "-100 unshifted": ("tokens", "labels", "key_mask"),
}


def compared(rule, subject, batch, pad_id):
    """Everything that the law says of a batch: what is not predicted may have any target, if a mask tells."""
    labels = subject.conventions.labels
    got, wanted = subject.collate(batch, pad_id), collate(batch, pad_id, labels)
    names = NAMES[labels]
    holds(rule, len(got) == len(names), f"{len(got)} arrays, expected {', '.join(names)}")
    looked_at = [np.ones(x.shape, dtype=bool) for x in wanted]
    if labels == "mask":
        looked_at[1] = wanted[2]
    elif labels == "-100 unshifted":
        looked_at[1][:, :1] = False
    for name, a, b, seen in zip(names, got, wanted, looked_at, strict=True):
        a = np.asarray(a)
        holds(rule, a.shape == b.shape, f"{name} is of shape {a.shape}, expected {b.shape}")
        kind = "integers" if b.dtype.kind == "i" else "bool"
        holds(rule, a.dtype.kind in "iu" or b.dtype.kind == "b", f"{name} is {a.dtype}, expected {kind}")
        wrong = np.argwhere(seen & (a.astype(np.int64) != b))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            holds(rule, False, f"{name}{list(at)} is {a[at]}, expected {b[at]}; {len(wrong)} entries differ")
    holds(rule, True, "")


@checks("COLL-01", batch=examples())
def test_completions_are_predicted_and_prompts_are_not(subject, batch):
    """The padding has an id that is in no example."""
    compared("COLL-01", subject, batch, 10)


@checks("COLL-02", batch=examples(), pad_id=ids)
def test_padding_is_told_by_place(subject, batch, pad_id):
    """The padding has an id of the text, also the last of every completion: the end of a text."""
    compared("COLL-02", subject, [(p, [*c, pad_id]) for p, c in batch], pad_id)


@checks("COLL-03", batch=st.one_of(examples(large_ids), many_examples()))
def test_every_id_and_every_position_is_kept(subject, batch):
    compared("COLL-03", subject, batch, 10)
