"""The checkpoint that a run goes on from, in a folder with others that are not whole.

What is whole is what the subject's own `save_checkpoint` leaves; damage is done to that.
"""

import os
import re
import shutil
from pathlib import Path

from hypothesis import strategies as st

from fixtures.parts_strategies import steps
from fixtures.strategies import generators
from fixtures.temporary_folder import temporary_folder
from properties.assertions import holds
from properties.checks import checks

some = steps.filter(lambda found: len(found) >= 2)


def latest(subject, folder):
    """The answer as a resolved path, or None."""
    found = subject.latest_checkpoint(str(folder))
    return None if found is None else Path(found).resolve()


def saved(subject, folder, numbers):
    """Number -> path of the checkpoints, saved in ascending order."""
    folder.mkdir(exist_ok=True)
    return {n: Path(subject.save_checkpoint(str(folder), n)).resolve() for n in sorted(numbers)}


def is_latest(rule, subject, folder, wanted, what):
    """The answer is this checkpoint; `wanted` None: there is none."""
    got = latest(subject, folder)
    said = getattr(got, "name", None), getattr(wanted, "name", None)
    holds(rule, got == wanted, f"{what}: the latest is {said[0]}, expected {said[1]}")


def files_of(path):
    """The files of a checkpoint that hold something."""
    whole = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [p for p in whole if p.stat().st_size > 1]


@checks("LAST-01", numbers=some, rng=generators)
def test_the_largest_number_is_the_latest(subject, numbers, rng):
    """Numbers of unequal length; the times of the files are in another order."""
    with temporary_folder() as root:
        folder = Path(root) / "checkpoints"
        paths = saved(subject, folder, numbers)
        for path, time in zip(paths.values(), rng.permutation(len(paths)), strict=True):
            for file in [path, *path.rglob("*")]:
                os.utime(file, (10**9 + int(time), 10**9 + int(time)))
        is_latest("LAST-01", subject, folder, paths[max(numbers)], f"checkpoints {sorted(numbers)}")


def damaged(rng, path, kind):
    """Do it to one of the checkpoint's files; what was done, in words."""
    files = files_of(path)
    holds("LAST-02", files, f"{path.name}: save_checkpoint leaves no file that holds anything")
    file = files[int(rng.integers(len(files)))]
    data = file.read_bytes()
    if kind == "missing":
        file.unlink()
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif kind == "zeros":
        start = len(data) // 2
        if not any(data[start:]):
            start = 0
        file.write_bytes(data[:start] + bytes(len(data) - start))
    else:
        at = int(rng.integers(len(data)))
        file.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
    return f"with {file.name} of the newest {kind}"


@checks("LAST-02", numbers=some, rng=generators, kind=st.sampled_from(["missing", "empty", "cut"]))
def test_an_incomplete_checkpoint_is_never_the_latest(subject, numbers, rng, kind):
    damage("LAST-02", subject, numbers, rng, kind)


@checks(
    "LAST-03", "LAST-02", numbers=some, rng=generators, kind=st.sampled_from(["zeros", "changed by a bit"])
)
def test_an_altered_checkpoint_is_never_the_latest(subject, numbers, rng, kind):
    """The second half of a file is zeros, or one bit is another."""
    damage("LAST-03", subject, numbers, rng, kind)


def damage(rule, subject, numbers, rng, kind):
    """From the newest to the oldest: each time the next older is the latest, in the end none."""
    with temporary_folder() as root:
        folder = Path(root) / "checkpoints"
        paths = saved(subject, folder, numbers)
        for place, number in enumerate(sorted(numbers, reverse=True)[:3]):
            what = damaged(rng, paths[number], kind)
            older = sorted(numbers, reverse=True)[place + 1 : place + 2]
            is_latest(rule, subject, folder, paths[older[0]] if older else None, what)


def odd_names(name):
    """Names like that of a checkpoint, which a loop or a person may leave behind."""
    endings = [f"{name}{end}" for end in (".tmp", "~", ".old", ".partial")]
    return [
        *endings,
        f".{name}",
        f".{name}.tmp",
        f"tmp-{name}",
        f"old {name}",
        re.sub("[0-9]+", "abcdefgh", name),
    ]


STRAYS = "README.md", "latest.txt.bak", "step", "step-", "checkpoint-", "epoch=", "12", ".DS_Store", "é"


@checks("LAST-04", numbers=some, rng=generators, newest=st.sampled_from([12, 12345678, 123456789]))
def test_what_is_no_checkpoint_does_not_disturb(subject, numbers, rng, newest):
    """Under names of a later checkpoint, or under none."""
    with temporary_folder() as root:
        folder, elsewhere = Path(root) / "checkpoints", Path(root) / "elsewhere"
        paths = saved(subject, folder, [n for n in numbers if n < 12] or [3])
        wanted = paths[max(paths)]
        (later,) = saved(subject, elsewhere, [newest]).values()
        for name in STRAYS:
            if rng.random() < 0.5:
                (folder / name).mkdir()
            else:
                (folder / name).write_bytes(b"1")
        is_latest("LAST-04", subject, folder, wanted, f"beside {', '.join(STRAYS)}")
        for name in odd_names(later.name):
            copied(later, folder / name)
            is_latest("LAST-04", subject, folder, wanted, f"beside {name}")
        stranger = folder / later.name
        stranger.write_bytes(b"") if later.is_dir() else stranger.mkdir()
        is_latest(
            "LAST-04", subject, folder, wanted, f"beside {later.name}, a file for a folder or the reverse"
        )
        stranger.unlink() if later.is_dir() else stranger.rmdir()
        stranger.symlink_to(Path(root) / "gone")
        is_latest("LAST-04", subject, folder, wanted, f"beside {later.name}, a link to nothing")


def copied(source, target):
    """A copy of a file or a folder."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


@checks("LAST-05", numbers=some)
def test_none_is_an_answer_and_asking_changes_nothing(subject, numbers):
    """A folder that is not there, an empty one, one of strays alone; twice in a folder of checkpoints."""
    with temporary_folder() as root:
        folder = Path(root) / "checkpoints"
        is_latest("LAST-05", subject, folder, None, "a folder that is not there")
        folder.mkdir()
        is_latest("LAST-05", subject, folder, None, "an empty folder")
        (folder / "notes.txt").write_text("1")
        is_latest("LAST-05", subject, folder, None, "a folder of notes")
        paths = saved(subject, folder, numbers)
        (folder / ".left.tmp").mkdir()
        before = contents(folder)
        for _ in range(2):
            is_latest("LAST-05", subject, folder, paths[max(numbers)], "asked twice")
        holds("LAST-05", contents(folder) == before, "asking has changed the folder")


def contents(folder):
    """Everything in a folder: path -> bytes, None for a folder."""
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
