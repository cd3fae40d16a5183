"""Answer the questions of the gates about a recorded run: `logits`, `loss`; `serve` answers many in one process."""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from train import batch, loop_of, sequences


def loop_with(weights):
    """The loop with the weights of a file."""
    loop = loop_of(seed=0, steps=1)
    loop.parameters = {name: x.astype(np.float64) for name, x in load_file(weights).items()}
    return loop


def logits(run, tokens, out):
    """Of the last checkpoint of a run, at tokens [N, T]: logits [N, T, V]."""
    last = sorted(Path(run, "checkpoints").glob("step-*"))[-1]
    weights = loop_with(last / "weights.safetensors").parameters
    said = weights["E"][load_file(tokens)["tokens"]] @ weights["W"] + weights["b"]
    save_file({"logits": np.ascontiguousarray(said)}, out)


def loss(weights, question, out):
    """Of the rows of an update, with the weights of each file of a folder."""
    rows = sequences("train")
    asked = [batch([rows[i] for i in json.loads(Path(question).read_text())["rows"]])]
    losses = {path.name: loop_with(path).evaluate(asked) for path in sorted(Path(weights).iterdir())}
    Path(out).write_text(json.dumps({"losses": losses}))


VERBS = {"logits": (logits, ("run", "tokens", "out")), "loss": (loss, ("weights", "batch", "out"))}


def serve():
    """One line of JSON asks, one answers, until there are no more."""
    for line in sys.stdin:
        asked = json.loads(line)
        function, names = VERBS[asked["verb"]]
        try:
            function(*(asked["values"][name] for name in names))
            said = {"status": 0}
        except Exception as error:
            said = {"status": 1, "error": repr(error)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    verb, *given = sys.argv[1:]
    serve() if verb == "serve" else VERBS[verb][0](*given)
