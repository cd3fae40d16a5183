"""One warm process: it has imported torch, and answers every request in a child of its own, which ends with it.

A request is a line of JSON on stdin, {"verb": "logits", "values": {"run": "...", ...}}: the options of the command
line, true for a flag. The answer is a line on stdout: {"status": 0}, or {"status": 2, "error": "..."}.
"""

import json
import os
import sys
from collections.abc import Callable

import torch

import torch_phase18.finish  # everything that a verb imports, so that no child has to
import torch_phase18.optim
from torch_phase18.config import DEFAULTS
from torch_phase18.model import MiniGPT


def serve(attempt: Callable[[list[str]], tuple[int, str]]) -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a verb prints is no answer
    # The first optimizer of a process imports torch's compiler, which takes as long as torch itself.
    settings = DEFAULTS["optimizer"]
    torch_phase18.optim.Optimizer(MiniGPT(torch.float32), settings, 1)
    for line in sys.stdin:
        request = json.loads(line)
        words = [request["verb"]]
        for name, value in request["values"].items():
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
        print(json.dumps(_in_a_child(attempt, words)), file=answers, flush=True)


def _in_a_child(attempt: Callable[[list[str]], tuple[int, str]], words: list[str]) -> dict[str, object]:
    """The answer of a forked process, which nothing that came before has touched."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status, message = 1, "it ended with an exception that it did not expect"
        try:
            sys.argv = ["torch_phase18", *words]
            status, message = attempt(words)
        except BaseException as error:
            message = repr(error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(write, json.dumps({"status": status, "error": message}).encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(said)) if said else {"status": 1, "error": "the process that answered died"}
