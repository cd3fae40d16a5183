"""What an adapter of Lightning needs beside its module and trainer: records of updates, a progress bar less."""

import logging

import lightning
import torch
from torch.utils.data import DataLoader

from honestloop.templates.adapters.torch_parts import labelled

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Arguments of lightning.Trainer."""
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
logging.getLogger("lightning.fabric").setLevel(logging.ERROR)


def loader(batches):
    """The batches as (tokens, labels), in order, as they are."""
    return DataLoader(labelled(batches), batch_size=None)


class RecordedModule(lightning.LightningModule):
    """A module that has `model` and `loop`, and hands the loop a record before every step of the optimizer.

    Its training_step appends the loss of each micro-batch to `losses`.
    """

    def __init__(self, loop):
        super().__init__()
        self.model, self.loop, self.losses = loop.model, loop, []

    def on_before_optimizer_step(self, optimizer):
        """Called when the gradients of a window are there, and are not yet clipped."""
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters()]).item()
        self.loop.record(sum(self.losses) / len(self.losses), optimizer.param_groups[0]["lr"], norm)
        self.losses.clear()
