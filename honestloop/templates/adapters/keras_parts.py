"""What an adapter of Keras on PyTorch needs beside compile and fit: model, data, records of updates."""

import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
from keras.optimizers.schedules import CosineDecay, LearningRateSchedule
from torch.utils.data import DataLoader

from honestloop.templates.adapters.torch_parts import tensors


def weighted(batches):
    """The batches as Keras takes them: tokens, targets, and the mask as the weight of each position."""
    rows = [(x.long(), y.long(), mask.float()) for x, y, mask in map(tensors, batches)]
    return DataLoader(rows, batch_size=None)


def keras_model(params, dropout):
    """logits = dropout(E[tokens]) @ W + b, as Keras layers with these weights."""
    vocab, width = params["E"].shape
    layers = keras.layers.Embedding(vocab, width), keras.layers.Dropout(dropout), keras.layers.Dense(vocab)
    model = keras.Sequential(layers)
    model.build((None, None))
    model.set_weights([params[name] for name in "EWb"])
    return model


def cosine(settings):
    """The schedule of the settings, by update: warm-up from 0, cosine to the floor."""
    peak, warmup, length = settings["peak"], settings["warmup"], settings["total"] - settings["warmup"]
    share = settings["floor"] / peak if peak else 0.0
    if warmup:
        made = CosineDecay(0.0, length, share, warmup_target=peak, warmup_steps=warmup)
    else:
        made = CosineDecay(peak, length, share)
    return ByUpdate(made, settings["accumulate"])


class ByUpdate(LearningRateSchedule):
    """A schedule that ticks with every update, where Keras counts micro-batches."""

    def __init__(self, schedule, every):
        self.schedule, self.every = schedule, every

    def __call__(self, micro_batch):
        """The rate of the update that this micro-batch is a part of."""
        return self.schedule(keras.ops.floor_divide(micro_batch, self.every))

    def get_config(self):
        """Its arguments."""
        return {"schedule": self.schedule, "every": self.every}


class Watch(keras.callbacks.Callback):
    """Records the rate of every update and the loss of its window, and ends the run where the loop says."""

    def __init__(self, loop):
        super().__init__()
        self.loop, self.every = loop, loop.settings["accumulate"]

    def on_train_batch_begin(self, batch, logs=None):
        """Keep the rate that the update will use, and begin the metrics anew with a window."""
        optimizer = self.model.optimizer
        self.seen, self.rate = int(optimizer._iterations), float(optimizer.learning_rate)
        if self.seen % self.every == 0:
            self.model.reset_metrics()  # else Keras shows the mean of the epoch so far

    def on_train_batch_end(self, batch, logs=None):
        """Record a whole window."""
        if (self.seen + 1) % self.every == 0:
            self.loop.record(logs["loss"], self.rate)
            self.model.stop_training = (self.seen + 1) // self.every == self.loop.stop_after
