"""Every file of a run directory is a regular file of a format that runs nothing when it is read."""

import os
from collections.abc import Iterator
from pathlib import Path

from gates.judge import artefacts
from honestloop.guarded_files import UnreadableError, open_regular, read_regular
from honestloop.run_check.complaint import FORMAT, Complaint, unreadable

DEEPEST, MOST = 16, 100_000
"""Folders within one another, and files in all."""
TEXT_LIMIT, LIMIT = 64 << 20, 1 << 30


def check(run: Path, *, allowed_formats_only: bool) -> Iterator[Complaint]:
    """Complaints about the formats of all files; temporary names (.NAME.tmp) of an interrupted write do not count."""
    for count, name in enumerate(walk(run, ""), 1):
        if count > MOST:
            yield Complaint(".", "", f"more than {MOST:,} files", f"at most {MOST:,}", FORMAT)
            return
        if name.count("/") > DEEPEST:
            yield Complaint(
                name[:200], "", f"more than {DEEPEST} folders within one another", "fewer", FORMAT
            )
            return
        try:
            if wrong := _why_not(run, name, allowed_formats_only):
                yield Complaint(
                    name,
                    "",
                    f"a file that {wrong}",
                    "safetensors, JSON, TOML, PNG, Markdown, inert HTML",
                    FORMAT,
                )
        except UnreadableError as error:
            yield unreadable(name, error, FORMAT)


def walk(run: Path, folder: str) -> Iterator[str]:
    """Names, relative to the run directory, of everything in it that is no folder, or is one too deep to go into."""
    try:
        with os.scandir(run / folder) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError:
        yield folder
        return
    for name, is_folder in found:
        path = f"{folder}/{name}" if folder else name
        if name.startswith(".") and name.endswith(".tmp"):
            continue
        if is_folder and path.count("/") <= DEEPEST:
            yield from walk(run, path)
        else:
            yield path


def _why_not(run: Path, name: str, allowed_formats_only: bool) -> str | None:
    path = run / name
    if allowed_formats_only:
        return artefacts.why_not(path.name, read_regular(path, LIMIT, within=run))
    with open_regular(path, 1 << 62, within=run) as file:
        start = file.read(16)
    for known, what in artefacts.STARTS.items():
        if start.startswith(known):
            return f"starts like {what}"
    if path.suffix in artefacts.TEXT and artefacts.is_pickle(read_regular(path, TEXT_LIMIT * 4, within=run)):
        return "is text that an unpickler reads: a pickle"
    return None
