"""What honestloop needs to grade my_loop.py: honestloop check my_adapter."""

import my_loop
import numpy as np
import torch

CAPABILITIES = ["clip_by_global_norm", "learning_rate", "perplexity", "trainer"]
CONVENTIONS = {"schedule": "nanogpt", "clip": "torch", "norm": "dtype", "generator": "own"}


def tensor(x, dtype=None):
    """A copy, whatever its memory layout is."""
    return torch.tensor(np.array(x, order="C"), dtype=dtype)


def learning_rate(step, *, peak, floor, warmup, total):
    return my_loop.learning_rate(step, peak, floor, warmup, total)


def clip_by_global_norm(grads, max_norm):
    grads = [tensor(g) for g in grads]
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in grads]
    for parameter, g in zip(parameters, grads, strict=True):
        parameter.grad = g
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return [parameter.grad.numpy() for parameter in parameters], norm.item()


def perplexity(nll_sum, tokens):
    return float(np.exp(np.float64(nll_sum) / tokens))  # infinity where math.exp raises


def tensors(batches):
    return [(tensor(x, torch.long), tensor(y, torch.long), tensor(mask)) for x, y, mask in batches]


class trainer:
    """NumPy in, NumPy out, around the loop."""

    def __init__(self, params, settings):
        names = ("peak", "floor", "warmup", "total")
        model = my_loop.Model(*params["E"].shape, settings["dropout"]).to(tensor(params["E"]).dtype)
        self.weights = {"E": model.embedding.weight, "W": model.head.weight.T, "b": model.head.bias}
        for name, weight in self.weights.items():
            weight.data.copy_(tensor(params[name]))
        betas = settings["beta1"], settings["beta2"]
        rest = [settings[name] for name in ("eps", "weight_decay", "max_norm")]
        self.loop = my_loop.Loop(model, betas, *rest, {n: settings[n] for n in names}, settings["seed"])
        self.save, self.load = self.loop.save, self.loop.load

    def train(self, micro_batches, accumulate):
        return self.loop.epoch(tensors(micro_batches), accumulate)

    def evaluate(self, batches):
        return self.loop.evaluate(tensors(batches))

    def parameters(self):
        return {name: weight.detach().numpy().copy() for name, weight in self.weights.items()}
