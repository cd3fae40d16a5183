"""The checkpoint of the loop: a run that is saved and resumed gives the bytes of the run that never stopped."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from fixtures.loop_strategies import DROPOUT, NO_DROPOUT, loop_cases, parameters
from fixtures.strategies import generators
from fixtures.temporary_folder import temporary_folder
from properties.assertions import holds
from properties.checks import checks
from properties.dtypes import either, to
from properties.loop_helpers import FIELDS, arrays, legal, same_arrays

runs = loop_cases(passes=(2, 3), longest=3, dropout=NO_DROPOUT | DROPOUT)


def other(case, dtype):
    """Initial parameters that loading a checkpoint must replace."""
    return {name: (x + 1.0).astype(dtype) for name, x in case.params.items()}


def trained(trainer, epoch, case):
    """Train one epoch: its records, and what `observed` returns after it."""
    records = trainer.train(epoch, case.accumulate)
    table = np.array([[float(record[name]) for name in FIELDS] for record in records])
    return {"records": table, **observed(trainer, case)}


def observed(trainer, case):
    """Everything that a trainer shows without training: its parameters and the loss of an evaluation."""
    return {"evaluation": np.float64(trainer.evaluate(case.epochs[0])), **arrays(trainer)}


@checks("STATE-01", case=runs)
def test_a_run_goes_on_from_every_cut(subject, case):
    """Saved before the first epoch and after each; loaded into a trainer of the same settings and other parameters."""
    dtype = either(subject, case.settings["seed"])
    settings, passes = legal(subject, case), len(case.epochs)
    original = subject.trainer(to(dtype, case.params), settings)
    with temporary_folder() as folder:
        wanted = [observed(original, case)]
        original.save(str(Path(folder) / "0"))
        for cut, epoch in enumerate(case.epochs, start=1):
            wanted.append(trained(original, epoch, case))
            original.save(str(Path(folder) / str(cut)))
        for cut in range(passes + 1):
            copy = subject.trainer(other(case, dtype), settings)
            copy.load(str(Path(folder) / str(cut)))
            saved = {name: x for name, x in wanted[cut].items() if name != "records"}
            same_arrays("STATE-01", observed(copy, case), saved, f"loaded after {cut} of {passes} epochs")
            for number in range(cut, passes):
                what = f"saved after {cut} of {passes} epochs, epoch {number}"
                same_arrays("STATE-01", trained(copy, case.epochs[number], case), wanted[number + 1], what)


@checks("STATE-02", case=runs, twice=st.booleans())
def test_saving_disturbs_nothing(subject, case, twice):
    dtype = either(subject, case.settings["seed"])
    settings = legal(subject, case)
    quiet, saver = (subject.trainer(to(dtype, case.params), settings) for _ in range(2))
    with temporary_folder() as folder:
        for number, epoch in enumerate(case.epochs):
            for again in range(1 + twice):
                saver.save(str(Path(folder) / f"{number}-{again}"))
            wanted = trained(quiet, epoch, case)
            what = f"epoch {number} of a run that saves, and of one that does not"
            same_arrays("STATE-02", trained(saver, epoch, case), wanted, what)


@checks("STATE-03", case=runs, rng=generators, evaluates=st.booleans())
def test_loading_replaces_everything(subject, case, rng, evaluates):
    """Loaded into the trainer that saved it and trained on, and into another that was trained on other epochs."""
    dtype = either(subject, case.settings["seed"])
    settings = legal(subject, case)
    original = subject.trainer(to(dtype, case.params), settings)
    with temporary_folder() as folder:
        path = str(Path(folder) / "checkpoint")
        first, *rest = case.epochs
        original.train(first, case.accumulate)
        original.save(path)
        wanted = [trained(original, epoch, case) for epoch in rest]
        vocab, width = case.params["E"].shape
        stranger = subject.trainer(to(dtype, parameters(rng, vocab, width)), settings)
        for epoch in case.epochs[::-1]:
            stranger.train(epoch, case.accumulate)
        if evaluates:
            stranger.evaluate(case.epochs[0])
        names = "the trainer that saved it and trained on", "another trainer that had trained"
        for trainer, name in zip((original, stranger), names, strict=True):
            trainer.load(path)
            for number, epoch in enumerate(rest):
                what = f"loaded into {name}, epoch {number + 1}"
                same_arrays("STATE-03", trained(trainer, epoch, case), wanted[number], what)


@checks("STATE-04", case=runs)
def test_a_checkpoint_can_be_saved_and_loaded_again_and_again(subject, case):
    """Each epoch is trained by a new trainer, from the checkpoint of the one before.

    That checkpoint is loaded and saved once by a trainer in between, and then loaded twice.
    """
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
            got, wanted = trained(current, epoch, case), trained(original, epoch, case)
            holds(
                "STATE-04",
                got["records"].shape == wanted["records"].shape,
                f"epoch {number} has another number of records",
            )
            same_arrays("STATE-04", got, wanted, f"stopped and resumed before each epoch, epoch {number}")
