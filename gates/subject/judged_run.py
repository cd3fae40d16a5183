"""Where the run lies that a verdict is about, for the page that shows it."""

from pathlib import Path

from gates.subject.session import Session

PLACES = ("committed/run", "record/run", "interruption/whole/run")
"""Of the run of phase 18, of the recorded one, of one that is known by its files alone."""


def judged_run(session: Session) -> Path | None:
    """The folder of that run, in the order of what it tells; None if none was made."""
    return next((path for name in PLACES if (path := session.home / name).is_dir()), None)
