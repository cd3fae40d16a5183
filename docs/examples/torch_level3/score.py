"""The questions of the gates, answered by the model: `logits`, `loss`, `encode`, `decode`; and `serve`, all of them."""

import json
import sys
from pathlib import Path

import torch
from model import GPT, Text, mean_loss
from safetensors.torch import load_file, save_file

TEXT = Text(Path(__file__).parent / "data")


def model_of(weights):
    """In double precision, with the weights of a file."""
    model = GPT(TEXT.vocab).double()
    model.load_state_dict({name: x.double() for name, x in load_file(weights).items()})
    return model


def logits(run, tokens, out):
    """Of the last checkpoint of a run, at tokens [N, T]: logits [N, T, V]."""
    last = sorted(Path(run, "checkpoints").glob("step-*"))[-1]
    said = model_of(last / "weights.safetensors")(load_file(tokens)["tokens"])
    save_file({"logits": said.contiguous()}, out)


def loss(weights, batch, out):
    """Of the rows of an update, with the weights of each file of a folder."""
    lines = [TEXT.train[row] for row in json.loads(Path(batch).read_text())["rows"]]
    losses = {path.name: mean_loss(model_of(path), TEXT, lines) for path in sorted(Path(weights).iterdir())}
    Path(out).write_text(json.dumps({"losses": losses}))


def encode(texts, out):
    Path(out).write_text(json.dumps([TEXT.encode(text) for text in json.loads(Path(texts).read_text())]))


def decode(ids, out):
    Path(out).write_text(json.dumps([TEXT.decode(one) for one in json.loads(Path(ids).read_text())]))


VERBS = {
    "logits": (logits, "run tokens out"),
    "loss": (loss, "weights batch out"),
    "encode": (encode, "texts out"),
    "decode": (decode, "ids out"),
}


def answer(verb, values):
    function, names = VERBS[verb]
    with torch.no_grad():
        function(*(values[name] for name in names.split()))


def serve():
    """One line of JSON asks, one answers, until there are no more."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer(asked["verb"], asked["values"])
            said = {"status": 0}
        except Exception as error:
            said = {"status": 1, "error": repr(error)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    verb, *given = sys.argv[1:]
    if verb == "serve":
        serve()
    else:
        answer(verb, dict(zip(VERBS[verb][1].split(), given, strict=True)))
