"""Timings of the whole model: forward pass, gradients, and a training step with dropout, clipping and AdamW."""

from reference.model import DEFAULT_CONFIG

CONFIG = dict(DEFAULT_CONFIG)


def test_forward(timed, subject, parameters, batch):
    tokens, _, _, key_mask = batch
    timed(subject.forward, parameters, tokens, key_mask, CONFIG)


def test_loss_and_gradients(timed, subject, parameters, batch):
    timed(subject.loss_and_gradients, parameters, *batch, CONFIG)


def test_train_step(timed, subject, parameters, batch):
    """The state persists between the timed steps, as in a training loop."""
    timed(subject.train_step(parameters, CONFIG), *batch)
