"""One environment: pyproject.toml, uv.lock and requirements.lock say the same, and it is the one that runs."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
UV_LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
TEMPLATES = ROOT / "honestloop" / "templates"
"""Files that `honestloop init` copies for a user."""
NEEDED_BY_MAKE = ("Makefile", "requirements.lock", "requirements-peers.txt")
EXPORTED = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\\n]+?))? \\\n"
    r"(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


INSTALLED_EXTRAS = ("impl", "gates", "bench")
"""Those that `make install` installs."""


def locked():
    """(name, version) -> hashes of what the project needs with these extras and all groups, of uv.lock."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in UV_LOCK["package"]:
        by_name.setdefault(package["name"], []).append(package)
    (own,) = by_name.pop(PROJECT["project"]["name"])
    waiting = [*own["dependencies"], *(d for group in own["dev-dependencies"].values() for d in group)]
    waiting += [d for extra in INSTALLED_EXTRAS for d in own["optional-dependencies"][extra]]
    seen: set[tuple[str, ...]] = set()
    packages = []
    while waiting:
        needed = waiting.pop()
        for package in by_name.get(needed["name"], []):
            key = package["name"], package["version"]
            if needed.get("version", package["version"]) == package["version"] and key not in seen:
                seen.add(key)
                packages.append(package)
                waiting += package.get("dependencies", [])
            for extra in needed.get("extra", []):
                if (*key, extra) not in seen:
                    seen.add((*key, extra))
                    waiting += package.get("optional-dependencies", {}).get(extra, [])
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


def declared_requirements():
    """Names of what the project, its installed extras and its groups ask for."""
    project = PROJECT["project"]
    asked = [
        *project["dependencies"],
        *(e for extra in INSTALLED_EXTRAS for e in project["optional-dependencies"][extra]),
    ]
    asked += [entry for group in PROJECT["dependency-groups"].values() for entry in group]
    return set(requirements(asked)) - {project["name"]}


def test_uv_lock_was_made_from_this_pyproject():
    (own,) = [package for package in UV_LOCK["package"] if package["name"] == PROJECT["project"]["name"]]
    assert own["version"] == PROJECT["project"]["version"]
    extras = PROJECT["project"]["optional-dependencies"]
    assert own["metadata"]["provides-extras"] == list(extras)
    said = own["metadata"]["requires-dist"]
    assert requirements(d for d in said if "marker" not in d) == requirements(
        PROJECT["project"]["dependencies"]
    )
    for extra, entries in extras.items():
        others = [e for e in entries if not e.startswith("honestloop[")]
        found = requirements(
            d for d in said if d.get("marker") == f"extra == '{extra}'" and d["name"] != own["name"]
        )
        assert {name: found[name] for name in requirements(others)} == requirements(others)
    groups = {name: requirements(entries) for name, entries in own["metadata"]["requires-dev"].items()}
    assert groups == {name: requirements(entries) for name, entries in PROJECT["dependency-groups"].items()}
    assert SpecifierSet(UV_LOCK["requires-python"]) == SpecifierSet(PROJECT["project"]["requires-python"])


def test_what_is_imported_is_declared():
    """No file relies on a package that happens to come with another one."""
    folders = [
        "honestloop",
        "impl",
        "reference",
        "fixtures",
        "properties",
        "gates",
        "benchmarks",
        "pages",
        "tests",
    ]
    files = [
        ROOT / "conftest.py",
        ROOT / "hatch_build.py",
        *(path for folder in folders for path in (ROOT / folder).rglob("*.py")),
    ]
    files = [path for path in files if not path.is_relative_to(TEMPLATES)]  # they import one another
    imported = set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add((node.module or "").partition(".")[0])
    providers = metadata.packages_distributions()
    third_party = (
        imported
        - sys.stdlib_module_names
        - {*folders, "conftest", "hatch_build", "cs336_basics", "plain_loop"}
    )  # the last two: of an example, and beside what imports it
    peers = [  # the other subjects' own
        line
        for name in ("requirements-peers.txt", "requirements-peers-external.txt", "requirements-wild.txt")
        for line in (ROOT / name).read_text().splitlines()
        if line
    ]
    declared = {canonicalize_name(name) for name in declared_requirements()}
    declared |= {canonicalize_name(Requirement(line).name) for line in peers if line[0] != "#"}
    undeclared = {
        name
        for name in third_party
        if not declared & {canonicalize_name(d) for d in providers.get(name, [name])}
    }
    assert undeclared == set()


def test_requirements_lock_is_the_export_of_uv_lock():
    text = (ROOT / "requirements.lock").read_text()
    assert len(exported()) == len(re.findall(r"^\S", text, re.MULTILINE)), "a line that this test cannot read"
    found = {(m["name"], m["version"]): set(re.findall("[0-9a-f]{64}", m["hashes"])) for m in exported()}
    assert found == locked()


def needed_here(names):
    """Names of these distributions and of all that they need in this environment."""
    found, waiting = set(), [Requirement(name) for name in names]
    while waiting:
        needed = waiting.pop()
        if (key := (canonicalize_name(needed.name), *sorted(needed.extras))) in found:
            continue
        found.add(key)
        more = map(Requirement, metadata.requires(needed.name) or [])
        extras = needed.extras or {""}
        waiting += [
            r for r in more if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)
        ]
    return {name for name, *_ in found}


def test_all_that_the_other_subjects_need_is_pinned():
    """By requirements-peers.txt, and by requirements.lock what the project needs as well."""
    lines = (ROOT / "requirements-peers.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    peers = PROJECT["project"]["optional-dependencies"]["peers"]
    named = {canonicalize_name(name) for name in pinned} | {m["name"] for m in exported()}
    assert needed_here(peers) - named == set()
    installed = {name: metadata.version(name).partition("+")[0] for name in pinned}
    assert installed == pinned


def test_this_environment_has_the_locked_versions():
    chosen = [m for m in exported() if not m["marker"] or Marker(m["marker"]).evaluate()]
    assert {m["name"]: metadata.version(m["name"]) for m in chosen} == {
        m["name"]: m["version"] for m in chosen
    }
    assert len({m["name"] for m in chosen}) == len(chosen)


def test_every_dependency_is_locked():
    assert declared_requirements() <= {m["name"] for m in exported()}


LIGHT = ("honestloop", "reference", "fixtures", "properties", "pages")
CALLBACKS = tuple(ROOT / "honestloop" / "recorder" / name for name in ("hf.py", "lightning.py"))
"""Imported by who trains with the framework, so it is there."""


def test_grading_functions_needs_no_extra():
    """What the light install imports at the top of a file is among its own dependencies."""
    light = {canonicalize_name(name) for name in requirements(PROJECT["project"]["dependencies"])}
    providers = metadata.packages_distributions()
    for folder in LIGHT:
        for path in (ROOT / folder).rglob("*.py"):
            if {"controls", "subjects", "corpus", "wild"} & {*path.relative_to(ROOT).parts}:
                continue
            if path in CALLBACKS or path.is_relative_to(TEMPLATES):
                continue
            for node in ast.parse(path.read_text()).body:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
                for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
                    distributions = {canonicalize_name(d) for d in providers.get(name, [])}
                    assert not distributions or distributions & light, (
                        f"{path}: {name} is not in the light install"
                    )


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


def test_the_newest_entry_of_the_changes_is_this_version():
    titles = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert titles[0].rstrip(",") == PROJECT["project"]["version"]
