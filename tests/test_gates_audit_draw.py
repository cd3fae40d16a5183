"""The draw of audited updates: one of every stratum, and as often as its formula says."""

import random

import pytest

from gates.subject.audit_draw import (
    chance_of_seeing,
    checkpoint_before,
    draw,
    mean_chance_of_seeing,
    strata,
)

STEPS, CHECKPOINTS = 100, (0, 25, 50, 75, 100)


def test_strata_are_the_updates_between_checkpoints():
    assert strata(10, (4, 8)) == [range(1, 5), range(5, 9), range(9, 11)]
    assert strata(10, (0, 5, 10)) == [range(1, 6), range(6, 11)]
    assert strata(3, ()) == [range(1, 4)]


def test_the_longest_strata_are_halved_until_there_are_enough():
    found = strata(100, (50,), at_least=8)
    assert len(found) == 8
    assert sorted(update for stratum in found for update in stratum) == list(range(1, 101))
    assert {len(stratum) for stratum in found} == {12, 13}
    assert strata(2, (), at_least=8) == [range(1, 2), range(2, 3)]


def test_a_run_without_updates_has_none_to_draw():
    with pytest.raises(ValueError, match="a run of 0 updates"):
        strata(0, ())


def test_every_stratum_and_every_special_update_is_there():
    for seed in range(200):
        found = draw(random.Random(seed), STEPS, CHECKPOINTS, special=(10, 100, 101, 0))
        assert found == sorted(set(found))
        assert all(any(update in stratum for update in found) for stratum in strata(STEPS, CHECKPOINTS))
        assert {10, 100} <= set(found) <= set(range(1, STEPS + 1))


def test_every_update_is_drawn_sooner_or_later():
    assert set().union(*(draw(random.Random(s), 20, (10,)) for s in range(400))) == set(range(1, 21))


@pytest.mark.parametrize(
    ("mistaken", "expected"),
    [
        (range(30, 31), 1 / 25),
        (range(21, 31), 1 - (20 / 25) ** 2),
        (range(26, 51), 1.0),  # a whole stratum
        (range(13, 62), 1.0),  # 2 n - 1 updates, wherever they begin
        (range(96, 101), 1.0),  # the last update is special
        (range(101, 120), 0.0),
    ],
)
def test_the_chance_is_that_of_the_formula(mistaken, expected):
    assert chance_of_seeing(mistaken, STEPS, CHECKPOINTS, special=(100,)) == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("mistaken", [range(30, 31), range(20, 31), range(40, 60)])
def test_draws_see_a_mistake_as_often_as_the_formula_says(mistaken):
    """Within five standard deviations of a binomial count, over 4000 draws."""
    n, p = 4000, chance_of_seeing(mistaken, STEPS, CHECKPOINTS)
    draws = (draw(random.Random(seed), STEPS, CHECKPOINTS) for seed in range(n))
    seen = sum(any(update in mistaken for update in found) for found in draws)
    assert abs(seen - n * p) <= 5 * (n * p * (1 - p)) ** 0.5


def test_the_mean_chance_averages_over_where_a_mistake_begins():
    assert mean_chance_of_seeing(1, STEPS, CHECKPOINTS) == pytest.approx(1 / 25, rel=1e-12)
    assert mean_chance_of_seeing(49, STEPS, CHECKPOINTS) == 1.0
    assert mean_chance_of_seeing(1000, STEPS, CHECKPOINTS) == 1.0


def test_an_update_is_made_again_from_the_checkpoint_before_it():
    assert [checkpoint_before(update, (25, 50)) for update in (1, 25, 26, 50, 51)] == [0, 0, 25, 25, 50]
