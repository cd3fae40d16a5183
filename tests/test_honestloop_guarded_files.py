"""What somebody else left is read without waiting or following links, within limits, or refused in one line."""

import hashlib
import json
import os
import socket
import time
from pathlib import Path

import pytest

from honestloop.guarded_files import (
    UnreadableError,
    is_deeper,
    names_in,
    printable,
    read_json,
    read_regular,
    read_toml,
    sha256_regular,
)

SOON = 5.0
"""Seconds; each refusal takes milliseconds, and a reader that waits never ends."""


def refusal(read, *arguments, **keywords):
    """The message of a refusal, on one line and soon."""
    began = time.process_time()
    with pytest.raises(UnreadableError) as refused:
        read(*arguments, **keywords)
    assert time.process_time() - began < SOON
    text = str(refused.value)
    assert text.isprintable(), text
    assert "Traceback" not in text
    return text


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, "é"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, "é"]}
    assert read_regular(tmp_path / "a.json", within=tmp_path).startswith(b'{"a"')
    digest = hashlib.sha256((tmp_path / "a.json").read_bytes()).hexdigest()
    assert sha256_regular(tmp_path / "a.json") == digest
    (tmp_path / "a.toml").write_text("[a]\nb = 1\n")
    assert read_toml(tmp_path / "a.toml") == {"a": {"b": 1}}


def make_fifo(path):
    os.mkfifo(path)


def make_link(path):
    (path.parent / "target").write_text("{}")
    path.symlink_to("target")


def make_loop(path):
    path.symlink_to(path.name)


def make_folder(path):
    path.mkdir()


def make_socket(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


def make_link_to_device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (make_fifo, "a FIFO"),
        (make_link, "a symbolic link"),
        (make_loop, "a symbolic link"),
        (make_folder, "a folder"),
        (make_socket, "a socket"),
        (make_link_to_device, "a symbolic link"),
        (lambda path: None, "no such file"),
    ],
)
@pytest.mark.parametrize("read", [read_regular, read_json, read_toml, sha256_regular])
def test_what_is_no_regular_file_is_refused(tmp_path, monkeypatch, make, found, read):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    make(Path("x"))
    assert refusal(read, Path("x")) == f"x: found {found}, expected a regular file"
    assert refusal(read, Path("x"), within=Path(".")) == f"x: found {found}, expected a regular file"


def test_a_device_is_refused():
    assert refusal(read_regular, Path("/dev/zero")) == "/dev/zero: found a device, expected a regular file"


def test_a_folder_on_the_way_that_is_a_link_is_refused(tmp_path):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    run.mkdir()
    (outside / "state.json").write_text("{}")
    (run / "checkpoints").symlink_to(outside)
    assert read_json(run / "checkpoints" / "state.json") == {}
    assert "expected a regular file" in refusal(read_json, run / "checkpoints" / "state.json", within=run)
    assert "leads out" in refusal(read_json, run / ".." / "outside" / "state.json", within=run)
    assert refusal(names_in, run / "checkpoints").endswith("found a symbolic link, expected a folder")
    linked = tmp_path / "linked"
    linked.symlink_to(run)  # the name that the caller gave may be a link
    (run / "a.json").write_text("[]")
    assert read_json(linked / "a.json", within=linked) == []


def test_a_sparse_terabyte_is_refused_by_its_size(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    for read in (read_regular, read_json, sha256_regular):
        assert "found 1,099,511,627,776 bytes" in refusal(read, tmp_path / "x")


def test_the_limit_is_the_largest_size_that_is_read(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_regular(tmp_path / "x", 5) == b"12345"
    assert (
        refusal(read_regular, tmp_path / "x", 4)
        == f"{tmp_path / 'x'}: found 5 bytes, expected at most 4 bytes"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"[" * 1_000_000 + b"]" * 1_000_000, "nested more than 64 levels"),
        (b'{"a":' * 1_000_000, "nested more than 64 levels"),
        (b"", "expecting value at line 1 column 1"),
        (b"\x80\x04\x95", "a byte that is not UTF-8 at 0"),
        (b"\xff\xfe[\x00]\x00", "a byte that is not UTF-8"),
        (b'"' + b'\\"' * 4_000_000, "unterminated string"),
        (b"{" + b'"a"' * 2_000_000, "at line 1"),
        (b'{"a": 1, "a": 2}', "the key 'a' twice"),
        (b"1" * 10_000, "integer"),
        (b'{"a": 1}\n{"a": 2}', "extra data at line 2"),
        (b"\xef\xbb\xbf{}", "BOM"),
    ],
)
def test_what_is_not_json_is_refused(tmp_path, text, found):
    (tmp_path / "x.json").write_bytes(text)
    assert found in refusal(read_json, tmp_path / "x.json")


def test_a_table_that_is_not_toml_is_refused(tmp_path):
    for text in (b"a = ", b"\xff", b"a = " + b"[" * 100_000, b"a = 1\na = 2"):
        (tmp_path / "x.toml").write_bytes(text)
        assert "expected" in refusal(read_toml, tmp_path / "x.toml")


def test_numbers_that_are_not_finite_are_left_to_whoever_knows_the_field(tmp_path):
    (tmp_path / "x.json").write_text("[NaN, Infinity, 1e999, 2]")
    assert json.dumps(read_json(tmp_path / "x.json")) == "[NaN, Infinity, Infinity, 2]"


def test_brackets_inside_strings_do_not_nest():
    assert not is_deeper(b'["' + b"[" * 100 + b'"]', 64)
    assert not is_deeper(b"[]" * 100, 1)
    assert is_deeper(b"[[]]" * 100, 1)
    assert not is_deeper(b'["\\"[[[[", []]' * 10, 2)


def test_a_folder_of_too_many_names_is_refused(tmp_path):
    for name in "abc":
        (tmp_path / name).touch()
    assert names_in(tmp_path) == ["a", "b", "c"]
    assert names_in(tmp_path, 3) == ["a", "b", "c"]
    assert "found more than 2 names" in refusal(names_in, tmp_path, 2)
    assert names_in(tmp_path / "none") == []
    assert refusal(names_in, tmp_path / "a").endswith("expected a folder")


def test_names_are_printed_on_one_line(tmp_path):
    assert printable("a\nb\x1b[31m\udcff") == "a\\nb\\x1b[31m\\udcff"
    (tmp_path / "a\nb").symlink_to("nowhere")
    assert "a\\nb: found a symbolic link" in refusal(read_regular, tmp_path / "a\nb")


def test_a_path_with_a_null_byte_is_refused():
    assert "null byte" in refusal(read_regular, Path("a\0b"))


def test_no_descriptor_is_left_open(tmp_path):
    """Thousands of refusals and readings use up none."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("{}")
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        read_json(tmp_path / "folder" / "x", within=tmp_path)
        refusal(read_json, tmp_path / "fifo", within=tmp_path)
        refusal(read_json, tmp_path / "folder" / "y", within=tmp_path)
        refusal(read_json, tmp_path / "folder", within=tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
