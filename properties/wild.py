"""The suite on loops that others wrote (fixtures/wild), and the reproduction of what was found in each.

    python -m properties.wild                               all that can be run here
    python -m properties.wild trainer lightning             these
    python -m properties.wild --json docs/measured/wild.json

Each loop is graded in a process of its own, with a few examples that are always the same, and must fail where
findings.toml says so and nowhere else. Exit status 1 if one does not, or if a reproduction no longer shows its finding;
2 if a loop cannot be run: a package is missing, or the folder of a repository.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from fixtures.wild.findings import Finding, findings, reproduce
from fixtures.wild.table import LOOPS, WildLoop
from honestloop.suite_location import in_suite

PROFILE = "few"
SECONDS = 600.0
"""That a call may take."""


def missing(loop: WildLoop) -> str:
    """What is not there of all that the loop needs, in a line; empty if nothing."""
    for package in loop.packages:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            return f"{package} is not installed: make wild, or pip install -r requirements-wild.txt"
    if not loop.variable:
        return ""
    folder = os.environ.get(loop.variable)
    if not folder:
        return f"{loop.variable} is not set: name a folder with {loop.repository}"
    if not (Path(folder) / loop.file).is_file():
        return f"{loop.variable}={folder}: there is no {loop.file} in it; it must be {loop.repository}"
    return ""


def graded(name: str, *options: str) -> dict[str, Any]:
    """The report of `honestloop check` on a loop, in a process of its own. RuntimeError if it wrote none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "honestloop",
            "check",
            in_suite(f"fixtures.wild.{name}"),
        ]
        command += ["--profile", PROFILE, "--time-limit", str(SECONDS), "--json", str(path), *options]
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=sys.stderr, check=False
        )
        if not path.is_file():
            raise RuntimeError(f"{name}: honestloop check ended with status {done.returncode} and no report")
        return json.loads(path.read_text(encoding="utf-8"))


def of(name: str) -> list[Finding]:
    """What was found in a loop."""
    return [finding for finding in findings().values() if finding.loop == name]


def measured(name: str) -> dict[str, Any]:
    """What became of a loop's rules, with the versions and what the reproductions print."""
    report = graded(name)
    shown = {f.id: reproduce(f) for f in of(name) if f.script}
    return {
        "loop": name,
        "versions": {package: metadata.version(package) for package in LOOPS[name].packages},
        "repository": LOOPS[name].repository,
        "status": report["status"],
        "rules": report["rules"],
        "broken": report["broken"],
        "unfulfilled": report["unfulfilled"],
        "reproductions": {id: {"shown": ok, "output": text} for id, (ok, text) in shown.items()},
    }


def problems(result: dict[str, Any]) -> list[str]:
    """A line for each thing that is not as the page says."""
    lines = [f"{result['loop']}: broke {rule}, which no finding names" for rule in result["broken"]]
    lines += [f"{result['loop']}: {line}" for line in result["unfulfilled"]]
    return lines + [
        f"{result['loop']}: {id} is no longer shown: {one['output'].splitlines()[-1:]}"
        for id, one in result["reproductions"].items()
        if not one["shown"]
    ]


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status: 1 if a page is wrong, 2 if it was used wrongly, 3 if nothing was graded."""
    parser = argparse.ArgumentParser(
        prog="python -m properties.wild", description="Grade loops that others wrote."
    )
    parser.add_argument(
        "loops", nargs="*", metavar="LOOP", help=f"of {', '.join(LOOPS)}; all that can run if none"
    )
    parser.add_argument(
        "--json", type=Path, help="write what was measured; loops that were not asked for are kept"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.loops if name not in LOOPS]:
        parser.error(f"there is no loop {unknown[0]!r}; there are {', '.join(LOOPS)}")
    cannot = {name: missing(LOOPS[name]) for name in options.loops or LOOPS}
    for name in [name for name, reason in cannot.items() if reason]:
        print(f"{'error' if options.loops else 'left out'}: {name}: {cannot[name]}", file=sys.stderr)
    if options.loops and any(cannot.values()):
        return 2
    if all(cannot.values()):
        print("error: no loop could be run, so nothing was graded", file=sys.stderr)
        return 3
    results = [measured(name) for name, reason in cannot.items() if not reason]
    lines = [line for result in results for line in problems(result)]
    if options.json:
        write(options.json, results)
    print("\n".join(lines or [f"{len(results)} loops: as docs/wild.md says"]))
    return 1 if lines else 0


def write(path: Path, results: list[dict[str, Any]]) -> None:
    """Replace these loops in the file, and keep the others."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept |= {result["loop"]: result for result in results}
    ordered = {name: kept[name] for name in LOOPS if name in kept}
    path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
