"""fixtures/temporary_folder.py: folders in memory only where there is room and the user has named no other place."""

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures import temporary_folder


@pytest.fixture
def places(monkeypatch, tmp_path):
    """A folder that stands for /dev/shm, with enough free space, and one for the system's temporary files."""
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr(temporary_folder, "_IN_MEMORY", str(memory))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    return memory, disk


def made_in():
    with temporary_folder.temporary_folder() as made:
        return Path(made).parent


def test_in_memory_where_there_is_room(places):
    memory, _ = places
    assert made_in() == memory
    assert not list(memory.iterdir())


def test_where_the_user_says(places, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(places[1]))
    assert made_in() == places[1]


def test_on_the_disk_where_memory_is_scarce(places, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30 - 1))
    assert made_in() == places[1]


def test_on_the_disk_where_there_is_no_place_in_memory(places):
    places[0].rmdir()
    assert made_in() == places[1]
