"""A small training loop in NumPy: accumulation, clipping, AdamW, warm-up and cosine, checkpoints. Make it yours."""

import json
import math
import os

import numpy as np
from safetensors.numpy import load, save


def learning_rate(step, peak, floor, warmup, total):
    """nanoGPT's schedule, step from 0: linear warm-up, half a cosine, then the floor."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if step > total:
        return floor
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def clip_by_global_norm(gradients, limit):
    """(gradients, norm): scaled down if the norm over all of them, in double precision, is above the limit."""
    gradients = list(gradients)  # model.parameters() and its like can be read once
    norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients))
    factor = min(1.0, limit / norm) if norm > 0.0 else 1.0
    return [g * g.dtype.type(factor) for g in gradients], norm


def adamw_step(p, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay):
    """(p, m, v) after update t, from 1. Loshchilov and Hutter, 2019: the decay is apart from the gradient."""
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * (g * g)
    p = p - lr * weight_decay * p
    p = p - lr * (m / (1.0 - beta1**t)) / (np.sqrt(v / (1.0 - beta2**t)) + eps)
    return p, m, v


class Loop:
    """Trains logits = dropout(E[token]) W + b to predict the next token."""

    def __init__(self, parameters, *, betas, eps, weight_decay, max_norm, schedule, dropout, seed):
        self.parameters = {name: np.array(x) for name, x in parameters.items()}
        self.moments = {name: [np.zeros_like(x), np.zeros_like(x)] for name, x in parameters.items()}
        self.betas, self.eps, self.weight_decay, self.max_norm = betas, eps, weight_decay, max_norm
        self.schedule, self.dropout, self.seed, self.updates = schedule, dropout, seed, 0

    def train(self, batches, accumulate):
        """One pass over (input, target, mask) batches; a record for each update."""
        return [self.update(batches[i : i + accumulate]) for i in range(0, len(batches), accumulate)]

    def update(self, window):
        """One update from the micro-batches of a window, each predicted token weighing the same."""
        tokens, loss = sum(int(mask.sum()) for _, _, mask in window), 0.0
        gradients = {name: np.zeros_like(x) for name, x in self.parameters.items()}
        # A generator for every update: dropout is a function of seed and update, so it has no state to save.
        key = np.array([self.seed % 2**64, self.updates], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        for batch in window:
            divisor = max(tokens, 1)
            batch_loss, batch_gradients = self.loss_and_gradients(*batch, generator)
            loss += batch_loss / divisor
            for name, gradient in batch_gradients.items():
                gradients[name] += gradient / divisor
        clipped, norm = clip_by_global_norm(list(gradients.values()), self.max_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(f"update {self.updates + 1}: loss {loss}, gradient norm {norm}")
        lr = learning_rate(self.updates, **self.schedule)
        self.updates += 1
        for (name, p), g in zip(self.parameters.items(), clipped, strict=True):
            decay = self.weight_decay if p.ndim > 1 else 0.0
            hyper = {"lr": lr, "beta1": self.betas[0], "beta2": self.betas[1], "eps": self.eps}
            new = adamw_step(p, g, *self.moments[name], t=self.updates, weight_decay=decay, **hyper)
            self.parameters[name], self.moments[name] = new[0], list(new[1:])
        return {"loss": loss, "lr": lr, "grad_norm": norm, "tokens": tokens}

    def loss_and_gradients(self, tokens, targets, mask, generator=None):
        """(loss, gradients), both summed over the predicted tokens; without a generator there is no dropout."""
        weights = self.parameters
        tokens, targets = tokens[mask], targets[mask]
        keep = np.ones((len(tokens), weights["E"].shape[1]), weights["E"].dtype)
        if generator is not None and self.dropout > 0.0:
            keep = (generator.random(keep.shape) >= self.dropout) / keep.dtype.type(1.0 - self.dropout)
        x = weights["E"][tokens] * keep
        logits = x @ weights["W"] + weights["b"]
        logits = logits - logits.max(axis=-1, keepdims=True)
        exponentials = np.exp(logits)
        sums = exponentials.sum(axis=-1, keepdims=True)
        rows = np.arange(len(tokens))
        loss = (np.log(sums[:, 0]) - logits[rows, targets]).astype(np.float64).sum()
        dlogits = exponentials / sums
        dlogits[rows, targets] -= 1.0
        dE = np.zeros_like(weights["E"])
        np.add.at(dE, tokens, dlogits @ weights["W"].T * keep)
        return float(loss), {"E": dE, "W": x.T @ dlogits, "b": dlogits.sum(axis=0)}

    def evaluate(self, batches):
        """Mean loss over the predicted tokens of all batches, without dropout."""
        total = sum(self.loss_and_gradients(*batch)[0] for batch in batches)
        return total / max(sum(int(mask.sum()) for _, _, mask in batches), 1)

    def state(self):
        """What the optimizer keeps beside the parameters: moments by name, and the count of updates."""
        m, v = ({name: moments[i] for name, moments in self.moments.items()} for i in (0, 1))
        return {"m": m, "v": v, "t": self.updates}

    def restore(self, parameters, state):
        """Go on from these parameters and what `state` returned."""
        self.parameters, self.updates = dict(parameters), state["t"]
        self.moments = {name: [state["m"][name], state["v"][name]] for name in parameters}

    def save(self, path):
        """Everything that changes from update to update, written whole or not at all."""
        tensors = dict(self.parameters)
        for name, (m, v) in self.moments.items():
            tensors |= {f"m.{name}": m, f"v.{name}": v}
        temporary = f"{path}.tmp"
        with open(temporary, "wb") as file:
            file.write(save(tensors, metadata={"state": json.dumps({"updates": self.updates})}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def load(self, path):
        """Go on where `save` was called."""
        with open(path, "rb") as file:
            data = file.read()
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        self.updates = json.loads(header["__metadata__"]["state"])["updates"]
        for name in self.parameters:
            self.parameters[name] = tensors[name].copy()
            self.moments[name] = [tensors[f"m.{name}"].copy(), tensors[f"v.{name}"].copy()]


def main():
    """Learn a sequence in which each of eight tokens has one successor."""
    start = np.random.default_rng(0)
    parameters = {"E": start.normal(0, 0.1, (8, 16)), "W": start.normal(0, 0.1, (16, 8)), "b": np.zeros(8)}
    schedule = {"peak": 0.05, "floor": 0.001, "warmup": 5, "total": 60}
    loop = Loop(
        parameters,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.1,
        max_norm=1.0,
        schedule=schedule,
        dropout=0.1,
        seed=0,
    )
    tokens = np.arange(64).reshape(4, 16) % 8
    batch = tokens, (tokens * 3 + 1) % 8, np.ones(tokens.shape, bool)
    for record in loop.train([batch] * 60, accumulate=1)[::10]:
        print(f"loss {record['loss']:.4f}  lr {record['lr']:.4f}  norm {record['grad_norm']:.3f}")
    print(f"validation loss {loop.evaluate([batch]):.4f}")


if __name__ == "__main__":
    main()
