"""`honestloop check-run`: a right directory has no complaints; each thing that is wrong is one line that names it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from honestloop import schemas
from honestloop.recorder import Recorder
from honestloop.run_check import check_run
from honestloop.run_check.log import likeness
from honestloop.suite_location import ROOT
from tests.page_generator import generator

STEPS, EVERY = 6, 2
LAST = f"checkpoints/step-{STEPS:08d}"
SOON = 30.0
"""Seconds; a check takes less than one, and one that waits for a FIFO never ends."""
SETTINGS = {"peak_lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "clip_norm": None}


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """A run directory as the recorder writes it, with every field of a line."""
    out = tmp_path_factory.mktemp("right") / "run"
    settings = {**SETTINGS, "decayed": ["*.w"]}
    config = {"checkpoint_every": EVERY, "eval_every": 3}
    recorder = Recorder(out, config=config, seed=7, optimizer_settings=settings, rng="pcg64")
    parameters = {"a.w": np.ones((2, 3), np.float32), "a.b": np.zeros(3, np.float32)}
    moments = {kind: {name: x * 0 for name, x in parameters.items()} for kind in "mv"}
    recorder.resume(parameters, {**moments, "t": 0})
    for step in range(1, STEPS + 1):
        loss = 3.0 - step / 4
        line: dict[str, Any] = {
            "loss": loss,
            "lr": 0.1,
            "grad_norm": 1.0,
            "tokens": 5,
            "total_tokens": 5 * step,
        }
        line |= {
            "ppl": float(np.exp(np.float32(loss))),
            "seconds": step / 10,
            "rows": [step, 0],
            "epoch": 0.5,
        }
        if step % 3 == 0:
            line |= {
                "val_loss": loss,
                "val_ppl": float(np.exp(loss)),
                "best_val_loss": loss,
                "best_step": step,
            }
        recorder.log(step=step, **line)
        if step % EVERY == 0:
            recorder.save(step, parameters, {**moments, "t": step})
    recorder.finish(val_loss=1.5)
    return out


@pytest.fixture
def run(right, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(right, tmp_path / "run"))


def lines(run, level=None):
    """The complaints, each on one line, within seconds."""
    began = time.monotonic()
    found = [str(complaint) for complaint in check_run(run, level).complaints]
    assert time.monotonic() - began < SOON
    assert all(line.isprintable() and "expected" in line and "docs/rules/" in line for line in found)
    return found


def edit(run, name, change):
    """Change the JSON value of a file."""
    value = json.loads((run / name).read_bytes())
    (run / name).write_text(json.dumps(change(value) or value))


def edit_line(run, number, **fields):
    """Change fields of a line of the log; None takes one away. The digests in the checkpoints follow."""
    log = (run / "train_log.jsonl").read_text().splitlines()
    line = json.loads(log[number - 1]) | fields
    log[number - 1] = json.dumps({key: x for key, x in line.items() if x is not None})
    (run / "train_log.jsonl").write_text("".join(text + "\n" for text in log))


def test_a_right_directory_has_no_complaints(right):
    report = check_run(right)
    assert report.complaints == []
    assert str(report) == "run directory of level record: 6 updates, 3 checkpoints: 0 complaints"


@pytest.mark.parametrize(
    ("file", "path", "value", "expected"),
    [
        ("manifest.json", ("seed",), -1, "manifest.json: seed: found -1, expected at least 0"),
        (
            "manifest.json",
            ("seed",),
            None,
            "manifest.json: seed: found nothing, expected the seed of the run",
        ),
        (
            "manifest.json",
            ("rng", "algorithm"),
            None,
            "rng.algorithm: found nothing, expected which one is used",
        ),
        ("manifest.json", ("platform",), None, "platform: found nothing, expected one of platform, os"),
        ("manifest.json", ("packages",), {}, "packages: found {}, expected an object that is not empty"),
        ("manifest.json", ("packages", "numpy"), 2, "packages.numpy: found 2, expected text"),
        ("manifest.json", ("command_line",), [], "command_line: found [], expected at least 1 in the list"),
        (
            "manifest.json",
            ("started_at",),
            "yesterday",
            'started_at: found "yesterday", expected text that matches',
        ),
        ("manifest.json", ("git",), {"sha": "HEAD"}, 'git.sha: found "HEAD", expected text that matches'),
        (
            "manifest.json",
            ("config", "optimizer", "beta1"),
            1,
            "config.optimizer.beta1: found 1, expected less than 1",
        ),
        (
            "manifest.json",
            ("config", "optimizer", "clip_norm"),
            0,
            "clip_norm: found 0, expected more than 0",
        ),
        ("results.json", ("steps",), 1.5, "results.json: steps: found 1.5, expected a whole number"),
        ("results.json", ("val_loss",), float("nan"), "val_loss: found NaN, expected a finite number"),
        (f"{LAST}/manifest.json", ("files",), None, "files: found nothing, expected file name -> SHA-256"),
        (
            f"{LAST}/manifest.json",
            ("files", "state.json"),
            None,
            "files.state.json: found nothing, expected the SHA",
        ),
        (
            f"{LAST}/manifest.json",
            ("files", "../a"),
            "0" * 64,
            "files.../a: found a path, expected a name in the",
        ),
        (f"{LAST}/manifest.json", ("files", "gone"), "0" * 64, f"{LAST}/gone: found no such file"),
        (
            f"{LAST}/state.json",
            ("step",),
            4,
            f"{LAST}/state.json: step: found 4, expected 6, as in the folder's",
        ),
    ],
)
def test_a_wrong_field_is_one_line(run, file, path, value, expected):
    def change(whole):
        inner = whole
        for key in path[:-1]:
            inner = inner[key]
        if value is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value

    edit(run, file, change)
    found = [line for line in lines(run) if "sha256: found" not in line]
    assert any(expected in line for line in found), found
    assert len(found) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"loss": None}, "train_log.jsonl:3: loss: found nothing, expected mean loss of the update's batch"),
        ({"loss": "2.0"}, 'train_log.jsonl:3: loss: found "2.0", expected a number'),
        ({"loss": float("inf")}, "train_log.jsonl:3: loss: found Infinity, expected a finite number"),
        ({"lr": -1e-9}, "train_log.jsonl:3: lr: found -1e-09, expected at least 0"),
        ({"step": 4}, "train_log.jsonl:3: step: found 4, expected 3, one line an update; DIR-02"),
        ({"step": True}, "step: found true, expected a whole number"),
        ({"tokens": 5.5}, "tokens: found 5.5, expected a whole number"),
        ({"rows": [1, -1]}, "rows[1]: found -1, expected at least 0"),
        ({"note": {"deep": [float("nan")]}}, "note.deep[0]: found NaN, expected a finite number"),
        (
            {"val_ppl": 2.0**2.25},
            "val_ppl: found 4.756828460010884, expected 9.48773584, exp(val_loss); DIR-03",
        ),
        ({"ppl": 0}, "ppl: found 0, expected 9.48773584, exp(loss)"),
        ({"total_tokens": 14}, "total_tokens: found 14, expected 15, the sum of tokens so far"),
        ({"best_val_loss": 2.0}, "best_val_loss: found 2.0, expected 2.25, of the lowest val_loss so far"),
        ({"best_step": 2}, "best_step: found 2, expected 3, of the lowest val_loss so far"),
        ({"seconds": 0.15}, "seconds: found 0.15, expected at least 0.2, as on the line before"),
    ],
)
def test_a_wrong_line_is_one_line(run, fields, expected):
    edit_line(run, 3, **fields)
    found = [line for line in lines(run) if "log.sha256" not in line and "DIR-05" not in line]
    assert any(expected in line for line in found), found
    assert len(found) == 1


def test_the_perplexity_of_a_float32_loop_is_right(run):
    """exp computed in float32 from a loss that was rounded to float32 is inside the bound, half as exact is not."""
    for number in range(1, STEPS + 1):
        edit_line(run, number, loss=8.1, ppl=float(np.exp(np.float32(8.1))))
    assert not [line for line in lines(run) if "DIR-03" in line]
    edit_line(run, 2, ppl=float(np.exp(8.1)) * (1 + 2e-6))
    assert [line for line in lines(run) if "DIR-03" in line]


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


def drop_line(run):
    text = (run / "train_log.jsonl").read_text().splitlines(keepends=True)
    (run / "train_log.jsonl").write_text("".join(text[:2] + text[3:]))


def write_tensors(run, file, change):
    """Change the tensors of the last checkpoint, and its digests."""
    path = run / LAST / file
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(run, f"{LAST}/manifest.json", lambda value: value["files"].update({file: digest}))


WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (drop_line, "train_log.jsonl:3: step: found 4, expected 3"),
        (lambda run: append(run / "train_log.jsonl", b'{"step"'), "a line without an end"),
        (lambda run: (run / "train_log.jsonl").unlink(), "train_log.jsonl: found no such file"),
        (lambda run: (run / "manifest.json").unlink(), "manifest.json: found no such file"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "checkpoints: found no checkpoint"),
        (lambda run: shutil.rmtree(run / "checkpoints/step-00000002"), "checkpoints: found none of step 2, expected"),
        (lambda run: (run / LAST).rename(run / "checkpoints/step-00000008"), "step: found 6, expected 8"),
        (lambda run: edit_line(run, 3, val_loss=None), "train_log.jsonl: val_loss: found none of step 3"),
        (lambda run: (run / LAST / WEIGHTS).write_bytes(b"torn"), "the first 8 bytes are not the length of a header"),
        (lambda run: (run / LAST / "new.txt").touch(), "files.new.txt: found nothing, expected the SHA-256"),
        (
            lambda run: (run / LAST / "state.json").write_text('{"step": 6}'),
            f"{LAST}/state.json: sha256: found",
        ),
        (
            lambda run: write_tensors(run, OPTIMIZER, lambda t: t.pop("v.a.b")),
            f"{LAST}/{OPTIMIZER}: v.a.b: found nothing, expected a moment of shape [3]",
        ),
        (
            lambda run: write_tensors(run, OPTIMIZER, lambda t: t.update({"m.a.w": t["m.a.w"].T.copy()})),
            "m.a.w: found shape [3, 2], expected a moment of shape [2, 3]",
        ),
        (
            lambda run: write_tensors(run, OPTIMIZER, lambda t: t.update({"m.head": t["m.a.b"]})),
            "m.head: found a moment, expected only moments of parameters",
        ),
        (
            lambda run: write_tensors(run, OPTIMIZER, lambda t: [t.pop(k) for k in list(t) if k != "t"]),
            "found no moments, expected m.NAME and v.NAME of each parameter",
        ),
        (
            lambda run: write_tensors(run, WEIGHTS, lambda t: t.update(extra=t["a.b"])),
            f"{LAST}/{WEIGHTS}: extra: found a new tensor, expected the tensors of the checkpoint before",
        ),
        (
            lambda run: write_tensors(run, WEIGHTS, lambda t: t.update({"a.b": t["a.b"].astype(np.int32)})),
            f"{LAST}/{WEIGHTS}: a.b: found I32, expected one of F16, BF16, F32, F64",
        ),
        (lambda run: append(run / "lr.bin", b"\x80\x04\x95"), "lr.bin: found a file that starts like a pickle"),
        (lambda run: append(run / "lr.json", b"(lp0\n."), "lr.json: found a file that starts like a pickle"),
        (lambda run: (run / "a.md").write_bytes(b"I1\n."), "a.md: found a file that is text that an unpickler reads"),
        (lambda run: (run / "model.pt").write_bytes(b"PK\x03\x04"), "model.pt: found a file that starts like a zip"),
        (lambda run: os.mkfifo(run / "pipe"), "pipe: found a FIFO, expected a regular file"),
        (lambda run: (run / "log.txt").symlink_to("train_log.jsonl"), "log.txt: found a symbolic link"),
        (lambda run: (run / LAST).chmod(0o755) or (run / LAST / "a\nb").touch(), "files.a\\nb: found nothing"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named(run, damage, expected):
    damage(run)
    assert any(expected in line for line in lines(run)), lines(run)


FILES = [
    "manifest.json",
    "train_log.jsonl",
    "results.json",
    *(f"{LAST}/{name}" for name in (WEIGHTS, OPTIMIZER)),
]
FILES += [f"{LAST}/state.json", f"{LAST}/manifest.json"]
HOSTILE = {
    "fifo": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "folder": lambda path: path.mkdir(),
    "sparse": sparse,
    "deep": lambda path: path.write_bytes(b"[" * 1_000_000),
    "nested": lambda path: path.write_bytes(b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000),
    "junk": lambda path: path.write_bytes(np.random.default_rng(1).bytes(100_000)),
    "empty": lambda path: path.touch(),
    "null": lambda path: path.write_bytes(b"null\n"),
    "list": lambda path: path.write_bytes(b"[]\n"),
    "numbers": lambda path: path.write_bytes(b"[" + b"1e999," * 100_000 + b"1]\n"),
    "keys": lambda path: path.write_bytes(json.dumps({str(i): i for i in range(100_000)}).encode() + b"\n"),
    "integer": lambda path: path.write_bytes(b'{"step": ' + b"9" * 100_000 + b"}\n"),
    "header": lambda path: path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}"),
    "pickle": lambda path: path.write_bytes(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00N."),
}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("file", FILES)
def test_whatever_lies_in_the_place_of_a_file_is_a_complaint_and_nothing_else(run, file, kind):
    (run / file).unlink()
    HOSTILE[kind](run / file)
    found = lines(run, "phase18" if kind in ("junk", "null") else "record")
    if (file, kind) == (
        "train_log.jsonl",
        "empty",
    ):  # no line is no wrong line; the checkpoints are then of no log
        file = "checkpoints"
    assert any(line.startswith(file) for line in found), found


@pytest.mark.parametrize("kind", ["fifo", "device", "loop", "sparse", "junk"])
@pytest.mark.parametrize("folder", ["checkpoints", LAST])
def test_whatever_lies_in_the_place_of_a_folder_is_a_complaint_and_nothing_else(run, folder, kind):
    shutil.rmtree(run / folder)
    HOSTILE[kind](run / folder)
    assert any(line.startswith(folder) for line in lines(run))


def test_folders_without_end_are_a_complaint(run):
    (run / ("d/" * 200)).mkdir(parents=True)
    assert any("more than 16 folders within one another" in line for line in lines(run))


def test_a_folder_that_leads_out_of_the_run_is_not_followed(run, tmp_path):
    shutil.move(run / "checkpoints", tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    assert any(line.startswith("checkpoints: found a symbolic link") for line in lines(run))


def test_a_long_log_is_checked_in_seconds(run):
    line = json.loads((run / "train_log.jsonl").read_text().splitlines()[0])
    for name in ("total_tokens", "seconds"):
        del line[name]
    with (run / "train_log.jsonl").open("w") as log:
        for step in range(1, 100_001):
            log.write(
                json.dumps(line | {"step": step, "loss": 1.0 + 1.0 / step, "ppl": np.exp(1.0 + 1.0 / step)})
                + "\n"
            )
    began = time.process_time()
    report = check_run(run)
    assert report.updates == 100_000
    assert time.process_time() - began < 20.0


def test_lines_of_one_likeness_are_one_to_the_schema():
    """What the log's schemas ask of numbers is their type and their sign, and of texts that they are texts."""

    def limits(value):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key == "examples":  # of the page; they ask for nothing
                continue
            if isinstance(inner, dict | list):
                yield from limits(inner)
            elif isinstance(inner, int | float) and not isinstance(inner, bool):
                yield key, inner

    for name in ("train_log", "phase18_train_log"):
        found = set(limits(schemas.schema(name)))
        assert found <= {("minimum", 0), ("minimum", 1), ("exclusiveMinimum", 0)}
        assert not [
            key
            for key in ("pattern", "maxLength", "const", "enum")
            if f'"{key}"' in json.dumps(schemas.schema(name))
        ]
    assert likeness({"a": 1}) != likeness({"a": 1.5})
    assert likeness({"a": 1}) != likeness({"a": True})
    assert likeness({"a": 1.0}) != likeness({"a": -1.0})
    assert likeness({"a": [1]}) != likeness({"a": [1, "x"]})
    assert likeness({"a": 2.0}) == likeness({"a": 3.0})


@pytest.mark.parametrize("name", [*schemas.GENERAL, *schemas.PHASE_18])
def test_schemas_are_schemas_and_describe_every_field(name):
    schema = schemas.schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(schemas.deviations(name, schema["examples"][0])) == []
    for field, said in schema["properties"].items():
        assert said["description"], f"{name}: {field}"
    general = schemas.schema(name.removeprefix("phase18_"))["properties"] if "allOf" in schema else {}
    assert set(schema["required"]) <= schema["properties"].keys() | general.keys()


def test_the_page_of_the_layout_is_made_from_the_schemas():
    """`python docs/generate.py` writes its tables and examples."""
    page = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
    assert generator("page_writers/tables").run_directory_page(page) == page
    assert all(f"<!-- schema: {name} -->" in page for name in (*schemas.GENERAL, *schemas.PHASE_18))


def test_the_command(run, tmp_path):
    def said(*arguments):
        words = [sys.executable, "-m", "honestloop", "check-run", *map(str, arguments)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        return done

    done = said(run)
    assert (done.returncode, done.stdout) == (
        0,
        "run directory of level record: 6 updates, 3 checkpoints: 0 complaints\n",
    )
    edit_line(run, 2, lr="0.1")
    done = said(run)
    assert done.returncode == 1
    assert done.stdout.startswith('train_log.jsonl:2: lr: found "0.1", expected a number; DIR-01: every file')
    assert said(run, "--level", "phase18").returncode == 1
    assert said(run, "--level", "best").returncode == 2
    assert said(tmp_path / "nowhere").returncode == 4
    assert said(run / "manifest.json").returncode == 4


def test_the_table_of_conventions_is_that_of_the_code():
    page = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    assert "| `leftover` | `update`, `carry`, `drop` |" in page
    assert generator("page_writers/tables").conventions_table(page) == page
