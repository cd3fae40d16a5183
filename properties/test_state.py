"""The checkpoint of the loop: a run that is saved and resumed gives the bytes of the run that never stopped."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fixtures.loop_strategies import DROPOUT, NO_DROPOUT, LoopCase, long_case, loop_cases, parameters
from fixtures.strategies import generators
from fixtures.temporary_folder import temporary_folder
from honestloop.guard import Misbehaviour
from properties.assertions import holds, not_offered
from properties.checks import checks
from properties.dtypes import either, to
from properties.loop_helpers import Kept, Loop, in_domain, same_arrays, same_run

runs = loop_cases(passes=(2, 3), longest=3, dropout=NO_DROPOUT | DROPOUT)


def new_loop(subject, case, dtype):
    """The subject's loop for a case; its checkpoints are judged."""
    loop = Loop(subject, subject.trainer, to(dtype, case.params), case.settings, case.accumulate)
    loop.needs("save", "load")
    return loop


def other(case):
    """The case with other initial parameters, which loading a checkpoint must replace."""
    moved = {name: x + 1.0 for name, x in case.params.items()}
    return LoopCase(moved, case.settings, case.epochs, case.accumulate)


def trained(loop, epoch, case):
    """Train one epoch: its records, and what `shown` returns after it."""
    records = loop.train(epoch)
    table = np.array([[float(record[name]) for name in loop.fields] for record in records])
    return {"records": table, **shown(loop, case)}


def shown(loop, case):
    """Everything that a trainer shows without training: its parameters, and the loss of an evaluation."""
    found = loop.arrays()
    if "evaluate" in loop.parts and any(mask.any() for _, _, mask in case.epochs[0]):
        found["evaluation"] = np.float64(loop.evaluate(case.epochs[0]))
    return found


@checks("STATE-01", case=runs)
def test_a_run_goes_on_from_every_cut(subject, case):
    """Saved before the first epoch and after each; loaded into a trainer of the same settings and other parameters."""
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    passes, original = len(case.epochs), new_loop(subject, case, dtype)
    with temporary_folder() as folder:
        wanted = [shown(original, case)]
        original.save(Path(folder) / "0")
        for cut, epoch in enumerate(case.epochs, start=1):
            wanted.append(trained(original, epoch, case))
            original.save(Path(folder) / str(cut))
        for cut in range(passes + 1):
            copy = new_loop(subject, other(case), dtype)
            copy.load(Path(folder) / str(cut))
            saved = {name: x for name, x in wanted[cut].items() if name != "records"}
            same_arrays("STATE-01", shown(copy, case), saved, f"loaded after {cut} of {passes} epochs")
            for number in range(cut, passes):
                what = f"saved after {cut} of {passes} epochs, epoch {number}"
                same_arrays("STATE-01", trained(copy, case.epochs[number], case), wanted[number + 1], what)


@checks("STATE-02", case=runs, twice=st.booleans())
def test_saving_disturbs_nothing(subject, case, twice):
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    quiet = new_loop(subject, case, dtype)
    undisturbed = [trained(quiet, epoch, case) for epoch in case.epochs]
    saver = new_loop(subject, case, dtype)
    with temporary_folder() as folder:
        for number, (epoch, wanted) in enumerate(zip(case.epochs, undisturbed, strict=True)):
            for again in range(1 + twice):
                saver.save(Path(folder) / f"{number}-{again}")
            what = f"epoch {number} of a run that saves, and of one that does not"
            same_arrays("STATE-02", trained(saver, epoch, case), wanted, what)


@checks("STATE-03", case=runs, rng=generators, evaluates=st.booleans())
def test_loading_replaces_everything(subject, case, rng, evaluates):
    """Loaded into the trainer that saved it and trained on, and into another that was trained on other epochs."""
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    original = new_loop(subject, case, dtype)
    with temporary_folder() as folder:
        path = Path(folder) / "checkpoint"
        first, *rest = case.epochs
        original.train(first)
        original.save(path)
        wanted = [trained(original, epoch, case) for epoch in rest]
        vocab, width = case.params["E"].shape
        strange = LoopCase(parameters(rng, vocab, width), case.settings, case.epochs, case.accumulate)
        stranger = new_loop(subject, strange, dtype)
        for epoch in case.epochs[::-1]:
            stranger.train(epoch)
        if evaluates:
            shown(stranger, case)
        names = "the trainer that saved it and trained on", "another trainer that had trained"
        for loop, name in zip((original, stranger), names, strict=True):
            loop.load(path)
            for number, epoch in enumerate(rest):
                what = f"loaded into {name}, epoch {number + 1}"
                same_arrays("STATE-03", trained(loop, epoch, case), wanted[number], what)


@checks("STATE-04", case=runs)
def test_a_checkpoint_can_be_saved_and_loaded_again_and_again(subject, case):
    """Each epoch is trained by a new trainer, from the checkpoint of the one before.

    That checkpoint is loaded and saved once by a trainer in between, and then loaded twice.
    """
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    original = new_loop(subject, case, dtype)
    uninterrupted = [trained(original, epoch, case) for epoch in case.epochs]
    current = new_loop(subject, case, dtype)
    with temporary_folder() as folder:
        for number, (epoch, wanted) in enumerate(zip(case.epochs, uninterrupted, strict=True)):
            paths = [Path(folder) / f"{number}-{generation}" for generation in range(2)]
            current.save(paths[0])
            middle, current = (new_loop(subject, other(case), dtype) for _ in range(2))
            middle.load(paths[0])
            middle.save(paths[1])
            for _ in range(2):
                current.load(paths[1])
            got = trained(current, epoch, case)
            holds(
                "STATE-04",
                got["records"].shape == wanted["records"].shape,
                f"epoch {number} has another number of records",
            )
            same_arrays("STATE-04", got, wanted, f"stopped and resumed before each epoch, epoch {number}")


@checks("STATE-05", case=runs)
def test_a_save_replaces_what_is_there(subject, case):
    """Every epoch is saved to one path; what is loaded is the last save that did not raise FileExistsError."""
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    original, saved = new_loop(subject, case, dtype), {}
    with temporary_folder() as folder:
        path = Path(folder) / "latest"
        for number, epoch in enumerate(case.epochs):
            original.train(epoch)
            try:
                original.save(path)
                saved = original.arrays()
            except Misbehaviour as error:
                if number == 0 or not isinstance(error.__cause__, FileExistsError):
                    raise
            copy = new_loop(subject, other(case), dtype)
            copy.load(path)
            what = f"loaded from the path that was saved to {number + 1} times"
            same_arrays("STATE-05", copy.arrays(), saved, what)
        goes_on_alike(original, copy, case)


def goes_on_alike(original, copy, case):
    """A trainer and one that has loaded its last save train one more epoch alike."""
    got, wanted = (trained(loop, case.epochs[0], case) for loop in (copy, original))
    same_arrays("STATE-05", got, wanted, "going on from a path that was saved to before")


@checks("STATE-06", case=runs)
def test_what_is_observed_is_saved_and_goes_on(subject, case):
    """Counters, generators, best values: after a load they are what they were, also in a trainer that had trained."""
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    original = new_loop(subject, case, dtype)
    original.needs("observed")
    first, *rest = case.epochs
    with temporary_folder() as folder:
        path = Path(folder) / "checkpoint"
        original.train(first)
        original.save(path)
        seen = [Kept(original.observed())]
        for epoch in rest:
            original.train(epoch)
            seen.append(Kept(original.observed()))
        none: list[Any] = []
        for trained_before in (none, rest):
            copy = new_loop(subject, other(case), dtype)
            copy.run(trained_before)
            copy.load(path)
            seen[0].equal("STATE-06", copy.observed(), "observed when it was saved, and after it was loaded")
            for epoch, wanted in zip(rest, seen[1:], strict=True):
                copy.train(epoch)
                wanted.equal("STATE-06", copy.observed(), "observed in a run that goes on from a checkpoint")


# ---- loops that own their epochs


def fitted(subject, case, dtype, folder, **more):
    """A trainer that keeps its checkpoints in a folder, which is made."""
    Path(folder).mkdir(exist_ok=True)
    settings = case.settings | {"folder": str(folder)} | more
    return Loop(subject, subject.trainer, to(dtype, case.params), settings, case.accumulate)


@checks("STATE-07", case=runs, cut=st.integers(0, 8))
def test_fit_goes_on_where_it_stopped(subject, case, cut):
    dtype = either(subject, case.settings["seed"])
    goes_on_from_its_folder(subject, in_domain(subject, case), dtype, cut)


@checks("STATE-07")
def test_fit_finds_the_newest_of_many_checkpoints(subject, dtype):
    """More than ten updates: as text, 9 comes after 10."""
    case = in_domain(subject, long_case(passes=2))
    for cut in (9, 10, 14):
        goes_on_from_its_folder(subject, case, dtype, cut)


def goes_on_from_its_folder(subject, case, dtype, cut):
    """Stopped after some update, anywhere in an epoch; resumed in its folder, and from a copy of it in another."""
    if subject.conventions.epochs != "fit":
        not_offered("epochs = train")
    batches, passes = case.epochs[0], len(case.epochs)
    with temporary_folder() as folder:
        names = [Path(folder) / name for name in ("whole", "stopped", "copy", "elsewhere")]
        whole = fitted(subject, case, dtype, names[0])
        whole.needs_resume()
        wanted = whole.fit(batches, passes)
        stop = 1 + cut % max(len(wanted), 1)
        head = fitted(subject, case, dtype, names[1], stop_after=stop).fit(batches, passes)
        same_run("STATE-07", head, wanted[:stop], f"stopped after update {stop}", whole.fields)
        if not wanted:
            return
        shutil.copytree(names[1], names[2])
        for where, resume in ((names[1], True), (names[3], str(names[2]))):
            second = fitted(subject, case, dtype, where)
            tail = second.fit(batches, passes, resume=resume)
            what = f"stopped after update {stop} of {len(wanted)}, and resumed"
            same_run("STATE-07", tail, wanted[stop:], what, whole.fields)
            same_arrays("STATE-07", second.arrays(), whole.arrays(), what)
