"""What honestloop needs to grade loop.py: functions of NumPy arrays, and what is declared about them."""

from . import loop
from .loop import adamw_step, clip_by_global_norm  # noqa: F401  (graded under these names)

CAPABILITIES = ["learning_rate", "adamw_step", "clip_by_global_norm", "trainer"]
"""What is offered. The names are those of honestloop.protocol.FUNCTIONS."""

CONVENTIONS = {"schedule": "nanogpt", "generator": "own"}
"""Where correct loops differ, this one's choice: honestloop.conventions.LEGAL has the keys and values."""

EXPECTED = {}
"""Rules that are not kept, each with the reason: {"LOOP-02": "logs the last micro-batch, on purpose"}."""


def learning_rate(step, *, peak, floor, warmup, total):
    """The rate of an update, counted from 0."""
    return loop.learning_rate(step, peak, floor, warmup, total)


def trainer(params, settings):
    """The loop around `params`; train, evaluate, save and load are its own, parameters() is asked for by honestloop."""
    return Trainer(
        params,
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["eps"],
        weight_decay=settings["weight_decay"],
        max_norm=settings["max_norm"],
        schedule={name: settings[name] for name in ("peak", "floor", "warmup", "total")},
        dropout=settings["dropout"],
        seed=settings["seed"],
    )


class Trainer:
    """`loop.Loop` with the methods of the protocol."""

    def __init__(self, params, **settings):
        self._loop = loop.Loop(params, **settings)
        self.train, self.evaluate = self._loop.train, self._loop.evaluate
        self.save, self.load = self._loop.save, self._loop.load

    def parameters(self):
        """Copies of E, W and b."""
        return {name: x.copy() for name, x in self._loop.parameters.items()}
