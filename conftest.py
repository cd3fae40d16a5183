"""Options of the whole suite: which subject is graded, and how many examples a property is tried on.

`--impl NAME` names the subject (default `impl`). `--profile NAME`, or the environment variable HYPOTHESIS_PROFILE,
chooses dev (seconds), ci (derandomised) or nightly (many examples). `--margins` prints, for every rule, the examples
that were executed and the largest error seen as a share of its bound.
"""

import gc
import os

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings

from honestloop import guard, protocol
from properties import assertions, grading

# Hypothesis's explanation of a failure runs the property many more times; the rule's message says more.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
COMMON = settings(deadline=None, phases=PHASES, report_multiple_bugs=False)
PROFILES = {
    "dev": settings(COMMON, max_examples=20, suppress_health_check=[HealthCheck.too_slow]),
    "ci": settings(COMMON, max_examples=60, derandomize=True, database=None, print_blob=True),
    "nightly": settings(COMMON, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("honestloop")
    group.addoption(
        "--impl", default="impl", metavar="NAME", help="the subject: NAME.adapter, or NAME itself"
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


def pytest_configure(config: pytest.Config) -> None:
    for name, profile in PROFILES.items():
        settings.register_profile(name, profile)
    chosen = config.getoption("--profile") or os.environ.get("HYPOTHESIS_PROFILE") or "dev"
    if chosen not in PROFILES:
        raise pytest.UsageError(f"HYPOTHESIS_PROFILE={chosen}: choose one of {', '.join(sorted(PROFILES))}")
    settings.load_profile(chosen)
    assertions.subject_name = config.getoption("--impl")
    subject = protocol.Subject(config.getoption("--impl"), config.getoption("--time-limit"))
    config.pluginmanager.register(grading.Grading(subject), "honestloop-grading")


def pytest_collection_finish() -> None:
    """Millions of objects come and go, hardly any in cycles: to look for these as often as usual is time lost."""
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> protocol.Subject:
    """The functions of the subject that `--impl` names."""
    plugin = request.config.pluginmanager.get_plugin("honestloop-grading")
    assert isinstance(plugin, grading.Grading)
    return plugin.graded


def pytest_report_header(config: pytest.Config) -> str:
    return f"subject: {config.getoption('--impl')}, profile: {hypothesis.settings.get_current_profile_name()}"
