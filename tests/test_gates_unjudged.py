"""A run whose settings ask for updates that the gates do not make is not judged, and they say so."""

import pytest
import tomli_w

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


def changed(key, value):
    """config.toml of the default run with one setting changed, whatever else that setting needs."""
    said = Config().as_dict()
    section, _, name = key.rpartition(".")
    (said[section] if section else said)[name] = value
    return tomli_w.dumps(said)


def test_the_default_run_is_judged():
    assert Settings.read(text()).accumulate == 1


OTHERS = {
    "leftover": "carry",
    "loss.label_smoothing": 0.1,
    "loss.z_loss": 1e-4,
    "model.softcap": 15.0,
    "model.window": 8,
    "muon.enabled": True,
    "schedule.kind": "linear",
    "schedule.by": "time",
    "precision.autocast": "bfloat16",
    "precision.loss_scaling": True,
    "precision.stochastic_rounding": True,
    "average.weights": 0.9,
    "evaluation.token_budget": 100,
    "stopping.epochs": 2,
    "stopping.tokens": 1000,
    "stopping.seconds": 5.0,
    "stopping.patience": 3,
}
"""Setting -> a value with which updates are not judged."""


def test_each_setting_that_is_not_judged_is_tried():
    assert OTHERS.keys() == NOT_JUDGED.keys()


@pytest.mark.parametrize(("key", "value"), OTHERS.items())
def test_a_setting_that_is_not_judged_is_named(key, value):
    with pytest.raises(GateError, match=f"not judged: config.toml has {key} = "):
        Settings.read(changed(key, value))


def test_a_window_of_batches_is_one_batch_row_after_row():
    rows = [[1, 2]] * 10
    plan = TrainingPlan(Settings.read(text(accumulate=2, batch_size=2)), rows)
    assert plan.epoch_length == 3
    assert [len(indices) for _, indices in plan.rows[:3]] == [4, 4, 2]
    large = TrainingPlan(Settings.read(text(batch_size=4)), rows)
    assert plan.rows[:5] == large.rows[:5]
