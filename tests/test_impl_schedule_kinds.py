"""The learning rate of every kind, over runs of a few updates and beyond their end."""

from itertools import pairwise
from typing import Any

import pytest

from impl.config import load
from impl.errors import UsageError
from impl.optim.schedule import Schedule, learning_rate

SHAPES = [
    (warmup, total, warmdown)
    for warmup in (0, 1, 4, 12, 20)
    for total in (1, 2, 12)
    for warmdown in (0.01, 0.65, 1.0)
]


def rates(kind, warmup, total, warmdown, beyond=3):
    schedule = Schedule(peak=1.0, floor=0.125, warmup=warmup, total=total, kind=kind, warmdown=warmdown)
    return [schedule.next_rate() for _ in range(total + beyond)]


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "warmdown"])
@pytest.mark.parametrize(("warmup", "total", "warmdown"), SHAPES)
def test_a_rate_rises_once_is_never_zero_and_ends_at_the_floor(kind, warmup, total, warmdown):
    got = rates(kind, warmup, total, warmdown)
    warm = min(warmup, total)
    assert all(0.0 < rate <= 1.0 for rate in got)
    assert got[:warm] == [(s + 1) / warm for s in range(warm)]
    assert all(b <= a for a, b in pairwise(got[max(warm - 1, 0) :]))
    if kind == "constant":
        assert set(got[warm:]) == {1.0}
    elif kind == "cosine" or warm == total or round(warmdown * total) or kind == "linear":
        assert got[total:] == [0.125] * 3
        assert warm == total or got[total - 1] == 0.125


def test_lines_and_plateaus_by_hand():
    assert rates("linear", 0, 7, 0.65, 0) == [0.125 + 0.875 * k / 7 for k in (6, 5, 4, 3, 2, 1, 0)]
    assert rates("warmdown", 2, 8, 0.5, 1) == [0.5, 1.0, 1.0, 1.0, 0.78125, 0.5625, 0.34375, 0.125, 0.125]


def test_the_default_kind_is_the_schedule_that_was():
    shape: dict[str, Any] = {"peak": 0.004, "floor": 0.0001, "warmup": 50, "total": 600}
    schedule = Schedule(**shape)
    assert [schedule.next_rate() for _ in range(603)] == [learning_rate(s, **shape) for s in range(603)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[schedule]\nby = "time"', "is for kind"),
        ('[schedule]\nkind = "warmdown"\nby = "time"', "needs stopping.seconds"),
        ("[schedule]\nwarmup = 0.5", "must not be more than the run"),
        ("[stopping]\nwindow = 1", "stopping.window"),
        ("[average]\nweights = 1.0", "average.weights"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(tmp_path, text, said):
    file = tmp_path / "config.toml"
    file.write_text(text + "\n")
    with pytest.raises(UsageError, match=said):
        load(file)
