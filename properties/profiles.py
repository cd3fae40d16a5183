"""How many examples a property is tried on: dev (seconds), ci (the same ones every time), nightly (many).

few: for loops whose every run takes a second; the same ones every time, and a failing one is not made smaller.
"""

from hypothesis import HealthCheck, Phase, settings

# Hypothesis's explanation of a failure runs the property many more times; the rule's message says more.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
COMMON = settings(deadline=None, phases=PHASES, report_multiple_bugs=False)
PROFILES = {
    "dev": settings(COMMON, max_examples=20, suppress_health_check=[HealthCheck.too_slow]),
    "ci": settings(COMMON, max_examples=60, derandomize=True, database=None, print_blob=True),
    "few": settings(
        COMMON,
        max_examples=4,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    ),
    "nightly": settings(COMMON, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]),
}
