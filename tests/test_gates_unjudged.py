"""A run whose settings ask for updates that the gates do not make is not judged, and they say so."""

import pytest

from gates.errors import GateError
from gates.judge.run_record import NOT_JUDGED, Settings, TrainingPlan
from impl.config import Config


def text(**changes):
    """config.toml of the default run, with these sections or settings changed."""
    said = Config().model_dump()
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        (said[section] if section else said)[key] = value
    return Config.model_validate(said).to_toml()


def test_the_default_run_is_judged():
    assert Settings.read(text()).accumulate == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("leftover", "carry"),
        ("loss__label_smoothing", 0.1),
        ("loss__z_loss", 1e-4),
        ("model__softcap", 15.0),
        ("model__window", 8),
    ],
)
def test_a_setting_that_is_not_judged_is_named(name, value):
    key = name.replace("__", ".")
    assert key in NOT_JUDGED
    with pytest.raises(GateError, match=f"not judged: config.toml has {key} = "):
        Settings.read(text(**{name: value}))


def test_a_window_of_batches_is_one_batch_row_after_row():
    rows = [[1, 2]] * 10
    plan = TrainingPlan(Settings.read(text(accumulate=2, batch_size=2)), rows)
    assert plan.epoch_length == 3
    assert [len(indices) for _, indices in plan.rows[:3]] == [4, 4, 2]
    large = TrainingPlan(Settings.read(text(batch_size=4)), rows)
    assert plan.rows[:5] == large.rows[:5]
