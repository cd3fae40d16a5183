"""CS336's adapters: those of 2024, what is missing or fails, and a student's own training function."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests/cs336_example"
OF_2024 = """
import math
import torch

def run_gelu(in_features):
    return in_features * 0.5 * (1 + torch.erf(in_features / math.sqrt(2)))

def run_rmsnorm(d_model, eps, weights, in_features):
    return in_features * torch.rsqrt((in_features**2).mean(-1, keepdim=True) + eps) * weights["weight"]

def run_scaled_dot_product_attention(K, Q, V, mask=None, pdrop=None):
    scores = Q @ K.transpose(-1, -2) / math.sqrt(Q.shape[-1])
    return torch.softmax(scores.masked_fill(mask, -torch.inf), -1) @ V

def run_softmax(in_features, dim):
    raise NotImplementedError

def run_cross_entropy(inputs, targets):
    return torch.nn.Module()(inputs)
"""
"""Of the signatures of 2024; a softmax that is not written, a cross-entropy whose module lacks `forward`."""
SAY = "from fixtures.subjects import {name} as s; print(sorted(s.CAPABILITIES), sorted(s.TRAINER_PARTS))"


def said(code, adapters, **environment):
    """What a process prints, or the last line of its error."""
    outcome = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"CS336_ADAPTERS": str(adapters), "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return (outcome.stdout or outcome.stderr).strip().splitlines()[-1]


def student(folder, **files):
    """A student's repository: the example, with some files of its package written anew."""
    (folder / "tests").mkdir()
    (folder / "cs336_basics").mkdir()
    (folder / "tests/adapters.py").write_text((EXAMPLE / "tests/adapters.py").read_text())
    for path in (EXAMPLE / "cs336_basics").glob("*.py"):
        text = files.get(path.stem, path.read_text())
        (folder / "cs336_basics" / path.name).write_text(text)
    return folder / "tests/adapters.py"


def test_the_adapters_of_2024(tmp_path):
    """What they lack is not offered; a NotImplementedError of PyTorch is an error, not a function to be written."""
    (tmp_path / "adapters.py").write_text(OF_2024)
    line = said(SAY.format(name="cs336"), tmp_path / "adapters.py")
    written = ["attention", "attention_backward", "cross_entropy", "gelu", "gelu_backward", "rms_norm"]
    assert line.startswith(str(written))


def test_the_functions_of_2024_pass(tmp_path):
    (tmp_path / "adapters.py").write_text(OF_2024)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "properties/test_attention.py"]
    command += ["properties/test_activation.py", "properties/test_normalisation.py", "--profile", "dev"]
    outcome = subprocess.run(
        [*command, "--impl", "fixtures.subjects.cs336"],
        cwd=ROOT,
        env=os.environ | {"CS336_ADAPTERS": str(tmp_path / "adapters.py")},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert outcome.returncode == 0, outcome.stdout
    assert " 0 are broken" in outcome.stdout


def test_a_trainer_without_checkpoints_is_offered_without_them(tmp_path):
    adapters = student(tmp_path)
    text = adapters.read_text().replace(
        "    parts.save(model, optimizer, iteration, out)", "    raise NotImplementedError"
    )
    adapters.write_text(text)
    line = said(SAY.format(name="cs336"), adapters)
    assert "'trainer'" in line
    assert line.endswith("['evaluate', 'grad_norm', 'tokens']")


LOOP = """
import numpy as np
from fixtures.subjects import cs336_train as s
from honestloop.conventions import Conventions
params = {"E": np.ones((3, 2), np.float32), "W": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
settings = {"seed": 0, "dropout": 0.0, "peak": 0.5, "floor": 0.1, "warmup": 2, "total": 9, "beta1": 0.9}
settings |= {"beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0, "max_norm": 1.0}
batch = np.array([[0, 1]]), np.array([[1, 2]]), np.ones((1, 2), bool)
trainer = s.trainer(params, settings)
records = trainer.fit([batch] * 3, 2, 2)
print(len(records), [r["lr"] for r in records], round(records[0]["loss"], 6), Conventions(**s.CONVENTIONS).epochs)
"""


def test_a_training_function_of_the_student_s_is_found_and_called(tmp_path):
    """Windows of two micro-batches and one over, twice: four updates at the student's own rates."""
    line = said(LOOP, student(tmp_path))
    assert line.startswith("4 [0.0, 0.25, 0.5, ") and line.endswith(" 1.098612 fit")


def test_why_no_training_function_is_graded(tmp_path):
    unknown = "def train(model, optimizer, secret):\n    pass\n"
    line = said(LOOP, student(tmp_path, training=unknown))
    assert line.endswith("no training function that can be graded: cs336_basics.training.train needs secret")


def test_a_training_function_that_never_clips_is_refused(tmp_path):
    right = (EXAMPLE / "cs336_basics/training.py").read_text()
    wrong = right.replace("        clip_gradients(list(model.parameters()), max_l2_norm)\n", "")
    assert wrong != right
    adapters = student(tmp_path, training=wrong)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "properties/test_loop.py"]
    outcome = subprocess.run(
        [*command, "-k", "clipped or first_update", "--impl", "fixtures.subjects.cs336_train"],
        cwd=ROOT,
        env=os.environ | {"CS336_ADAPTERS": str(adapters)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert outcome.returncode == 1
    assert "LOOP-06" in outcome.stdout
