"""One environment: pyproject.toml, uv.lock and requirements.lock say the same, and it is the one that runs."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
UV_LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
NEEDED_BY_MAKE = ("Makefile", "requirements.lock", "requirements-peers.txt")
EXPORTED = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\\n]+?))? \\\n"
    r"(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


def locked():
    """(name, version) -> hashes of every package in uv.lock but the project itself."""
    packages = [package for package in UV_LOCK["package"] if package["name"] != PROJECT["project"]["name"]]
    return {
        (package["name"], package["version"]): {
            file["hash"].removeprefix("sha256:")
            for file in (*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else []))
        }
        for package in packages
    }


def exported():
    """Every requirement in requirements.lock, as a match with name, version, marker and hashes."""
    return list(EXPORTED.finditer((ROOT / "requirements.lock").read_text()))


def requirements(entries):
    """Name -> specifier of requirement texts, or of uv.lock's tables."""
    parsed = [Requirement(e if isinstance(e, str) else e["name"] + e.get("specifier", "")) for e in entries]
    return {requirement.name: requirement.specifier for requirement in parsed}


def test_uv_lock_was_made_from_this_pyproject():
    (own,) = [package for package in UV_LOCK["package"] if package["name"] == PROJECT["project"]["name"]]
    assert own["version"] == PROJECT["project"]["version"]
    assert requirements(own["metadata"]["requires-dist"]) == requirements(PROJECT["project"]["dependencies"])
    groups = {name: requirements(entries) for name, entries in own["metadata"]["requires-dev"].items()}
    assert groups == {name: requirements(entries) for name, entries in PROJECT["dependency-groups"].items()}
    assert SpecifierSet(UV_LOCK["requires-python"]) == SpecifierSet(PROJECT["project"]["requires-python"])


def test_what_is_imported_is_declared():
    """No file relies on a package that happens to come with another one."""
    folders = ["impl", "reference", "fixtures", "properties", "gates", "benchmarks", "tests"]
    files = [ROOT / "conftest.py", *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    imported = set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add((node.module or "").partition(".")[0])
    providers = metadata.packages_distributions()
    third_party = (
        imported - sys.stdlib_module_names - {*folders, "conftest", "cs336_basics"}
    )  # the last: of an example
    peers = (ROOT / "requirements-peers.txt").read_text().splitlines()  # the other subjects' own
    declared = {canonicalize_name(name) for name in requirements(PROJECT["project"]["dependencies"])}
    declared |= {canonicalize_name(Requirement(line).name) for line in peers if line[0] != "#"}
    undeclared = {
        name for name in third_party if not declared & {canonicalize_name(d) for d in providers.get(name, [])}
    }
    assert undeclared == set()


def test_requirements_lock_is_the_export_of_uv_lock():
    text = (ROOT / "requirements.lock").read_text()
    assert len(exported()) == len(re.findall(r"^\S", text, re.MULTILINE)), "a line that this test cannot read"
    found = {(m["name"], m["version"]): set(re.findall("[0-9a-f]{64}", m["hashes"])) for m in exported()}
    assert found == locked()


def test_this_environment_has_the_locked_versions():
    chosen = [m for m in exported() if not m["marker"] or Marker(m["marker"]).evaluate()]
    assert {m["name"]: metadata.version(m["name"]) for m in chosen} == {
        m["name"]: m["version"] for m in chosen
    }
    assert len({m["name"] for m in chosen}) == len(chosen)


def test_every_dependency_is_locked():
    names = {
        *requirements(PROJECT["project"]["dependencies"]),
        *requirements(PROJECT["dependency-groups"]["dev"]),
    }
    assert names <= {m["name"] for m in exported()}


@pytest.mark.parametrize("target", ["gates", "test", "properties", "benchmarks"])
def test_make_installs_before_it_runs(target, tmp_path):
    """In a directory without environment, the first thing a target does is make one."""
    for name in NEEDED_BY_MAKE:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    plan = subprocess.run(
        ["make", "--dry-run", target], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert plan.stdout.index("-m venv") < plan.stdout.index("pip install") < plan.stdout.index("-m pytest")


def test_make_without_a_usable_python_says_so(tmp_path):
    for name in NEEDED_BY_MAKE:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(["make", "install", "PYTHON="], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "honestloop needs Python 3.11 or later" in done.stderr


def test_licence_is_mit_and_named_in_the_project():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n")
    assert PROJECT["project"]["license"] == "MIT"
