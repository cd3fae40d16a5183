"""The model as a whole: a number that is not finite is never hidden."""

import threading

import numpy as np
import pytest

from impl.config import ModelConfig
from impl.data import make_batch
from impl.model import MiniGPT
from impl.parameters import initial_parameters, parameter_shapes
from impl.team import Team
from impl.trainer import Trainer

CONFIG = ModelConfig(d_model=8, n_heads=2, n_layers=1, d_ff=12, vocab_size=7, context=6)
BATCH = make_batch([[1, 5, 6, 2], [1, 4, 2]])


@pytest.mark.parametrize("name", sorted(parameter_shapes(CONFIG)))
def test_a_nan_in_a_parameter_makes_the_loss_nan(name):
    parameters = initial_parameters(0, CONFIG)
    parameters[name].reshape(-1)[:] = np.nan
    for dtype in ("float32", "float64"):
        assert np.isnan(MiniGPT(CONFIG, dtype, parameters).nll(BATCH)), dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_nan_among_the_logits_makes_the_loss_nan(dtype):
    params = {"E": np.ones((3, 2)), "W": np.zeros((2, 3)), "b": np.array([0.0, np.nan, 1.0])}
    settings = dict.fromkeys(("seed", "warmup"), 0) | {"dropout": 0.0, "peak": 0.1, "floor": 0.0, "total": 1}
    settings |= {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0, "max_norm": 1.0}
    trainer = Trainer({name: x.astype(dtype) for name, x in params.items()}, settings)
    assert np.isnan(trainer.evaluate([(np.array([[0]]), np.array([[0]]), np.ones((1, 1), dtype=bool))]))


def test_a_team_waits_for_every_share_and_hands_on_the_first_error():
    finished, go_on = [], threading.Event()

    def work(share, shares):
        if share == 0:
            raise ValueError("share 0")
        if share == 1:
            go_on.set()
            raise KeyError("share 1")
        go_on.wait(10.0)
        finished.append(share)

    with pytest.raises(ValueError, match="share 0"):
        Team(3).run(work, 3)
    assert finished == [2]


def test_a_path_may_be_saved_to_again(tmp_path):
    params = {"E": np.ones((3, 2)), "W": np.array([[0.5, -0.5, 0.1], [0.2, 0.3, -0.4]]), "b": np.zeros(3)}
    settings = {"seed": 1, "dropout": 0.0, "peak": 0.1, "floor": 0.01, "warmup": 1, "total": 9}
    settings |= {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "max_norm": 1.0}
    batch = np.array([[0], [2]]), np.array([[1], [0]]), np.ones((2, 1), dtype=bool)
    first, later = Trainer(params, settings), Trainer(params, settings)
    path = str(tmp_path / "checkpoint")
    first.save(path)
    first.train([batch, batch], 1)
    first.save(path)
    later.load(path)
    assert all(np.array_equal(x, first.parameters()[name]) for name, x in later.parameters().items())
    Trainer(params, settings).save(path)  # an older state after a newer one
    later.load(path)
    assert all(np.array_equal(x, params[name]) for name, x in later.parameters().items())
