"""The training loop, on the smallest language model there is.

    logits = dropout(E[input]) @ W + b                      E [V, D], W [D, V], b [V]
    loss   = sum of -log softmax(logits)[target] over the predicted tokens of a window / their number
    an epoch is cut into windows of `accumulate` micro-batches, what is left over at its end is a window too
    a window makes one update:  gradient of its loss -> clip by the global norm -> AdamW with learning_rate(k)

Update k counts from 0, over all epochs. E and W decay, b does not. A window with nothing to predict has loss 0 and
gradient 0, and is an update like any other. A window whose loss or gradient is not finite is refused, before anything
has changed. The mask of dropout is a function of (seed, update, row of the window, position, feature), so cutting a
window differently, padding it, evaluating and resuming change no mask, and no generator has a state.
Legal variants: the bias decays as well; a window with nothing to predict is left out; a short window at the end of an
epoch waits for the next epoch, or is dropped.

Every step of the loop is a small method, so that a mistake is a subclass which overrides one of them:

    windows            which micro-batches make an update      token_mean   what the sums are divided by
    gather             how micro-batches are added up          clip         the global norm
    forward_backward   one micro-batch: sums, not means        refuse       what is not finite
    token_losses, logit_gradients   of each predicted token, before they are added up
    kept               which entries dropout keeps             rate         the schedule, one tick an update
    update             the order of all this, and the record   step, decay  AdamW of one parameter; which decay
    evaluate           the token mean without dropout          state, restore, save, load

Sources: Goyal et al., "Accurate, large minibatch SGD", 2017, section 3 (one update a window, normalised by the window);
Loshchilov, Hutter, 2019 (AdamW); Pascanu, Mikolov, Bengio, 2013 (clipping). The weight of a token in a window:
github.com/huggingface/transformers/issues/34191.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reference import dropout
from reference.clipping import clip_by_global_norm
from reference.loss import softmax, token_nll
from reference.optimizer import adamw_step
from reference.schedule import learning_rate

Array = np.ndarray[Any, np.dtype[Any]]
MicroBatch = tuple[Int[np.ndarray, "B T"], Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]
"""(input, target, loss_mask)"""
Record = dict[str, Any]
"""loss (nats per predicted token, before the update), lr, grad_norm (before clipping), tokens"""

MATRICES = ("E", "W")
LONGEST_ROW = 2**12
"""Rows of a window are this far apart in the counter of the dropout mask, however long they are."""


@dataclass
class Sums:
    """Sums over the predicted tokens of some micro-batches: losses in nats, their number, gradients by parameter."""

    nll: Any
    tokens: int
    gradients: dict[str, Any]


class Trainer:
    """The loop and its state: parameters, moments m and v and number of updates t of each, update number k.

    The keywords are the conventions that reference/optimizer.py, clipping.py and schedule.py describe, and the variants
    named above.
    """

    def __init__(
        self,
        params: Mapping[str, Float[np.ndarray, "..."]],
        settings: Mapping[str, Any],
        *,
        decay: str = "before",
        eps_place: str = "after correction",
        schedule: str = "honestloop",
        clip: str = "exact",
        norm: str = "double",
        decayed: str = "matrices",
        empty_window: str = "update",
        leftover: str = "update",
    ) -> None:
        self.settings = dict(settings)
        self.decayed, self.empty_window, self.leftover = decayed, empty_window, leftover
        self.waiting: list[MicroBatch] = []
        """Micro-batches that wait for the next epoch, if leftovers are carried over."""
        self.adamw: dict[str, Any] = {"decay": decay, "eps_place": eps_place}
        self.clipping: dict[str, str] = {"clip": clip, "norm": norm}
        self.schedule = schedule
        self.dtype = getattr(params["E"], "dtype", None)
        self.params = {name: in_double(x) for name, x in params.items()}
        self.m: dict[str, Any] = {name: np.zeros(x.shape) for name, x in params.items()}
        self.v: dict[str, Any] = {name: np.zeros(x.shape) for name, x in params.items()}
        self.t = dict.fromkeys(params, 0)
        self.updates = 0
        self.tokens = 0
        """Predicted tokens of all updates so far."""

    # ---- an epoch

    def train(self, micro_batches: Sequence[MicroBatch], accumulate: int) -> list[Record]:
        """One pass over the micro-batches, in order; a record for every update. Called again, it goes on."""
        windows = self.windows(micro_batches, accumulate)
        return [self.update(window) for window in windows if not self.leaves_out(window)]

    def windows(self, micro_batches: Sequence[MicroBatch], accumulate: int) -> list[Sequence[MicroBatch]]:
        """The micro-batches of each update; the last window may be short, and none spans two epochs.

        Under `leftover` the micro-batches of a short window wait for the next epoch ("carry") or are lost ("drop").
        """
        batches = [*self.waiting, *micro_batches]
        whole = len(batches) // accumulate * accumulate if self.leftover != "update" else len(batches)
        left = batches[whole:] if self.leftover == "carry" else []
        self.waiting = [(np.array(x), np.array(y), np.array(mask)) for x, y, mask in left]
        return [batches[i : min(i + accumulate, whole)] for i in range(0, whole, accumulate)]

    def leaves_out(self, window: Sequence[MicroBatch]) -> bool:
        """Whether a window makes no update because it has nothing to predict, under `empty_window`."""
        return self.empty_window == "skip" and not any(mask.any() for _, _, mask in window)

    def update(self, window: Sequence[MicroBatch]) -> Record:
        """One update from the whole window. FloatingPointError, and no change at all, if it is not finite."""
        sums = self.gather(window)
        loss, gradients = self.token_mean(sums)
        clipped, norm = self.clip(gradients)
        self.refuse(loss, norm)
        lr = self.rate(self.updates)
        for name, gradient in clipped.items():
            self.step(name, gradient, lr)
        self.updates += 1
        self.tokens += sums.tokens
        return {"loss": loss, "lr": lr, "grad_norm": norm, "tokens": sums.tokens}

    # ---- the gradient of a window

    def gather(self, window: Sequence[MicroBatch]) -> Sums:
        """The sums of all micro-batches of a window, from 0."""
        sums = Sums(0.0, 0, {name: np.zeros(x.shape) for name, x in self.params.items()})
        row = 0
        for batch in window:
            part = self.forward_backward(batch, row)
            gradients = {name: sums.gradients[name] + g for name, g in part.gradients.items()}
            sums = Sums(sums.nll + part.nll, sums.tokens + part.tokens, gradients)
            row += len(batch[0])
        return sums

    def forward_backward(self, batch: MicroBatch, first_row: int) -> Sums:
        """Sum of the losses of a micro-batch, number of its predicted tokens, gradient of that sum.

        Only the n predicted positions are used: what stands elsewhere, NaN included, has no influence.
        """
        tokens, targets, mask = batch
        keep = self.kept(tokens.shape, first_row)[mask]
        x = dropped(self.params["E"][tokens[mask]], keep, self.settings["dropout"])
        logits = x @ self.params["W"] + self.params["b"]
        nll = self.token_losses(logits, targets[mask]).sum()

        dlogits = self.logit_gradients(logits, targets[mask])
        dx = dropped(dlogits @ self.params["W"].swapaxes(0, 1), keep, self.settings["dropout"])
        gradients = {
            "E": one_hot(tokens[mask], len(self.params["b"])).swapaxes(0, 1) @ dx,
            "W": x.swapaxes(0, 1) @ dlogits,
            "b": dlogits.sum(axis=0),
        }
        return Sums(nll, int(mask.sum()), gradients)

    def token_losses(self, logits: Float[np.ndarray, "n V"], targets: Int[np.ndarray, "n"]) -> Any:
        """-log p of each target [n] in nats, before they are added up."""
        return token_nll(logits, targets)

    def logit_gradients(self, logits: Float[np.ndarray, "n V"], targets: Int[np.ndarray, "n"]) -> Any:
        """Gradient [n, V] of the sum of the losses to the logits: softmax - one_hot."""
        return softmax(logits) - one_hot(targets, logits.shape[-1])

    def kept(self, shape: tuple[int, ...], first_row: int) -> Bool[np.ndarray, "B T D"]:
        """Which entries of E[input] dropout keeps in this update; site 0 of the specification's mask."""
        rows, length = shape
        width, p, seed = self.params["E"].shape[1], self.settings["dropout"], self.settings["seed"]
        if not p:
            return np.ones((rows, length, width), dtype=bool)
        whole = (first_row + rows, length, width)
        return dropout.kept(whole, p, seed=seed, step=self.updates, site=0, context=LONGEST_ROW)[first_row:]

    def token_mean(self, sums: Sums) -> tuple[Any, dict[str, Any]]:
        """(loss, gradients) per predicted token of the window; 0 when there is none."""
        tokens = max(sums.tokens, 1)
        return sums.nll / tokens, {name: g / tokens for name, g in sums.gradients.items()}

    # ---- from the gradient to the parameters

    def clip(self, gradients: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """(gradients of a global norm of at most max_norm, norm before clipping)."""
        clipped, norm = clip_by_global_norm(
            list(gradients.values()), self.settings["max_norm"], **self.clipping
        )
        return dict(zip(gradients, clipped, strict=True)), norm

    def refuse(self, loss: Any, norm: Any) -> None:
        """FloatingPointError for a loss or a gradient that is not finite: a norm is finite when all entries are."""
        if not (np.isfinite(loss) and np.isfinite(norm)):
            raise FloatingPointError(f"update {self.updates}: loss {loss}, gradient norm {norm}")

    def rate(self, k: int) -> Any:
        """Learning rate of update k, from 0."""
        names = ("peak", "floor", "warmup", "total")
        return learning_rate(k, **{name: self.settings[name] for name in names}, schedule=self.schedule)

    def decay(self, name: str) -> Any:
        """Weight decay of a parameter: that of the settings for a matrix, else 0; or of all, under `decayed`."""
        return self.settings["weight_decay"] if name in MATRICES or self.decayed == "all" else 0.0

    def step(self, name: str, gradient: Any, lr: Any) -> None:
        """AdamW of one parameter."""
        self.t[name] += 1
        hyper = {key: self.settings[key] for key in ("beta1", "beta2", "eps")}
        self.params[name], self.m[name], self.v[name] = adamw_step(
            self.params[name],
            gradient,
            self.m[name],
            self.v[name],
            t=self.t[name],
            lr=lr,
            weight_decay=self.decay(name),
            **hyper,
            **self.adamw,
        )

    # ---- what can be asked at any time

    def parameters(self) -> dict[str, Any]:
        """Copies, in the dtype they came in."""
        return {name: x.astype(self.dtype) if self.dtype else x for name, x in self.params.items()}

    def evaluate(self, batches: Sequence[MicroBatch]) -> Any:
        """Loss in nats per predicted token of all batches together, without dropout. Changes nothing."""
        nll, tokens = 0.0, 0
        for batch_tokens, targets, mask in batches:
            logits = self.params["E"][batch_tokens[mask]] @ self.params["W"] + self.params["b"]
            nll = nll + self.token_losses(logits, targets[mask]).sum()
            tokens += int(mask.sum())
        return nll / max(tokens, 1)

    def observed(self) -> dict[str, Any]:
        """What the loop keeps beside parameters and moments: how far it has come. JSON can hold it."""
        return {"updates": self.updates, "tokens": self.tokens}

    # ---- the checkpoint

    def state(self) -> dict[str, Array]:
        """Everything the rest of the run depends on beside the settings; dropout has no state to keep."""
        kinds = {"parameter": self.params, "m": self.m, "v": self.v, "t": self.t}
        entries = {f"{kind}.{name}": copied(x) for kind, of in kinds.items() for name, x in of.items()}
        for number, batch in enumerate(self.waiting):
            entries |= {f"waiting.{number}.{part}": np.array(x) for part, x in enumerate(batch)}
        return entries | {"updates": np.array(self.updates), "tokens": np.array(self.tokens)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Continues from a state. KeyError for an entry that is missing."""
        for name in self.params:
            self.params[name], self.m[name], self.v[name] = (
                copied(state[f"{kind}.{name}"]) for kind in ("parameter", "m", "v")
            )
            self.t[name] = int(state[f"t.{name}"])
        self.updates, self.tokens = int(state["updates"]), int(state["tokens"])
        waiting = sum(name.startswith("waiting.") for name in state) // 3
        self.waiting = [
            (state[f"waiting.{i}.0"], state[f"waiting.{i}.1"], state[f"waiting.{i}.2"])
            for i in range(waiting)
        ]

    def save(self, path: str) -> None:
        """A checkpoint at `path`: one file of plain arrays."""
        with open(path, "wb") as file:
            np.savez(file, **self.state())  # type: ignore[arg-type]  # no name is allow_pickle

    def load(self, path: str) -> None:
        """Continues from the checkpoint at `path`. OSError if there is none."""
        with np.load(path, allow_pickle=False) as state:
            self.restore(state)


def one_hot(ids: Int[np.ndarray, "n"], vocab: int) -> Float[np.ndarray, "n V"]:
    """Rows of the identity matrix, without the matrix: a large vocabulary needs no V^2 numbers."""
    return np.asarray(np.asarray(ids)[:, None] == np.arange(vocab), dtype=np.float64)


def copied(x: Any) -> Any:
    """A copy of an ndarray, of its shape and dtype, and a number as an array; any other kind of array is kept."""
    return np.array(x) if isinstance(x, np.ndarray | int) else x


def in_double(x: Any) -> Any:
    """A copy of an ndarray in double precision; any other kind of array is kept."""
    return np.array(x, dtype=np.float64) if isinstance(x, np.ndarray) else x


def dropped(x: Float[np.ndarray, "n D"], keep: Bool[np.ndarray, "n D"], p: float) -> Float[np.ndarray, "n D"]:
    """Inverted dropout with a given mask: x / (1 - p) where it keeps, else 0."""
    return np.where(keep, x / (1.0 - p), 0.0) if p else x
