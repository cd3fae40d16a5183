"""Every file of a run directory is, by its bytes, JSON, TOML, safetensors, PNG, Markdown or inert HTML, else refused.

A file is read as what its name says and must be that to the last byte; a name that says nothing is refused, and so are
the first bytes of a pickle, a zip, a NumPy file or a gzip stream under any name, and text that is a whole pickle.
"""

import json
import pickletools
import struct
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path

from gates.judge import inert_html
from gates.subject import tensors
from gates.subject.run_directory import RunDirectory
from gates.verdict.finding import Finding, Problem, no_problems
from honestloop.guarded_files import FILE_LIMIT, UnreadableError, printable, read_regular

STARTS = {
    **{bytes([0x80, protocol]): f"a pickle of protocol {protocol}" for protocol in range(2, 6)},
    b"PK\x03\x04": "a zip archive (torch.save writes one, with a pickle in it)",
    b"\x93NUMPY": "a NumPy file, which may hold pickled objects",
    b"\x1f\x8b": "a gzip stream",
    b"BZh": "a bzip2 stream",
    b"\xfd7zXZ": "an xz stream",
    b"(lp": "a pickle of protocol 0",
    b"(dp": "a pickle of protocol 0",
    b"}q\x00": "a pickle of protocol 1",
    b"]q\x00": "a pickle of protocol 1",
}
TEXT_LIMIT = 1 << 28  # bytes
MOST_INSTRUCTIONS = 100_000
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check(run: Path) -> Finding:
    """Every file of the run directory is of an allowed format."""
    files, size = sorted(RunDirectory(run).files()), 0
    problems = []
    for path in files:
        name = printable(path.relative_to(run))
        try:
            data = read_regular(path, TEXT_LIMIT if path.suffix in TEXT else FILE_LIMIT, within=run.parent)
        except UnreadableError as error:
            problems.append(Problem(f"{name}: {error.found}", error.found, error.expected))
            continue
        size += len(data)
        if wrong := why_not(path.name, data):
            problems.append(
                Problem(
                    f"{name}: {printable(wrong)}", "a file of another format", "one of " + ", ".join(READERS)
                )
            )
    if not files:
        problems.append(Problem("the run directory is empty", "no files", "files"))
    return no_problems(
        "no_pickle/artefacts", problems, of=f"{len(files)} files, {size:,} bytes", what="refused"
    )


def why_not(name: str, data: bytes) -> str | None:
    """Why a file may not be there, or None if it may."""
    for start, what in STARTS.items():
        if data.startswith(start):
            return f"starts like {what}"
    reader = READERS.get(Path(name).suffix)
    if reader is None:
        return "its name is of no allowed format"
    if Path(name).suffix in TEXT and is_pickle(data):
        return "is text that an unpickler reads: a pickle"
    try:
        reader(data)
    except (ValueError, RecursionError, struct.error, zlib.error) as error:
        return f"is not what its name says ({error})"
    return None


def is_pickle(data: bytes) -> bool:
    """Whether the bytes are instructions of an unpickler up to its STOP, or very many of them. Nothing is run."""
    try:
        instructions = enumerate(pickletools.genops(data))
        return any(op.name == "STOP" or number > MOST_INSTRUCTIONS for number, (op, _, _) in instructions)
    except (ValueError, LookupError, OverflowError, TypeError, struct.error):
        return False


def read_json(data: bytes) -> object:
    """Strict JSON: UTF-8, no NaN, no key twice."""
    return json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_repeats)


def read_json_lines(data: bytes) -> None:
    """One strict JSON object a line, the last line whole."""
    if data and not data.endswith(b"\n"):
        raise ValueError("the last line is torn")
    for line in data.splitlines():
        if not isinstance(read_json(line), dict):
            raise ValueError("a line that is no object")


def read_toml(data: bytes) -> None:
    tomllib.loads(data.decode("utf-8"))


def read_text(data: bytes) -> None:
    """UTF-8 text without control characters."""
    text = data.decode("utf-8")
    if any(ord(letter) < 32 and letter not in "\t\n\r" for letter in text):
        raise ValueError("control characters")


def read_png(data: bytes) -> None:
    """Signature, chunks with right checksums, IHDR first, IEND last, and nothing after it."""
    if not data.startswith(PNG_SIGNATURE):
        raise ValueError("no PNG signature")
    position = len(PNG_SIGNATURE)
    kinds: list[bytes] = []
    while position < len(data) and (not kinds or kinds[-1] != b"IEND"):
        (length,) = struct.unpack_from(">I", data, position)
        body = data[position + 4 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(body) != checksum:
            raise ValueError("a PNG chunk with a wrong checksum")
        kinds.append(body[:4])
        position += 12 + length
    if kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"] or position != len(data):
        raise ValueError("not one whole PNG image and nothing else")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def read_page(data: bytes) -> None:
    """Text that is a page which runs nothing."""
    read_text(data)
    inert_html.check(data)


TEXT = {".json", ".jsonl", ".toml", ".md", ".html"}
READERS: dict[str, Callable[[bytes], object]] = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".toml": read_toml,
    ".safetensors": tensors.read,
    ".png": read_png,
    ".md": read_text,
    ".html": read_page,
}
