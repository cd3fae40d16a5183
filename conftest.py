"""Options of the whole suite: which subject is graded, and how many examples a property is tried on.

`--impl NAME` names the subject (default `impl`). `--profile NAME`, or the environment variable HYPOTHESIS_PROFILE,
chooses dev (seconds), ci (derandomised) or nightly (many examples). `--margins` prints, for every rule, the largest
error seen as a share of its bound.
"""

import os

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings

from fixtures import protocol
from properties import assertions

# Hypothesis's explanation of a failure runs the property many more times; the rule's message says more.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
PROFILES = {
    "dev": settings(
        max_examples=20, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow]
    ),
    "ci": settings(
        max_examples=60, deadline=None, phases=PHASES, derandomize=True, database=None, print_blob=True
    ),
    "nightly": settings(
        max_examples=2000, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow]
    ),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("honestloop")
    group.addoption(
        "--impl", default="impl", metavar="NAME", help="the subject: NAME.adapter, or NAME itself"
    )
    group.addoption("--profile", choices=sorted(PROFILES), help="number of Hypothesis examples (default dev)")
    group.addoption("--margins", action="store_true", help="print the largest error / bound of every rule")


def pytest_configure(config: pytest.Config) -> None:
    for name, profile in PROFILES.items():
        settings.register_profile(name, profile)
    chosen = config.getoption("--profile") or os.environ.get("HYPOTHESIS_PROFILE") or "dev"
    if chosen not in PROFILES:
        raise pytest.UsageError(f"HYPOTHESIS_PROFILE={chosen}: choose one of {', '.join(sorted(PROFILES))}")
    settings.load_profile(chosen)
    assertions.subject_name = config.getoption("--impl")


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> protocol.Subject:
    """The functions of the subject that `--impl` names."""
    return protocol.Subject(request.config.getoption("--impl"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that uses a function the subject lacks fails here, with one line, before any example is drawn."""
    if not isinstance(item, pytest.Function) or "subject" not in item.fixturenames:
        return
    test = getattr(item.obj, "hypothesis", None)
    code = (test.inner_test if test else item.obj).__code__
    graded = protocol.Subject(item.config.getoption("--impl"))
    try:
        for function in protocol.FUNCTIONS.keys() & set(code.co_names):
            graded.find(function)
    except protocol.ProtocolError as error:
        pytest.fail(str(error), pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--margins") and assertions.margins:
        terminalreporter.section("largest error / bound of every rule")
        for (rule, dtype), ratio in sorted(assertions.margins.items()):
            terminalreporter.write_line(f"{rule:10} {dtype:8} {ratio:.2e}")
    elif config.getoption("--margins"):
        terminalreporter.write_line("no numeric rule ran")


def pytest_report_header(config: pytest.Config) -> str:
    return f"subject: {config.getoption('--impl')}, profile: {hypothesis.settings.get_current_profile_name()}"
