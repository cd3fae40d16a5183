"""The wheel: one name in site-packages, few packages, and a user's own `gates` and `impl` beside it in one process."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hatch_build
from hatch_build import FOLDERS

ROOT = Path(__file__).parents[1]
MOST_PACKAGES = 25


def shell(*words, cwd, status=0):
    """The output of a command that ends with that status."""
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == status, f"{words}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    shell(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    (path,) = folder.glob("honestloop-*.whl")
    return path


@pytest.fixture(scope="module")
def user(wheel, tmp_path_factory):
    """A folder of somebody's own, whose environment has the wheel and what it needs and nothing else."""
    folder = tmp_path_factory.mktemp("user")
    shell(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    shell(folder / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    for name in FOLDERS:  # modules of the user's own, by the names of our folders
        (folder / f"{name}.py").write_text("MINE = True\n")
    shell(folder / "venv/bin/honestloop", "init", "my_loop", cwd=folder)
    adapter = folder / "my_loop" / "adapter.py"
    uses = f"import {', '.join(FOLDERS)}\nassert {' and '.join(f'{name}.MINE' for name in FOLDERS)}\n"
    adapter.write_text(adapter.read_text().replace("from . import loop\n", uses + "from . import loop\n"))
    return folder


def test_the_wheel_has_one_name_and_what_it_reads(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"honestloop"}
    for needed in ("reference/rules.toml", "fixtures/corpus/train.jsonl", "fixtures/mutants/catalogue.toml"):
        assert f"honestloop/suite/{needed}" in names
    assert not [name for name in names if "__pycache__" in name]


def test_every_import_in_the_wheel_is_absolute_within_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                for node in ast.walk(ast.parse(archive.read(name))):
                    modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                    modules += (
                        [str(node.module)] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
                    )
                    assert not [m for m in modules if hatch_build.is_ours(m)], f"{name}: {modules}"


def test_few_packages_are_installed_and_neither_numba_nor_mlflow(user):
    listed = shell(user / "venv/bin/python", "-m", "pip", "list", "--format=freeze", cwd=user).splitlines()
    names = {line.partition("==")[0].lower() for line in listed} - {"pip", "setuptools"}
    assert "honestloop" in names
    assert len(names) <= MOST_PACKAGES, sorted(names)
    assert not names & {"numba", "mlflow", "mlflow-skinny", "torch"}


def test_a_users_own_gates_and_impl_live_beside_it(user):
    """Green, then red with the right rule after the documented edit, in a process that has imported both."""
    said = shell(user / "venv/bin/honestloop", "check", "my_loop", cwd=user)
    assert said.splitlines()[-1].startswith("honestloop: my_loop: 45 rules hold, 0 are broken")
    loop = user / "my_loop" / "loop.py"
    right = loop.read_text()
    loop.write_text(
        right.replace("divisor = max(tokens, 1)", "divisor = max(int(batch[2].sum()), 1) * len(window)")
    )
    said = shell(user / "venv/bin/honestloop", "check", "my_loop", "--first", cwd=user, status=1)
    loop.write_text(right)
    assert said.startswith("LOOP-02  ")
    assert "behaves like: mean of the means of the micro-batches" in said


def test_pytest_grades_in_a_repository_of_the_users_own(user):
    (user / "test_theirs.py").write_text("import gates\ndef test_one():\n    assert gates.MINE\n")
    words = ("-p", "honestloop", "test_theirs.py", "--pyargs", "honestloop.suite.properties")
    said = shell(
        user / "venv/bin/python",
        "-m",
        "pytest",
        *words,
        "--impl",
        "my_loop",
        "-k",
        "LOOP or theirs",
        cwd=user,
    )
    assert "rules hold, 0 are broken" in said
    assert "failed" not in said.splitlines()[-1]
    assert (
        "which subject? name its adapter"
        in subprocess.run(
            [user / "venv/bin/python", "-m", "pytest", *words],
            cwd=user,
            capture_output=True,
            text=True,
            check=False,
        ).stderr
    )


def test_grading_a_run_names_the_extra(user):
    done = subprocess.run(
        [user / "venv/bin/honestloop", "grade", "my_loop"],
        cwd=user,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'honestloop[gates]'" in done.stderr


def other_pythons():
    """Minor version -> interpreter, of each supported Python that this machine has beside the one that runs."""
    found: dict[int, str] = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(11, 15):
        places = [shutil.which(f"python3.{minor}"), *sorted(pyenv.glob(f"3.{minor}.*/bin/python"))]
        for place in [str(place) for place in places if place]:
            asked = subprocess.run(
                [place, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True
            )
            if asked.stdout.strip() == str(minor) and minor != sys.version_info[1]:
                found[minor] = place
    return found


@pytest.mark.parametrize(("minor", "python"), other_pythons().items(), ids=lambda x: str(x))
def test_every_python_that_is_here_grades(minor, python, wheel, tmp_path):
    shell(python, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    shell(tmp_path / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    shell(tmp_path / "venv/bin/honestloop", "init", "my_loop", cwd=tmp_path)
    said = shell(
        tmp_path / "venv/bin/honestloop", "check", "my_loop", "-r", "LOOP-02", "-r", "CLIP", cwd=tmp_path
    )
    assert "0 are broken" in said


WITHOUT_UNIX = """
import signal, sys
del signal.setitimer, signal.SIGALRM
sys.modules["fcntl"] = sys.modules["resource"] = None
import honestloop
report = honestloop.check("honestloop.templates.loop", rules=["LOOP-01", "CLIP"])
print(report)
sys.exit(report.status)
"""


def test_it_runs_without_what_windows_lacks():
    said = shell(sys.executable, "-c", WITHOUT_UNIX, cwd=ROOT)
    assert "0 are broken" in said


# ---- the build step


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from gates.errors import GateError\n", "from honestloop.suite.gates.errors import GateError\n"),
        (
            "from reference import (\n    loss,\n    model,\n)\n",
            "from honestloop.suite.reference import (\n    loss,\n    model,\n)\n",
        ),
        ("def f():\n    from impl import x\n", "def f():\n    from honestloop.suite.impl import x\n"),
        ("import gates\n", "import honestloop.suite.gates as gates\n"),
        ("import reference.loss as r\n", "import honestloop.suite.reference.loss as r\n"),
        ("from . import loop\nimport gates_of_hell\nx = 'from gates import y'\n",) * 2,
    ],
)
def test_imports_are_rewritten_and_nothing_else(source, expected):
    assert hatch_build.rewritten(source, Path("x.py")) == expected


@pytest.mark.parametrize("source", ["import gates.errors\n", "import gates, os\n"])
def test_an_import_that_cannot_be_rewritten_stops_the_build(source):
    with pytest.raises(ValueError, match=r"x\.py:1: write `from \.\.\. import"):
        hatch_build.rewritten(source, Path("x.py"))


def test_no_module_of_ours_is_named_in_a_string():
    """In the wheel it has another name, so code derives it: `in_suite("impl")`, or `module.__name__`."""
    name = re.compile(rf"^({'|'.join(FOLDERS)})(\.\w+)+$")
    for folder in ("honestloop", *FOLDERS):
        for path in (ROOT / folder).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            calls = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "in_suite"]
            derived = {id(argument) for call in calls for argument in call.args}
            for node in nodes:
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in derived:
                    named = name.match(node.value) and module_exists(node.value)
                    assert not named, f"{path}:{node.lineno}: {node.value!r}"


def module_exists(name):
    """Whether a dotted name is a module of this repository."""
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()
