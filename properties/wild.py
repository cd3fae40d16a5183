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

from hypothesis import HealthCheck, Phase, settings

from fixtures.wild.findings import Finding, findings, reproduce
from fixtures.wild.table import LOOPS, WildLoop
from honestloop.checking import Result, check
from honestloop.suite_location import in_suite
from properties.profiles import PROFILES

EXAMPLES = 4
PROFILE = "wild"
"""So many examples, always the same, and none is shrunk: a framework takes a second for a run of a few updates."""
PHASES = (Phase.explicit, Phase.generate)


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


def graded(name: str, rules: list[str] | None = None, examples: int = EXAMPLES) -> dict[str, Any]:
    """The report of the suite on a loop, in this process."""
    PROFILES[PROFILE] = settings(
        PROFILES["ci"],
        max_examples=examples,
        phases=PHASES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    report = check(in_suite(f"fixtures.wild.{name}"), rules, PROFILE, time_limit=600.0, on_result=told)
    print(report, file=sys.stderr)
    return report.as_dict()


def told(result: Result) -> None:
    """A line on stderr for each property as it is graded."""
    print(f"{result.test}: {result.outcome.status}", file=sys.stderr, flush=True)


def of(name: str) -> list[Finding]:
    """What was found in a loop."""
    return [finding for finding in findings().values() if finding.loop == name]


def in_a_process(name: str) -> dict[str, Any]:
    """`graded` in a process of its own, with the versions and what the reproductions print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, "-m", in_suite("properties.wild"), name, "--report", str(path)]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
        report = json.loads(path.read_text(encoding="utf-8"))
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
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m properties.wild", description="Grade loops that others wrote."
    )
    parser.add_argument(
        "loops", nargs="*", metavar="LOOP", help=f"of {', '.join(LOOPS)}; all that can run if none"
    )
    parser.add_argument(
        "--json", type=Path, help="write what was measured; loops that were not asked for are kept"
    )
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.loops if name not in LOOPS]:
        parser.error(f"there is no loop {unknown[0]!r}; there are {', '.join(LOOPS)}")
    if options.report:
        options.report.write_text(json.dumps(graded(options.loops[0])), encoding="utf-8")
        return 0
    cannot = {name: missing(LOOPS[name]) for name in options.loops or LOOPS}
    for name in [name for name, reason in cannot.items() if reason]:
        print(f"{'error' if options.loops else 'left out'}: {name}: {cannot[name]}", file=sys.stderr)
    if options.loops and any(cannot.values()):
        return 2
    results = [in_a_process(name) for name, reason in cannot.items() if not reason]
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
