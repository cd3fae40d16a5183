"""What makes pytest a gate: start the runs that the selected tests need, collect findings, speak the verdict."""

import os
import secrets
import shutil
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures.controls.shared.table import ControlError
from gates.errors import GateError
from gates.judge.scoring import ReferenceScorer
from gates.subject.grading import Grading
from gates.subject.jobs import all_jobs
from gates.subject.pool import Pool
from gates.subject.process import Process
from gates.verdict import files
from gates.verdict.definition import GATES, control, controls, gate_of
from gates.verdict.finding import Finding
from gates.verdict.table import table
from gates.verdict.verdict import FAILED, PASSED, Verdict, refused
from honestloop.protocol import ProtocolError
from honestloop.subject_file import expected_of
from honestloop.suite_location import ROOT

HERE = Path(__file__).parent
MOST_RUNS = "resume"
KEPT_SESSIONS = 3  # directories of the last sessions are kept for inspection, older ones are removed
SESSION_NAMES = "[0-9]" * 8 + "-" + "[0-9]" * 6 + "-*"

VERDICT = pytest.StashKey[Verdict]()
GRADING = pytest.StashKey[Grading]()
JUDGING = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gates")
    group.addoption(
        "--runs",
        type=Path,
        default=ROOT / "runs",
        metavar="DIR",
        help="where runs, verdict and badge go (runs)",
    )
    group.addoption(
        "--blind-seed", type=int, metavar="N", help="seed of the blind split (default: fresh entropy)"
    )
    group.addoption(
        "--kill-seed", type=int, metavar="N", help="seed of the moments of SIGKILL (default: fresh entropy)"
    )
    group.addoption(
        "--all-controls", action="store_true", help="try every negative control, not only a selection"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*jobs): the runs of gates/subject/jobs.py that a gate's test looks at"
    )
    subject = config.getoption("--impl", default=None)
    if subject is None:
        raise pytest.UsageError("which subject? name its module: --impl my_pkg")
    seeds = [config.getoption(name, default=None) for name in ("--blind-seed", "--kill-seed")]
    blind, kill = (secrets.randbits(32) if seed is None else seed for seed in seeds)
    runs = config.getoption("--runs", default=ROOT / "runs").resolve()
    home = runs / "gates" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    config.stash[GRADING] = Grading(subject, home, blind, kill)
    config.stash[JUDGING] = False
    try:
        controls()
        expected = expected_of(subject)
    except (ControlError, ProtocolError) as error:
        raise pytest.UsageError(str(error)) from None
    facts = {"blind_seed": blind, "kill_seed": kill, "runs": str(home)}
    everything = bool(config.getoption("--all-controls", default=False))
    config.stash[VERDICT] = Verdict(subject, facts=facts, all_controls=everything, expected=expected)


def pytest_report_header(config: pytest.Config) -> str:
    return f"gates: {_repeat(config.stash[GRADING])}"


# Which runs to start


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Gates after all other tests, because their runs take the whole machine; the one with the most runs last.

    While its runs go on, the numbers of the others are recomputed. Controls that are not tried go.
    """
    tried = {f"control/{c.name}" for c in session.config.stash[VERDICT].controls}
    left_out = [
        i for i in items if _gate(i) and any(n[:8] == "control/" and n not in tried for n in _needs(i))
    ]
    session.config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    order = [None, *(g.name for g in GATES if g.name != MOST_RUNS), MOST_RUNS]
    items.sort(key=lambda item: order.index(_gate(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Whether there will be a verdict. If so, the one before no longer holds, even if this session is killed."""
    gates = any(_gate(item) for item in session.items)
    session.config.stash[JUDGING] = not session.config.option.collectonly and bool(
        gates or session.testsfailed
    )
    if session.config.stash[JUDGING]:
        _write(session.config)


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, grading: Grading) -> Iterator[Pool]:
    """Results of the jobs that a test is marked to need; asking for one waits for it.

    The first test to ask starts every run that any selected test needs, in the order of the tests.
    """
    items = [item for item in request.session.items if _gate(item)]
    pool = Pool(all_jobs(grading, controls()), [name for item in items for name in _needs(item)])
    yield pool
    Process.kill_the_rest()
    pool.close()
    request.config.stash[VERDICT].facts["seconds"] = pool.seconds


# What else a gate's test gets


@pytest.fixture(scope="session")
def grading(pytestconfig: pytest.Config) -> Grading:
    """The subject, the committed corpus, the seeds."""
    return pytestconfig.stash[GRADING]


@pytest.fixture(scope="session")
def scorer(grading: Grading) -> ReferenceScorer:
    """The gate's own tokenizer and scorer for the committed split."""
    return ReferenceScorer(grading.committed["train"])


@pytest.fixture
def accept(pytestconfig: pytest.Config) -> Callable[[Finding], None]:
    """Record a finding about the subject; it must pass, or fail as the subject declares."""

    def accept(finding: Finding) -> None:
        verdict = pytestconfig.stash[VERDICT]
        verdict.record(finding)
        if verdict.of_check(finding.where) == FAILED:
            pytest.fail(finding.message, pytrace=False)

    return accept


@pytest.fixture
def refuse(pytestconfig: pytest.Config) -> Callable[[str, Finding], None]:
    """Record a finding about a negative control; it must be refused, by the right check, for its fault."""

    def refuse(name: str, finding: Finding) -> None:
        pytestconfig.stash[VERDICT].record_control(name, finding)
        if not refused(name, finding):
            expected = control(name)
            got = finding.message if not finding.passed else f"accepted by {finding.where} ({finding.figure})"
            pytest.fail(
                f"GATE {expected.gate} / control {name}: a wrong subject ({expected.wrong}) was not refused for "
                f"it; got {got}, expected a refusal by {expected.check} that says {expected.because!r}",
                pytrace=False,
            )

    return refuse


@pytest.fixture
def note(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Have a line printed under the verdict."""
    return pytestconfig.stash[VERDICT].notes.append


@contextmanager
def _evidence(where: str) -> Iterator[None]:
    """Missing or unreadable evidence fails in one line, in the same grammar as a finding."""
    try:
        yield
    except GateError as error:
        pytest.fail(f"GATE {where} / run: no evidence; got {error}, expected a run to judge", pytrace=False)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        pytest.fail(
            f"GATE {where} / run: evidence is not of the agreed form; got {error!r} at "
            f"{place.filename}:{place.lineno}, expected the files of a run directory, each with its fields",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    with _evidence(str(_gate(pyfuncitem))):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Iterator[None]:
    with _evidence(str(_gate(request._pyfuncitem))):
        return (yield)


# The verdict


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A test of a gate that failed, broke or was skipped keeps the gate from passing."""
    report = yield
    if (gate := _gate(item)) and report.outcome != "passed":
        item.config.stash[VERDICT].record_broken(gate, f"{item.name}: {report.outcome}")
    return report


@pytest.hookimpl(trylast=True)  # after the runs are over
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The session fails unless the verdict is PASSED: what was not selected did not run, and so did not pass."""
    config = session.config
    if not config.stash[JUDGING]:
        return
    verdict, grading = config.stash[VERDICT], config.stash[GRADING]
    verdict.notes.append(f"to repeat this: {_repeat(grading)}; runs are in {grading.home}")
    _write(config)
    if verdict.all_controls:
        files.write_controls(verdict, grading.home.parents[1])
    passed = verdict.overall == PASSED
    if exitstatus == pytest.ExitCode.OK and not passed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    _tidy(grading.home, passed=passed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table. A session that broke while collecting is a verdict too."""
    if not config.stash[JUDGING]:
        return
    width = max(shutil.get_terminal_size().columns, 110)
    terminalreporter.section("verdict")
    for line in table(config.stash[VERDICT], width).splitlines():
        colour = {
            "red": "FAILED" in line or "ACCEPTED" in line,
            "yellow": "NOT RUN" in line or "EXPECTED" in line,
        }
        terminalreporter.write_line(line, **colour)


def _write(config: pytest.Config) -> None:
    """The verdict so far, and the files that a badge is made from."""
    files.write(config.stash[VERDICT], config.stash[GRADING].home.parents[1])


def _repeat(grading: Grading) -> str:
    seeds = f"--blind-seed {grading.blind_seed} --kill-seed {grading.kill_seed}"
    return f"pytest gates/ --impl {grading.subject} {seeds}"


def _needs(item: pytest.Item) -> list[str]:
    """The jobs that a test looks at."""
    return [name for mark in item.iter_markers("needs") for name in mark.args]


def _gate(item: pytest.Item) -> str | None:
    """The gate an item belongs to, None for a test of something else."""
    return gate_of(item.path.name) if item.path.parent == HERE else None


def _tidy(home: Path, *, passed: bool) -> None:
    """After a pass keep only the run that the verdict is about; remove what sessions long past left."""
    if passed:
        for path in home.iterdir():
            if path.name != "committed":
                shutil.rmtree(path)
    sessions = sorted(home.parent.glob(SESSION_NAMES))
    for path in sessions[:-KEPT_SESSIONS]:
        shutil.rmtree(path, ignore_errors=True)
