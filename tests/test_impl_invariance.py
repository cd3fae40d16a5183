"""One hash of weights, moments and log, however the machine works: threads, vectors, cuts of a batch, interruptions.

Each axis has a subject that is not invariant along it, which shows that the comparison can fail.
"""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from impl.kernels import ahead, attention

ROOT = Path(__file__).parents[1]
STEPS = "14"  # into the second epoch
ONE = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
THREADS = {n: {"OMP_NUM_THREADS": str(n), "NUMBA_NUM_THREADS": str(n)} for n in (1, 2, 3, 16)}
NOT_VECTORISED = "no loop vectoriser"
TARGETS = {
    "x86-64-v2": ONE | {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""},
    "x86-64-v3": ONE | {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""},
    "x86-64-v4": ONE | {"NUMBA_CPU_NAME": "x86-64-v4", "NUMBA_CPU_FEATURES": ""},
    NOT_VECTORISED: ONE | {"NUMBA_LOOP_VECTORIZE": "0", "NUMBA_SLP_VECTORIZE": "0"},
}
MICRO_BATCHES = (2, 4, 7)
CACHED_TYPES = """
import json
from impl.kernels import ahead, attention
found = {}
for kernel, _ in ahead.signatures("float32"):
    index = kernel._cache._cache_file._load_index()
    found[kernel.py_func.__name__] = [str(key[0]) for key in index]
print(json.dumps(found))
"""
"""The argument types for which the kernels that are compiled ahead are in the cache."""


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """train(module, environment, micro_batches, stops) -> SHA-256 of what the run left; made once for each."""

    @cache
    def once(module, environment, micro_batches, stops):
        folder = tmp_path_factory.mktemp("run")
        (folder / "config.toml").write_text(f"micro_batches = {micro_batches}\n")
        out = folder / "run"
        for number, (stop, more) in enumerate([*stops, (STEPS, ())]):
            command = [sys.executable, "-m", module, "train", "--out", str(out), "--steps", STEPS]
            command += [
                "--config",
                str(folder / "config.toml"),
                "--stop-after",
                stop,
                *["--resume"] * (number > 0),
            ]
            env = os.environ | {"HONESTLOOP_TRACKING": "off"} | dict(environment) | dict(more)
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return digest(out)

    def run(module="impl", environment=ONE, micro_batches=1, stops=()):
        frozen = tuple((stop, tuple(sorted(env.items()))) for stop, env in stops)
        return once(module, tuple(sorted(environment.items())), micro_batches, frozen)

    return run


def digest(run):
    """Over weights, moments, machines and every line of the log."""
    last = run / "checkpoints" / f"step-{int(STEPS):08}"
    whole = hashlib.sha256()
    for name in ("weights.safetensors", "optimizer.safetensors"):
        whole.update((last / name).read_bytes())
    whole.update((run / "train_log.jsonl").read_bytes())
    return whole.hexdigest()


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_change_no_bit(train, threads):
    assert train(environment=THREADS[threads]) == train()


@pytest.mark.parametrize("count", MICRO_BATCHES)
def test_cutting_the_batch_changes_no_bit(train, count):
    assert train(micro_batches=count) == train(environment=THREADS[2], micro_batches=count) == train()


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """TARGETS; the kernels of the last are compiled in a cache that is empty."""
    empty = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    return TARGETS | {NOT_VECTORISED: TARGETS[NOT_VECTORISED] | empty}


def test_code_for_another_processor_changes_no_bit(train, targets):
    """Each is compiled the first time, which takes half a minute; two at a time."""
    with ThreadPoolExecutor(2) as pool:
        found = dict(
            zip(targets, pool.map(lambda env: train(environment=env), targets.values()), strict=True)
        )
    assert found == dict.fromkeys(targets, train())


def test_what_is_compiled_ahead_is_what_a_training_calls(train, targets):
    """Code for other types would be compiled for nothing, and that of the training still when it is called.

    The training is in float32; its drift is measured in float64.
    """
    train(environment=targets[NOT_VECTORISED])
    wanted = {
        kernel.py_func.__name__: {
            types for dtype in ("float32", "float64") for _, types in of_kernel(kernel, dtype)
        }
        for kernel, _ in ahead.signatures("float32")
    }
    done = subprocess.run(
        [sys.executable, "-c", CACHED_TYPES],
        cwd=ROOT,
        env=os.environ | targets[NOT_VECTORISED],
        capture_output=True,
        text=True,
        check=True,
    )
    for name, types in json.loads(done.stdout).items():
        assert set(types) <= {str(t) for t in wanted[name]}
        assert str(of_kernel(getattr(attention, name), "float32")[0][1]) in types


def of_kernel(kernel, dtype):
    return [(one, types) for one, types in ahead.signatures(dtype) if one is kernel]


def test_a_resume_with_other_threads_changes_no_bit(train):
    assert train(environment=ONE, stops=(("5", THREADS[2]), ("9", THREADS[3]))) == train()


SMALL = """
import hashlib
import json
import numpy as np
from impl.config import ModelConfig, OptimizerConfig
from impl.data.iterator import make_batch
from impl.model.dropout import Dropout
from impl.model.minigpt import MiniGPT
from impl.optim.optimizer import AdamW
from impl.model.parameters import initial_parameters, parameter_shapes
from impl.optim.schedule import Schedule
from impl.update import update

np.seterr(all="ignore")
config = ModelConfig(d_model=24, n_heads=2, n_layers=1, d_ff=36, vocab_size=19, context=6)
batch = make_batch([[1, 5, 9, 2], [1, 6, 7, 8, 3, 2], [1, 18, 2]])
whole = hashlib.sha256()
for dtype in ("float32", "float64"):
    model = MiniGPT(config, dtype, initial_parameters(3, config))
    adam = AdamW(parameter_shapes(config), dtype, OptimizerConfig())
    rate = Schedule(peak=0.01, floor=0.001, warmup=1, total=4)
    for step in range(2):
        dropout = Dropout(0.1, np.array([1, 2], np.uint32), step)
        done = update(model, adam, rate, dropout, batch.split(2), 1.0)
        whole.update(repr((done.loss.hex(), done.grad_norm.hex())).encode())
    whole.update(model.flat_parameters.tobytes())
print(whole.hexdigest())
"""


def test_the_interpreter_gives_the_bits_of_the_compiled_kernels():
    """A small model, with edges of tiles; a scalar that numba promotes and NumPy does not would show."""
    found = []
    for disabled in ("0", "1"):
        env = os.environ | {"NUMBA_DISABLE_JIT": disabled}
        done = subprocess.run(
            [sys.executable, "-c", SMALL], cwd=ROOT, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[1]


def test_the_readme_has_the_hash_of_the_default_run(tmp_path):
    command = [sys.executable, "-m", "impl", "train", "--out", str(tmp_path / "run")]
    env = os.environ | {"HONESTLOOP_TRACKING": "off"}
    subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=True)
    (weights,) = (
        path for path in (tmp_path / "run" / "models").glob("*.safetensors") if "optim" not in path.name
    )
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in (ROOT / "README.md").read_text(
        encoding="utf-8"
    )


# --- each axis can be seen to fail


@pytest.mark.parametrize("control", ["partial_sums_by_thread", "prange_sum"])
def test_partial_sums_depend_on_threads(train, control):
    module = f"fixtures.controls.invariance.{control}"
    assert train(module, THREADS[2]) != train(module, ONE)


def test_partial_sums_depend_on_micro_batches(train):
    module = "fixtures.controls.invariance.partial_sums_by_micro_batch"
    assert train(module, micro_batches=2) != train(module)


def test_fastmath_depends_on_the_processor(train):
    module = "fixtures.controls.invariance.fastmath_sum"
    narrow, wide, none = (
        train(module, TARGETS[name]) for name in ("x86-64-v2", "x86-64-v4", "no loop vectoriser")
    )
    assert len({narrow, wide, none}) == 3


def test_partial_sums_depend_on_the_threads_of_a_resume(train):
    module = "fixtures.controls.invariance.partial_sums_by_thread"
    assert train(module, ONE, stops=(("5", THREADS[2]),)) != train(module, ONE)
