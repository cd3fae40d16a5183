"""What a subject says about itself in a file, found beside its module and never imported."""

import sys

import pytest

from honestloop.description import Level, describe, must_be_there
from honestloop.protocol import ProtocolError

EXPECTED = '[expected]\nUPDATE-04 = "counts from 0"\n'
IN_PYPROJECT = '[tool.honestloop.expected]\nUPDATE-04 = "counts from 0"\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a package and a module that must not be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / f"package_{tmp_path.name.replace('-', '_')}"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    return tmp_path, package


@pytest.mark.parametrize(
    ("place", "name", "text"),
    [
        ("package", "subject.toml", EXPECTED),
        ("root", "subject.toml", EXPECTED),
        ("root", "pyproject.toml", IN_PYPROJECT),
    ],
)
def test_it_is_found_beside_the_package_or_in_it(place, name, text, project):
    root, package = project
    ({"package": package, "root": root}[place] / name).write_text(text)
    assert describe(package.name).expected == {"UPDATE-04": "counts from 0"}
    assert describe(f"{package.name}.loop").expected == {"UPDATE-04": "counts from 0"}


def test_it_is_found_beside_a_module(project):
    root, _ = project
    module = f"module_{root.name.replace('-', '_')}"
    (root / f"{module}.py").write_text("raise RuntimeError('imported')\n")
    (root / "subject.toml").write_text(EXPECTED)
    assert describe(module).expected == {"UPDATE-04": "counts from 0"}


def test_without_a_file_nothing_is_declared(project):
    assert describe(project[1].name).expected == {}
    assert describe("no_such_module_anywhere").expected == {}
    (project[0] / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert describe(project[1].name).expected == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[expected", "not valid TOML"),
        ("[expcted]\n", "unknown table 'expcted'; there is train, resume, "),
        ("trian = 'x'\n", "unknown key 'trian'"),
        ("train = 'x'\n", "train does not say where its output goes"),
        ("train = 'x {out} {ot}'\n", "train: unknown placeholder {ot}; there is "),
        ("train = 'x \"{out}'\n", "train: No closing quotation"),
        ("train = ''\n", "train is empty"),
        ("train = 3\n", "train is of type int, not a string"),
        ("level = 'gold'\n", "level 'gold' is none of 'command', 'record', 'model', 'phase 18'"),
        ("level = 'record'\n", "level 'record' needs a command `train`"),
        ("level = 'model'\ntrain = 'x {out}'\n", "level 'model' needs the commands `logits` and `loss`"),
        ("[run]\nstep = 3\n", r"\[run\] has no key 'step'"),
        ("[run]\nsteps = 0\n", r"\[run\] steps is 0, not positive"),
        ("[run]\nsteps = true\n", r"\[run\] steps is of type bool, not int"),
        ("[run]\nmay_differ = '*.png'\n", r"\[run\] may_differ is not a list of strings"),
        ("[conventions]\ndecay = 'never'\n", "convention decay: 'never' is none of"),
        ("run = 3\n", "run is of type int, not a table"),
        ('[expected]\nUPDATE-99 = "why"\n', "EXPECTED names 'UPDATE-99', which is no rule"),
        ('[expected]\nUPDATE-04 = ""\n', r"EXPECTED\['UPDATE-04'\] needs a reason"),
        ('expected = "all"\n', "EXPECTED is of type str"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file(text, said, project):
    (project[0] / "subject.toml").write_text(text)
    with pytest.raises(ProtocolError, match=f"subject.toml: {said}") as caught:
        describe(project[1].name)
    assert "\n" not in str(caught.value)


SCRIPT = """
train = "{python} train.py --out {out} --note 'two words' --stop-after {stop_after}"
resume = "{python} train.py --out {out} --resume"
"""
LOGITS = "logits = '{python} score.py {run} {tokens} {out}'\n"
LOSS = "loss = '{python} score.py {weights} {batch} {dtype} {out}'\n"


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (SCRIPT, Level.COMMAND),
        (SCRIPT + "[run]\nsteps = 3\n", Level.COMMAND),
        (SCRIPT + "[optimizer]\nbeta1 = 0.9\n", Level.RECORD),
        ('level = "record"\n' + SCRIPT, Level.RECORD),
        (SCRIPT + LOGITS + LOSS, Level.MODEL),
        (SCRIPT + LOGITS, Level.COMMAND),
        ('level = "command"\n' + SCRIPT + LOGITS + LOSS, Level.COMMAND),
        ('module = "mine"\n', Level.PHASE_18),
    ],
)
def test_what_is_offered_decides_the_level(text, level, tmp_path):
    (tmp_path / "subject.toml").write_text(text)
    assert describe(str(tmp_path)).level == level
    assert describe(str(tmp_path / "subject.toml")).level == level


def test_a_command_is_split_into_words_before_its_placeholders_are_filled(tmp_path):
    (tmp_path / "subject.toml").write_text(SCRIPT)
    found = describe(str(tmp_path))
    assert found.folder == tmp_path
    assert found.placeholders("train") == {"out", "stop_after"}
    words = found.argv("train", out="a folder/%s {out}", stop_after=3, unused=1)
    assert words == [
        sys.executable,
        "train.py",
        "--out",
        "a folder/%s {out}",
        "--note",
        "two words",
        "--stop-after",
        "3",
    ]
    with pytest.raises(ProtocolError, match=r"train: nothing stands for \{stop_after\}"):
        found.argv("train", out="x")
    with pytest.raises(ProtocolError, match="there is no command 'logits'"):
        found.argv("logits")


def test_another_interpreter_is_relative_to_the_file(tmp_path):
    (tmp_path / "subject.toml").write_text('python = "env/bin/python"\n' + SCRIPT)
    assert describe(str(tmp_path)).argv("train", out="x", stop_after=1)[0] == str(tmp_path / "env/bin/python")


@pytest.mark.parametrize("path", ["no/such/folder", "nothing.toml"])
def test_a_path_without_a_description_is_no_subject(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProtocolError, match=f"no such subject: {path}"):
        describe(path)


def test_a_folder_without_a_description_is_no_subject(tmp_path):
    with pytest.raises(ProtocolError, match="no such subject"):
        describe(str(tmp_path))


def test_a_module_without_a_description_is_a_subject_of_phase_18():
    found = describe("no_such_module_anywhere")
    assert (found.level, found.module, found.python) == (
        Level.PHASE_18,
        "no_such_module_anywhere",
        sys.executable,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('module = "nosuch"\n', "no module nosuch in "),
        ('train = "nosuch-program {out}"\n', "there is no program 'nosuch-program'"),
        ('python = "env/bin/python"\n' + SCRIPT, "there is no program '.*/env/bin/python'"),
    ],
)
def test_what_cannot_be_started_is_said_before_anything_is(text, said, tmp_path):
    (tmp_path / "subject.toml").write_text(text)
    with pytest.raises(ProtocolError, match=said):
        must_be_there(describe(str(tmp_path)))


def test_what_can_be_started_is_there(tmp_path):
    (tmp_path / "subject.toml").write_text('module = "mine"\n')
    (tmp_path / "mine.py").write_text("raise RuntimeError('imported')\n")
    assert must_be_there(describe(str(tmp_path))).module == "mine"
    (tmp_path / "subject.toml").write_text(SCRIPT)
    assert must_be_there(describe(str(tmp_path))).level == Level.COMMAND
