"""The command: every status, one line for bad input, nothing overwritten; and `init`, which is graded as it is made."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from honestloop import cli, run_gates, scaffold
from reference.rules import RULES

ROOT = Path(__file__).parents[1]


def honestloop(directory, *arguments, **environment):
    """The command, typed in a directory."""
    return subprocess.run(
        [sys.executable, "-m", "honestloop", *arguments],
        cwd=directory,
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def one_line(done):
    """What it said on standard error, which must be one line that begins with 'error: '."""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert done.stdout == ""
    return line


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which `honestloop init my_loop` was typed."""
    folder = tmp_path_factory.mktemp("made")
    done = honestloop(folder, "init", "my_loop")
    assert done.returncode == 0, done.stderr
    assert "honestloop check my_loop" in done.stdout
    return folder


def test_what_init_makes_runs(made):
    done = subprocess.run(
        [sys.executable, "-m", "my_loop.loop"],
        cwd=made,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    losses = [float(line.split()[1]) for line in done.stdout.splitlines()[:-1]]
    assert losses[0] > 1.0
    assert losses[-1] < 0.1


def test_what_init_makes_records_a_run_and_goes_on_with_it(made):
    def train(out, *words):
        command = [
            sys.executable,
            "my_loop/train.py",
            "--out",
            out,
            "--steps",
            "12",
            "--save-every",
            "4",
            *words,
        ]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        subprocess.run(command, cwd=made, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=120)

    train("runs/whole")
    train("runs/cut", "--stop-after", "6")
    train("runs/cut")
    done = honestloop(made, "check-run", "runs/whole")
    assert done.stdout == "run directory of level record: 12 updates, 3 checkpoints: 0 complaints\n"
    assert honestloop(made, "check-run", "runs/cut").returncode == 0
    for name in (
        "train_log.jsonl",
        "results.json",
        *(f"checkpoints/step-{n:08d}/weights.safetensors" for n in (8, 12)),
    ):
        assert (made / "runs/cut" / name).read_bytes() == (made / "runs/whole" / name).read_bytes()
    shutil.rmtree(made / "runs")


def test_what_init_makes_holds_and_the_documented_edit_is_named(made):
    done = honestloop(made, "check", "my_loop", "--json", "report.json")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("honestloop: my_loop: 45 rules hold, 0 are broken")
    assert json.loads((made / "report.json").read_text())["status"] == 0
    assert [path.name for path in made.iterdir() if path.name.startswith(".")] == []

    source = made / "my_loop" / "loop.py"
    right = source.read_text()
    old, new = "divisor = max(tokens, 1)", "divisor = max(int(batch[2].sum()), 1) * len(window)"
    wrong = right.replace(old, new)
    assert wrong != right
    readme, student = ((ROOT / name).read_text() for name in ("README.md", "docs/start-student.md"))
    assert all(edit in page for edit in (old, new) for page in (readme, student))
    assert f"{done.stdout.splitlines()[-1]}\n```" in student
    source.write_text(wrong)
    done = honestloop(made, "check", "my_loop", "--first")
    source.write_text(right)
    assert done.returncode == 1
    assert done.stdout.startswith("LOOP-02  the logged loss is that of the window's predicted tokens")
    assert "behaves like: mean of the means of the micro-batches" in done.stdout
    said = {without_figures(line) for line in done.stdout.splitlines()}
    for page in (readme, student):
        shown = next(block for block in page.split("```\n") if block.startswith("LOOP-02  "))
        assert {without_figures(line) for line in shown.splitlines()} - {"  ..."} <= said


def without_figures(line):
    """A line of a message but for its numbers, which are those of the example that was drawn."""
    return re.sub(r"\d[\d.e+-]*", "0", line)


def test_init_overwrites_nothing(made):
    before = (made / "my_loop" / "loop.py").read_bytes()
    done = honestloop(made, "init", "my_loop")
    assert done.returncode == 2
    assert "exists already" in one_line(done)
    assert (made / "my_loop" / "loop.py").read_bytes() == before


@pytest.mark.parametrize("name", ["3loops", "my-loop", "a.b", "../up", "", "schleife\u00fc"])
def test_init_refuses_what_cannot_be_imported(name, tmp_path):
    with pytest.raises(ValueError, match="is no name of a Python package"):
        scaffold.make(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_an_adapter(made):
    (made / "small.py").write_text(
        "import math\nCAPABILITIES = ['perplexity']\n"
        "def perplexity(n, t):\n    return math.exp(n / t) if n / t < 709 else math.inf\n"
    )
    done = honestloop(made, "check", "small.py", "-r", "PPL-01", "--margins")
    assert done.returncode == 0, done.stdout
    assert "PPL-01" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["check", "no_such_loop"], 4, "cannot be imported: ModuleNotFoundError"),
        (["check", "no/such/file.py"], 4, "is no file"),
        (["grade", "no_such_loop"], 4, "no such subject: no_such_loop"),
        (["grade", "impl", "--gate", "speed"], 2, "there is no gate 'speed'; there are perplexity, update, "),
        (["check", "math", "--rule", "LOPP-01"], 2, "unknown rule 'LOPP-01'; did you mean"),
        (["check", "math", "--profile", "quick"], 2, "unknown profile 'quick'"),
        (["check", "math", "--json", "nowhere/report.json"], 2, "there is no folder"),
        (["check"], 2, "Missing argument 'ADAPTER'"),
        (["explain", "LOOP-99"], 2, "did you mean LOOP-09"),
        (["rules", "LOPP"], 2, "did you mean LOOP"),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
    ],
)
def test_bad_input_is_one_line_and_a_status(arguments, status, said, tmp_path):
    done = honestloop(tmp_path, *arguments)
    assert said in one_line(done)
    assert done.returncode == status
    assert list(tmp_path.iterdir()) == []


def test_a_declaration_that_is_wrong_is_one_line(tmp_path):
    (tmp_path / "declares.py").write_text("CAPABILITIES = ['gelu']\nEXPECTED = {'LOOP-02': ''}\n")
    done = honestloop(tmp_path, "check", "declares")
    assert done.returncode == 4
    assert "EXPECTED['LOOP-02'] needs a reason" in one_line(done)


def test_nothing_graded_is_a_status_of_its_own(tmp_path):
    (tmp_path / "empty.py").write_text("CAPABILITIES = []\n")
    done = honestloop(tmp_path, "check", "empty")
    assert done.returncode == 3
    assert "nothing was graded" in done.stdout.splitlines()[-1]


def test_an_error_of_the_grader_is_not_the_subjects(monkeypatch, capsys):
    monkeypatch.setattr("honestloop.explain.explained", lambda rule: 1 / 0)
    assert cli.main(["explain", "LOOP-02"]) == 5
    assert "of honestloop itself: ZeroDivisionError" in capsys.readouterr().err


def test_a_closed_pipe_is_silent(tmp_path):
    command = f"{sys.executable} -m honestloop rules | head -1"
    done = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("SUBJ-01")
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["grade", "-h"], ["--version"]])
def test_help_and_version(arguments, capsys):
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "honestloop" in said
    if len(arguments) == 2:
        assert "Example" in said
    elif arguments == ["--help"]:
        assert "Exit status: 0 held" in said


def test_no_arguments_is_help_and_wrong(capsys):
    assert cli.main([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_rules_lists_them_all(capsys):
    assert cli.main(["rules"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_explain_has_every_part_of_every_rule(rule, capsys):
    assert cli.main(["explain", rule.lower()]) == 0
    said = capsys.readouterr().out
    for part in (f"{rule}  ", "Why it matters: ", "Look for: ", "Breaks it:", "Keeps it:", "Source: "):
        assert part in said


def test_grading_a_run_without_its_packages_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(run_gates, "NEEDED", ("numpy", "no_such_package"))
    assert cli.main(["grade", "impl"]) == 2
    assert "needs no_such_package: pip install 'honestloop[gates]'" in capsys.readouterr().err
