"""`honestloop report`: a page of any directory, whatever lies in it."""

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from gates.subject.judged_run import PLACES, judged_run
from honestloop.cli import run
from honestloop.run_files import read_run
from tests import shown_pages
from tests.test_pages import read


def leave(folder, shown):
    """The files of a run."""
    (folder / "drift").mkdir()
    (folder / "train_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in shown.log))
    files = {"results": "results.json", "manifest": "manifest.json", "drift": "drift/drift_results.json"}
    lists = {"samples": "samples.json", "evaluation": "evaluation.json"}
    for field, name in {**files, **lists}.items():
        (folder / name).write_text(json.dumps(getattr(shown, field)))


def test_a_run_directory_is_read_as_it_is(tmp_path):
    shown = shown_pages.run()
    leave(tmp_path, shown)
    found = read_run(tmp_path, shown.name)
    assert (found.log, found.samples, found.absent) == (shown.log, shown.samples, ())
    assert (found.results, found.manifest, found.drift) == (shown.results, shown.manifest, shown.drift)
    assert found.evaluation == shown.evaluation


def test_report_writes_a_page_and_says_where(tmp_path, capsys):
    leave(tmp_path, shown_pages.run())
    assert run(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"-> {tmp_path / 'report.html'}\n"
    assert f"{tmp_path.name} Validation perplexity" in read((tmp_path / "report.html").read_text()).text
    assert run(["report", str(tmp_path), "--out", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").read_text() == (tmp_path / "report.html").read_text()


def test_half_of_the_files_are_a_page_too(tmp_path, capsys):
    (tmp_path / "train_log.jsonl").write_text(
        '{"step": 1, "loss": NaN}\nnonsense\n[]\n{"step": 2, "loss": 2.5}\n{"st'
    )
    (tmp_path / "results.json").write_text("[1]")
    (tmp_path / "samples.json").write_text("{")
    assert run(["report", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1].strip() for line in said[:-1]] == [
        "manifest.json",
        "results.json",
        "samples.json",
        "train_log.jsonl",
    ]
    text = read((tmp_path / "report.html").read_text()).text
    assert "Training loss 2.5 nats a token at step 2." in text
    assert "1 value is not finite and not drawn: training at 1." in text
    assert "train_log.jsonl: line 2 and 2 more: no JSON object" in text


def test_an_empty_directory_and_none(tmp_path, capsys):
    assert run(["report", str(tmp_path)]) == 0
    assert "Nothing was logged." in (tmp_path / "report.html").read_text()
    assert run(["report", str(tmp_path / "nowhere")]) == 4
    assert capsys.readouterr().err.endswith("nowhere: no such folder\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without FIFOs")
def test_nothing_that_lies_there_is_waited_for_or_followed(tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text('{"password": "hunter2"}')
    folder = tmp_path / "run"
    folder.mkdir()
    os.mkfifo(folder / "train_log.jsonl")
    (folder / "results.json").symlink_to(secret)
    (folder / "manifest.json").write_text("[" * 100_000)
    assert run(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "hunter2" not in page
    assert "train_log.jsonl: a FIFO" in page and "results.json: a symbolic link" in page
    assert "manifest.json: JSON nested more than 64 levels deep" in page


@pytest.mark.parametrize("name", PLACES)
def test_the_judged_run_is_found_at_every_level(tmp_path, name):
    session: Any = SimpleNamespace(home=tmp_path)
    assert judged_run(session) is None
    (tmp_path / name).mkdir(parents=True)
    assert judged_run(session) == tmp_path / name
