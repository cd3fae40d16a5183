"""What makes pytest a gate: start the runs that the selected tests need, collect findings, speak the verdict."""

import os
import secrets
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures.controls.shared.table import ControlError
from gates.end_signals import EndSignals
from gates.errors import GateError
from gates.judge.scoring import ReferenceScorer
from gates.run_selection import gate_of_test, select_tests, start_runs
from gates.subject.judged_run import judged_run
from gates.subject.offers import adapter_of, left_out, not_offered
from gates.subject.pool import Pool
from gates.subject.process import Process
from gates.subject.session import Session
from gates.verdict import files
from gates.verdict.definition import control, controls
from gates.verdict.finding import Finding
from gates.verdict.outcome import FAILED, PASSED, Verdict, refused
from gates.verdict.printing import print_summary, print_verdict, progress_of
from honestloop.description import Level, describe, must_be_there
from honestloop.guarded_files import UnreadableError, printable
from honestloop.here_and_now import machine_name, started_at
from honestloop.protocol import ProtocolError
from honestloop.run_files import read_run
from honestloop.suite_location import ROOT

LONGEST = 500
"""Characters of what a test that did not pass said."""
KEPT_SESSIONS = 3  # directories of the last sessions are kept for inspection, older ones are removed
# What files of another form make of those who read them.
NOT_AS_AGREED = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
SESSION_NAMES = "[0-9]" * 8 + "-" + "[0-9]" * 6 + "-*"

VERDICT = pytest.StashKey[Verdict]()
SESSION = pytest.StashKey[Session]()
JUDGING = pytest.StashKey[bool]()
SIGNALS = pytest.StashKey[EndSignals]()
FINISHED = pytest.StashKey[pytest.Session]()
SAID = pytest.StashKey[dict[Path, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gates")
    where = "where runs, verdict and badge go (runs)"
    group.addoption("--runs", type=Path, default=ROOT / "runs", metavar="DIR", help=where)
    group.addoption(
        "--blind-seed", type=int, metavar="N", help="seed of the blind split (default: fresh entropy)"
    )
    group.addoption(
        "--kill-seed", type=int, metavar="N", help="seed of the moments of SIGKILL (default: fresh entropy)"
    )
    group.addoption(
        "--all-controls", action="store_true", help="try every negative control, not only a selection"
    )
    group.addoption(
        "--every-event",
        action="store_true",
        help="resume after a kill at every file event, not at a drawn sample",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*jobs): the runs of gates/subject/jobs.py that a gate's test looks at"
    )
    config.addinivalue_line("markers", "establishes(check): the test goes where the check is not asked")
    subject = config.getoption("--impl", default=None)
    if subject is None:
        raise pytest.UsageError("which subject? name its module: --impl my_pkg")
    seeds = [config.getoption(name, default=None) for name in ("--blind-seed", "--kill-seed")]
    blind, kill = (secrets.randbits(32) if seed is None else seed for seed in seeds)
    runs = config.getoption("--runs", default=ROOT / "runs").resolve()
    home = runs / "gates" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    config.stash[JUDGING] = False
    config.stash[SIGNALS] = EndSignals(lambda name: _interrupt(config, name))
    try:
        controls()
        description = must_be_there(describe(subject))
        adapter = adapter_of(description)
    except (ControlError, ProtocolError) as error:
        raise pytest.UsageError(str(error)) from None
    every = bool(config.getoption("--every-event", default=False))
    config.stash[SESSION] = Session(description, home, blind, kill, every)
    config.stash[VERDICT] = Verdict(
        subject,
        facts={"runs": str(home), "started_at": started_at(), "machine": machine_name()},
        all_controls=bool(config.getoption("--all-controls", default=False)),
        expected=description.expected,
        level=description.level,
        adapter=adapter is not None,
        own_generator=description.conventions.generator == "own",
        not_handed_over=not_offered(description, adapter),
        left_out=left_out(description),
    )


def pytest_report_header(config: pytest.Config) -> str:
    subject = config.stash[SESSION].subject
    return (
        f"gates: {subject} is trained, stopped, killed and resumed, two runs at a time; this takes minutes; "
        "the seeds are told at the end, when no subject runs any more"
    )


# Which runs to start


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Put the gates' tests in order; those of controls that are not tried go."""
    verdict = session.config.stash[VERDICT]
    items[:], left_out = select_tests(items, verdict.controls, verdict.gates)
    session.config.hook.pytest_deselected(items=left_out)
    asked = {gate_of_test(item) for item in items}
    verdict.unasked = frozenset(g.name for g in verdict.gates if g.name not in asked)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Whether there will be a verdict. If so, the one before no longer holds, even if this session is killed."""
    gates = any(gate_of_test(item) for item in session.items)
    session.config.stash[JUDGING] = not session.config.option.collectonly and bool(
        gates or session.testsfailed
    )
    if session.config.stash[JUDGING]:
        try:
            _write(session.config)
        except OSError as error:
            place = error.filename or session.config.stash[SESSION].runs
            raise pytest.UsageError(f"--runs: {place}: {error.strerror}") from None
        session.config.stash[SIGNALS].watch()


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, session: Session) -> Iterator[Pool]:
    """Results of the jobs that a test is marked to need; asking for one waits for it.

    The first test to ask starts every run that any selected test needs, in the order of the tests.
    """
    pool = start_runs(request.session.items, session, progress_of(request.config))
    yield pool
    Process.kill_the_rest()
    pool.close()
    request.config.stash[VERDICT].facts["seconds"] = pool.seconds


# What else a gate's test gets


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Session:
    """The subject, the committed corpus, the seeds."""
    return pytestconfig.stash[SESSION]


@pytest.fixture(scope="session")
def scorer(session: Session) -> ReferenceScorer:
    """The gate's own tokenizer and scorer for the committed split."""
    return ReferenceScorer(session.committed["train"])


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
    except (GateError, UnreadableError, OSError) as error:
        said = f"GATE {where} / run: no evidence; got {printable(error)}, expected a run to judge"
        raise pytest.fail.Exception(said, pytrace=False) from None
    except NOT_AS_AGREED as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = (
            f"GATE {where} / run: evidence is not of the agreed form; got {printable(repr(error))[:300]} at "
            f"{place.filename}:{place.lineno}, expected the files of a run directory, each with its fields"
        )
        raise pytest.fail.Exception(said, pytrace=False) from None


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    with _evidence(str(gate_of_test(pyfuncitem))):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _evidence(str(gate_of_test(item))):
        return (yield)


# The verdict


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A test of a gate that failed, broke or was skipped keeps the gate from passing."""
    report = yield
    if (gate := gate_of_test(item)) and report.outcome != "passed":
        said = "" if call.excinfo is None else printable(str(call.excinfo.value))
        item.config.stash[VERDICT].record_broken(gate, f"{item.name}: {report.outcome}", said[:LONGEST])
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, Any, Any]:
    """The session fails unless the verdict is PASSED: what was not selected did not run, and so did not pass."""
    config = session.config
    if not config.stash[JUDGING]:
        return (yield)
    config.stash[SIGNALS].over()
    result = yield  # the runs are over then
    Process.kill_the_rest()  # ... also where the session was ended while they were being started
    verdict, context = config.stash[VERDICT], config.stash[SESSION]
    # Not earlier: a subject that knew the seeds would know what it is going to be asked.
    seeds = {"blind_seed": context.blind_seed, "kill_seed": context.kill_seed}
    verdict.facts |= {**seeds, "repeat": _repeat(context)}
    if verdict.level < Level.PHASE_18:
        verdict.unjudged = tuple(verb for verb in context.description.commands if verb not in context.asked)
    verdict.notes.append(f"to repeat this: {_repeat(context)}; runs are in {context.home}")
    try:
        _write(config)
        if verdict.all_controls:
            files.write_controls(verdict, context.runs)
        _compare(config)
    except OSError as error:
        verdict.file_problems.append(
            f"GATE verdict / files: not written; got {error}, expected a folder with room"
        )
    passed = verdict.overall == PASSED
    if exitstatus == pytest.ExitCode.OK and not passed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    config.stash[FINISHED] = session
    _tidy(context.home, passed=passed)
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table. A session that broke while collecting is a verdict too."""
    if not config.stash[JUDGING]:
        return
    print_verdict(config.stash[VERDICT], terminalreporter)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last thing of all: the files still say what was found."""
    config.stash[SIGNALS].restore()
    session = config.stash.get(FINISHED, None)
    if session is None:
        return
    verdict = config.stash[VERDICT]
    if not verdict.file_problems:
        _compare(config)
        for line in verdict.file_problems:
            print(line, file=sys.stderr)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    page = config.stash[SESSION].runs / files.PAGE
    here = page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page
    print_summary(verdict, config, str(here))


def _compare(config: pytest.Config) -> None:
    """If somebody else has written to the verdict's files, that is its verdict. OSError if it cannot be written."""
    verdict = config.stash[VERDICT]
    verdict.file_problems += files.changed(config.stash[SAID])
    if verdict.file_problems:
        _write(config)


def _interrupt(config: pytest.Config, name: str) -> None:
    config.stash[VERDICT].interrupted = name


def _write(config: pytest.Config) -> None:
    """The verdict so far, and the files that a badge is made from."""
    session = config.stash[SESSION]
    place, layout = judged_run(session), session.description.run
    run = None if place is None else read_run(place, "the judged run", layout.log, layout.manifest)
    config.stash[SAID] = files.write(config.stash[VERDICT], session.runs, run)


def _repeat(session: Session) -> str:
    seeds = f"--blind-seed {session.blind_seed} --kill-seed {session.kill_seed}"
    return f"pytest gates/ --impl {session.description.name} {seeds}"


def _tidy(home: Path, *, passed: bool) -> None:
    """After a pass keep only the run that the verdict is about; remove what sessions long past left."""
    if passed:
        for path in home.iterdir():
            if path.name != "committed":
                shutil.rmtree(path, ignore_errors=True)
    sessions = sorted(home.parent.glob(SESSION_NAMES))
    for path in sessions[:-KEPT_SESSIONS]:
        shutil.rmtree(path, ignore_errors=True)
