"""The pytest plugin: `pytest -p honestloop --pyargs honestloop.suite.properties --impl my_adapter`.

It orders properties as the table of rules is, grades the subject by `properties.grading`, and reports by rule: the ids
are keywords (`-k LOOP-02`), markers (`-m 'rule(id="LOOP-02")'`) and properties of the JUnit report.
"""

import gc
import os
import sys
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

from honestloop import guard, properties_page, supervision
from honestloop.protocol import ProtocolError, Subject
from honestloop.suite_location import DEFAULT_SUBJECT, INSTALLED, ROOT
from properties.checks import Property, property_of
from properties.grading import Grading, Outcome, Status, grouped, place
from properties.profiles import PROFILES
from properties.property_record import Record, running_test

GRADING = pytest.StashKey[Grading]()
OUTCOME = pytest.StashKey[Outcome]()
REPORTER = pytest.StashKey[tuple[supervision.Reporter, pytest.Session]]()
GRADED = pytest.StashKey[list[pytest.Item]]()
NOT_GRADED = pytest.StashKey[str]()
PAGE = pytest.StashKey[str]()
SESSION = pytest.StashKey[pytest.Session]()
TOLD = pytest.StashKey[dict[tuple[str, tuple[str, ...]], str]]()
"""(property, rules) -> the test that has said all that there is to say of their breakage."""
WORDS = {
    Status.BLOCKED: ("blocked", "b", "BLOCKED"),
    Status.NOT_OFFERED: ("not offered", "n", "NOT OFFERED"),
    Status.EXPECTED: ("expected failure", "e", "EXPECTED FAILURE"),
}
"""How pytest reports what is neither a pass nor a failure: category, letter, word."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """--impl, --profile, --margins, --time-limit, --page."""
    group = parser.getgroup("honestloop")
    group.addoption(
        "--impl", default=DEFAULT_SUBJECT, metavar="NAME", help="the subject: NAME.adapter, or NAME itself"
    )
    group.addoption("--profile", choices=sorted(PROFILES), help="number of Hypothesis examples (default dev)")
    group.addoption(
        "--margins",
        action="store_true",
        help="print the examples and the largest error / bound of every rule",
    )
    group.addoption(
        "--time-limit",
        type=float,
        default=guard.TIME_LIMIT,
        metavar="SECONDS",
        help="how long one call of the subject may take (default %(default)g)",
    )
    group.addoption(
        "--page",
        type=Path,
        metavar="FILE",
        help="where the page of the properties goes (in a clone runs/properties.html; installed, nowhere)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load the profile, and make the grading of this session. UsageError for an unknown profile."""
    config.addinivalue_line("markers", "rule(id): the rule of reference/rules.toml that a test checks")
    chosen = config.getoption("--profile") or os.environ.get("HYPOTHESIS_PROFILE") or "dev"
    if chosen not in PROFILES:
        raise pytest.UsageError(f"HYPOTHESIS_PROFILE={chosen}: choose one of {', '.join(sorted(PROFILES))}")
    for name, profile in PROFILES.items():
        hypothesis.settings.register_profile(name, profile)
    hypothesis.settings.load_profile(chosen)
    subject = Subject(
        config.getoption("--impl") or "", time_limit=config.getoption("--time-limit"), ends_process=True
    )
    config.stash[GRADING] = Grading(subject)
    config.stash[TOLD] = {}


@pytest.fixture(scope="session")
def subject(pytestconfig: pytest.Config) -> Subject:
    """The functions of the subject that `--impl` names."""
    return pytestconfig.stash[GRADING].subject


def pytest_report_header(config: pytest.Config) -> str:
    """The subject and the profile."""
    return f"subject: {config.getoption('--impl')}, profile: {hypothesis.settings.get_current_profile_name()}"


# ---- collecting


def pytest_itemcollected(item: pytest.Item) -> None:
    """Rule ids select a property, and stand beside it in the JUnit report."""
    if prop := _property(item):
        if _is_graded(
            item
        ):  # whatever the project's own settings make of warnings: those of a subject are its own
            item.add_marker(pytest.mark.filterwarnings("ignore"))
        for rule in prop.rules:
            item.extra_keyword_matches.add(rule)
            item.add_marker(pytest.mark.rule(id=rule))
            item.user_properties.append(("rule", rule))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests before properties as they are; properties in the order of the table of rules."""
    items.sort(key=lambda item: -1 if (prop := _property(item)) is None else place(prop))
    if not config.getoption("--impl") and any(map(_property, items)):
        raise pytest.UsageError("which subject? name its adapter: --impl my_adapter")


def _must_import(subject: Subject) -> None:
    """UsageError, one line, for a subject that is not there or cannot be imported; its warnings are its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            subject.offered  # noqa: B018
        except ProtocolError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_collection_finish() -> None:
    """Millions of objects come and go, hardly any in cycles: collecting garbage as often as usual only takes time."""
    gc.freeze()
    gc.set_threshold(10_000)


# ---- running


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, Any, Any]:
    """A session of properties alone runs in a child, which must prove that it came to the end."""
    if _is_supervised(session):
        split = supervision.fork()
        if not isinstance(split, supervision.Reporter):
            _leave(session.config, *split)
        found: tuple[supervision.Reporter, pytest.Session] = split, session
        session.config.stash[REPORTER] = found
    if any(map(_is_graded, session.items)) and not session.config.option.collectonly:
        _must_import(session.config.stash[GRADING].subject)
    return (yield)


def _is_supervised(session: pytest.Session) -> bool:
    """Whether it is what was typed, and all of it grades a subject."""
    option, typed = session.config.option, list(session.config.invocation_params.args) == sys.argv[1:]
    idle = option.collectonly or getattr(option, "usepdb", False) or getattr(option, "trace", False)
    graded = bool(session.items) and all(map(_is_graded, session.items))
    return graded and typed and not idle and supervision.is_possible()


def _leave(config: pytest.Config, status: int, line: str) -> NoReturn:
    """End the parent as its child has ended; all that there is to say, the child has said, or it is this line."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    if line:
        print(f"error: {line}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line of all, below pytest's own; then the end, which the parent waits for."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal and PAGE in config.stash:
        said, failed = (
            config.stash[GRADING].last_line(),
            config.stash[SESSION].exitstatus != pytest.ExitCode.OK,
        )
        left = "".join(f". {complaint}" for complaint in _complaints(config))
        page = f" {config.stash[PAGE]}" if config.stash[PAGE] else ""
        terminal.write_line(said + left + page, bold=True, **{"red" if failed else "green": True})
    if found := config.stash.get(REPORTER, None):
        reporter, session = found
        sys.stdout.flush()
        reporter.done(session.exitstatus)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Leave out what the subject does not offer, and what rests on a broken rule."""
    prop = _property(item)
    if prop is not None and "subject" in getattr(item, "fixturenames", ()):
        outcome = item.config.stash[GRADING].before(prop, _parameters(item))
        if outcome is not None:
            _report(item, outcome)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run the property; on a failure, say what the mistake looks like."""
    prop = _property(item)
    if prop is None:
        return (yield)
    grading, result = item.config.stash[GRADING], None
    reproduce = f'pytest "{running_test()}" --impl {grading.subject.name}'
    if INSTALLED:  # where the tests are is nobody's concern
        reproduce = grading.reproduction(prop)
    with grading.attempt(prop, Record(reproduce=reproduce)) as attempt:
        result = yield
    if found := item.config.stash.get(REPORTER, None):
        found[0].at(item.nodeid)
    _report(item, attempt.outcome)
    return result


def _report(item: pytest.Item, outcome: Outcome) -> None:
    """Say it as pytest does: return, or raise its failure or its skip.

    What a property has said of a rule it says once: of another dtype, only what differs.
    """
    item.stash[OUTCOME] = outcome
    item.user_properties.append(("outcome", str(outcome.status)))
    if outcome.status == Status.BROKEN:
        told = item.config.stash[TOLD]
        key = (getattr(item, "originalname", item.name), outcome.rules)
        first, said = told.setdefault(key, item.name), outcome.text
        if first != item.name and outcome.refusal is not None:
            found, *_ = outcome.refusal.found
            said = f"{outcome.refusal.rule}  as in {first}: {found}\n  reproduce: {outcome.refusal.reproduce}"
        pytest.fail(said, pytrace=False)
    if outcome.status != Status.HOLDS:
        pytest.skip(outcome.text)


def _property(item: pytest.Item) -> Property | None:
    return property_of(getattr(item, "obj", None))


def _is_graded(item: pytest.Item) -> bool:
    """Whether it is a property of the subject."""
    return _property(item) is not None and "subject" in getattr(item, "fixturenames", ())


def _parameters(item: pytest.Item) -> Mapping[str, Any]:
    """The values of a parametrised test, by argument."""
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec else {}


# ---- reporting


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """The report of a property carries its outcome, for the words below."""
    report = yield
    if report.skipped and OUTCOME in item.stash:
        report.outcome_of_property = item.stash[OUTCOME]
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, Any] | None:
    """Words of our own for a property that was blocked, is not offered, or fails as declared."""
    outcome = getattr(report, "outcome_of_property", None)
    if outcome is None:
        return None
    category, letter, word = WORDS[outcome.status]
    return category, letter, (word, {"yellow": True})


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """An expected failure that did not happen keeps the session from passing, as does what was not graded."""
    grading, option = session.config.stash[GRADING], session.config.option
    session.config.stash[SESSION] = session
    graded = [item for item in session.items if _is_graded(item)]
    session.config.stash[GRADED] = graded
    if (
        exitstatus != pytest.ExitCode.OK
        or not graded
        or option.collectonly
        or getattr(option, "setupplan", False)
    ):
        return
    # Counted here, whatever became of pytest's own reports.
    left_out = [item for item in graded if OUTCOME not in item.stash]
    if left_out:
        session.config.stash[NOT_GRADED] = f"not graded: {left_out[0].nodeid} (of {len(left_out)})"
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    elif not grading.any_graded:
        session.config.stash[NOT_GRADED] = "nothing was graded: the subject offers none of these functions"
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
    elif grading.unfulfilled(complete=False) or grading.broken or grading.missing:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was not graded and why, the margins if asked for, and the counts by rule."""
    write, grading = terminalreporter.write_line, config.stash[GRADING]
    for status in (Status.BLOCKED, Status.NOT_OFFERED, Status.EXPECTED):
        reports = terminalreporter.stats.get(WORDS[status][0], ())
        texts = [r.outcome_of_property.text for r in reports]
        if status == Status.NOT_OFFERED and texts and terminalreporter.verbosity <= 0:
            prefix = f"{status}: "
            write(prefix + "; ".join(dict.fromkeys(text.removeprefix(prefix) for text in texts)))
            continue
        for line in grouped(texts):
            write(line)
    if said := config.stash.get(NOT_GRADED, None):
        write(said, red=True)
    if not grading.any_graded:
        return
    if config.getoption("--margins"):
        terminalreporter.section("examples executed, and the largest error / bound, of every rule")
        for line in grading.margins_table():
            write(line)
    for line in grading.unfulfilled(complete=False):
        write(line, red=True)
    write(grading.summary())
    config.stash[PAGE] = _write_page(config)


def _complaints(config: pytest.Config) -> list[str]:
    """Why a session fails in which no rule is broken."""
    not_graded = config.stash.get(NOT_GRADED, None)
    return [*config.stash[GRADING].unfulfilled(complete=False), *([not_graded] if not_graded else [])]


def _write_page(config: pytest.Config) -> str:
    """Write the page of what was graded; the line that says where it is, or why it is not there."""
    path = config.getoption("--page") or (None if INSTALLED else ROOT / "runs" / "properties.html")
    if path is None:
        return ""
    grading, items = config.stash[GRADING], config.stash.get(GRADED, [])
    results = [(item.nodeid, item.stash[OUTCOME]) for item in items if OUTCOME in item.stash]
    profile = hypothesis.settings.get_current_profile_name()
    try:
        properties_page.write(path, grading, profile, results, _complaints(config))
    except OSError as error:
        return f"no page: {path}: {error.strerror}"
    return f"-> {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}"
