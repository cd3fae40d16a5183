"""The checkpoint of the loop: a run that is saved anywhere and goes on elsewhere is the run that never stopped."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from fixtures.folder import temporary_folder
from fixtures.loop_strategies import DROPOUT, NO_DROPOUT, loop_cases, parameters, playable
from fixtures.strategies import generators
from properties.assertions import holds, same_bytes
from properties.checks import checks
from properties.dtypes import either, to

FIELDS = ("loss", "lr", "grad_norm", "tokens")
runs = loop_cases(passes=(2, 3), longest=3, dropout=NO_DROPOUT | DROPOUT)


def legal(subject, case):
    """The settings of a case, where the subject's schedule has a rate for every update."""
    return playable(case.settings, case.updates, subject.conventions.schedule)


def other(case, dtype):
    """First parameters that the checkpoint must replace."""
    return {name: (x + 1.0).astype(dtype) for name, x in case.params.items()}


def seen(trainer, epoch, case):
    """One epoch: everything that can be seen of it, as arrays."""
    records = trainer.train(epoch, case.accumulate)
    table = np.array([[float(record[name]) for name in FIELDS] for record in records])
    return {"records": table, **at_rest(trainer, case)}


def at_rest(trainer, case):
    """What can be seen of a trainer that stands still."""
    found = trainer.parameters()
    shown = {name: np.asarray(found[name]) for name in ("E", "W", "b")}
    return {"evaluation": np.float64(trainer.evaluate(case.epochs[0])), **shown}


def equal(rule, got, wanted, what):
    """The same bytes in everything that can be seen."""
    for name, x in wanted.items():
        same_bytes(rule, got[name], x, f"{what}: {name}")


@checks("STATE-01", case=runs)
def test_a_run_goes_on_from_every_cut(subject, case):
    """At 0, after every epoch and at the end; into a trainer of the same settings and other parameters."""
    dtype = either(subject, case.settings["seed"])
    settings, passes = legal(subject, case), len(case.epochs)
    original = subject.trainer(to(dtype, case.params), settings)
    with temporary_folder() as folder:
        wanted = [at_rest(original, case)]
        original.save(str(Path(folder) / "0"))
        for cut, epoch in enumerate(case.epochs, start=1):
            wanted.append(seen(original, epoch, case))
            original.save(str(Path(folder) / str(cut)))
        for cut in range(passes + 1):
            copy = subject.trainer(other(case, dtype), settings)
            copy.load(str(Path(folder) / str(cut)))
            stood = {name: x for name, x in wanted[cut].items() if name != "records"}
            equal("STATE-01", at_rest(copy, case), stood, f"loaded after {cut} of {passes} epochs")
            for number in range(cut, passes):
                what = f"saved after {cut} of {passes} epochs, epoch {number}"
                equal("STATE-01", seen(copy, case.epochs[number], case), wanted[number + 1], what)


@checks("STATE-02", case=runs, twice=st.booleans())
def test_saving_disturbs_nothing(subject, case, twice):
    dtype = either(subject, case.settings["seed"])
    settings = legal(subject, case)
    quiet, saver = (subject.trainer(to(dtype, case.params), settings) for _ in range(2))
    with temporary_folder() as folder:
        for number, epoch in enumerate(case.epochs):
            for again in range(1 + twice):
                saver.save(str(Path(folder) / f"{number}-{again}"))
            wanted = seen(quiet, epoch, case)
            equal(
                "STATE-02",
                seen(saver, epoch, case),
                wanted,
                f"epoch {number} of a run that saves, and of one that does not",
            )


@checks("STATE-03", case=runs, rng=generators, evaluates=st.booleans())
def test_loading_replaces_everything(subject, case, rng, evaluates):
    """Into a trainer that has trained on, or trained something else: nothing of that is left."""
    dtype = either(subject, case.settings["seed"])
    settings = legal(subject, case)
    original = subject.trainer(to(dtype, case.params), settings)
    with temporary_folder() as folder:
        path = str(Path(folder) / "checkpoint")
        first, *rest = case.epochs
        original.train(first, case.accumulate)
        original.save(path)
        wanted = [seen(original, epoch, case) for epoch in rest]
        vocab, width = case.params["E"].shape
        stranger = subject.trainer(to(dtype, parameters(rng, vocab, width)), settings)
        for epoch in case.epochs[::-1]:
            stranger.train(epoch, case.accumulate)
        if evaluates:
            stranger.evaluate(case.epochs[0])
        for trainer, who in (
            (original, "the trainer that saved it and went on"),
            (stranger, "another that had trained"),
        ):
            trainer.load(path)
            for number, epoch in enumerate(rest):
                equal(
                    "STATE-03",
                    seen(trainer, epoch, case),
                    wanted[number],
                    f"loaded into {who}, epoch {number + 1}",
                )


@checks("STATE-04", case=runs)
def test_a_checkpoint_can_be_saved_and_loaded_again_and_again(subject, case):
    """A fresh trainer for every epoch, each from the checkpoint of the one before; loaded twice, saved as loaded."""
    dtype = either(subject, case.settings["seed"])
    settings = legal(subject, case)
    original, current = (subject.trainer(to(dtype, case.params), settings) for _ in range(2))
    with temporary_folder() as folder:
        for number, epoch in enumerate(case.epochs):
            paths = [str(Path(folder) / f"{number}-{generation}") for generation in range(2)]
            current.save(paths[0])
            middle, current = (subject.trainer(other(case, dtype), settings) for _ in range(2))
            middle.load(paths[0])
            middle.save(paths[1])
            for _ in range(2):
                current.load(paths[1])
            got, wanted = seen(current, epoch, case), seen(original, epoch, case)
            holds(
                "STATE-04",
                got["records"].shape == wanted["records"].shape,
                f"epoch {number} has another number of records",
            )
            equal("STATE-04", got, wanted, f"stopped and resumed before each epoch, epoch {number}")
