"""Where a tracked run is tracked: the default of a subject, or a store among the session's runs if that cannot be."""

import os
from collections.abc import Mapping
from pathlib import Path

from honestloop.suite_location import ROOT

DEFAULT_STORE = "sqlite:///runs/mlflow.db"
"""Relative to the folder in which a subject is started."""


def sqlite_uri(path: Path) -> str:
    """The address of a database file, as SQLAlchemy reads it: its versions differ in what `%` means."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def own_store(folder: Path) -> Mapping[str, str]:
    """Variables that have a subject tracked in a store of that folder, with the artefacts beside it."""
    return {
        "MLFLOW_TRACKING_URI": sqlite_uri(folder / "mlflow.db"),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": (folder / "mlartifacts").absolute().as_uri(),
    }


def store_of_session(runs: Path) -> Mapping[str, str]:
    """Variables for the runs of the subject: none where its default store can be written, else those of `runs`."""
    place = ROOT / "runs" if (ROOT / "runs").exists() else ROOT
    return {} if os.access(place, os.W_OK) else own_store(runs)
