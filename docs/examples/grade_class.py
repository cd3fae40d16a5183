"""Grade a folder of submissions, a process each: a report a student, and a table of what became of every rule.

    python grade_class.py submissions reports              each folder or file below submissions/ is an adapter
    python grade_class.py submissions reports -r LOOP -r OPT --seconds 600

Whatever stands behind the two folders is handed to `honestloop check`. reports/NAME.json is what it found, NAME.txt
what it said; reports/table.csv has a row a student. What could not be graded is told apart from what is wrong.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

WORDS = ("holds", "broken", "blocked", "not offered", "expected failure")
STATUS = {
    0: "held",
    1: "broken",
    2: "wrong use",
    3: "nothing graded",
    4: "cannot be imported",
    5: "grader's error",
}


def grade(submission, report, seconds, options):
    """One submission, in a process of its own that inherits no secrets; how it ended, in a word or two."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-m", "honestloop", "check", submission.name, "--json", str(report), *options]
    with report.with_suffix(".txt").open("w") as said:
        try:
            done = subprocess.run(
                command,
                cwd=submission.parent,
                env={**kept, "HOME": str(report.parent)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"not done within {seconds:.0f} s"
    return STATUS.get(done.returncode, f"ended by {done.returncode}")


def row(submission, reports, seconds, options):
    """A row of the table: name, how it ended, how many rules of each word, and the broken ones."""
    report = reports / f"{submission.stem}.json"
    report.unlink(missing_ok=True)  # of the last time
    ended = grade(submission, report, seconds, options)
    rules = json.loads(report.read_text())["rules"] if report.exists() else {}
    count = Counter(rules.values())
    broken = " ".join(rule for rule, word in rules.items() if word == "broken")
    return [submission.stem, ended, *(count[word] for word in WORDS), broken]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("submissions", type=Path)
    parser.add_argument("reports", type=Path)
    parser.add_argument("--seconds", type=float, default=900, help="for one submission (900)")
    given, options = parser.parse_known_args()
    given.reports.mkdir(parents=True, exist_ok=True)
    reports = given.reports.resolve()
    below = sorted(given.submissions.resolve().iterdir())
    found = [path for path in below if path.suffix == ".py" or (path / "__init__.py").exists()]
    table = [["student", "ended", *WORDS, "broken rules"]]
    for submission in found:
        table.append(row(submission, reports, given.seconds, options))
        print("\t".join(map(str, table[-1])), flush=True)
    with (reports / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)


if __name__ == "__main__":
    main()
