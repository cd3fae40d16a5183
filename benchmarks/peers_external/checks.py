"""What each peer has that fits a training loop, asked of one loop in a folder: each check returns what it objects to.

Everything is used as its documentation shows, with the loop's own functions wherever they can be handed over.
"""

import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

Check = Callable[[ModuleType, Path], str | None]


def loop_in(folder: Path) -> ModuleType:
    """folder/plain_loop.py as a module of its own."""
    spec = importlib.util.spec_from_file_location("plain_loop", folder / "plain_loop.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["plain_loop"] = module
    spec.loader.exec_module(module)
    return module


def objection(call: Callable[[], Any]) -> str | None:
    """The first line of what an assertion says; None if nothing. Any other error is an objection, too."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
    return None


# --- pytest-torch


class WithLoss(torch.nn.Module):
    """The loop's model and its own loss, of a whole micro-batch, as one module."""

    def __init__(self, loop: ModuleType, dropout: bool = True) -> None:
        super().__init__()
        self.model, self.loss_sum = loop.build(0).model, loop.loss_sum
        if not dropout:
            self.model.dropout.p = 0.0

    def forward(self, inputs: Any, targets: Any, mask: Any) -> Any:
        """The mean over the predicted tokens."""
        return self.loss_sum(self.model, (inputs, targets, mask)) / max(int(mask.sum()), 1)


def itself(loss: torch.Tensor) -> torch.Tensor:
    """A loss that the module has computed."""
    return loss


def one_optimizer(loop: ModuleType) -> Callable[[Any], Any]:
    """An optimizer of the loop's kind and settings, for given parameters."""
    kind = type(loop.build(0).optimizer)
    return lambda parameters: kind(parameters, lr=loop.PEAK)


def as_run(loop: ModuleType, setup: Any) -> Any:
    """What pytest-torch keeps, as the loop keeps it."""
    return loop.Run(setup.model, setup.optimizer, setup.scheduler, setup.scheduler.last_epoch)


def torch_setup(loop: ModuleType) -> Any:
    """The loop's run, as pytest-torch keeps it."""
    from pytest_torch import TrainingSetup

    run = loop.build(0)
    return TrainingSetup(run.model, run.optimizer, run.scheduler)


def optimizer_covers(loop: ModuleType, folder: Path) -> str | None:
    from pytest_torch import assert_optimizer_coverage

    run = loop.build(0)
    return objection(lambda: assert_optimizer_coverage(run.model, run.optimizer))


def gradients_arrive(loop: ModuleType, folder: Path) -> str | None:
    from pytest_torch import assert_all_params_receive_grad, assert_gradients_finite

    batch, model = loop.micro_batches(0, 0)[0], WithLoss(loop)
    return objection(lambda: assert_all_params_receive_grad(model, batch, itself)) or objection(
        lambda: assert_gradients_finite(model, batch, itself)
    )


def inference_contract(loop: ModuleType, folder: Path) -> str | None:
    from pytest_torch import check_inference_contract

    model = loop.build(0).model.eval()
    return objection(lambda: check_inference_contract(model, loop.micro_batches(0, 0)[0][0]))


def evaluation_is_repeatable(loop: ModuleType, folder: Path) -> str | None:
    from pytest_torch import assert_deterministic

    model, batches = loop.build(0).model, loop.micro_batches(0, 0)
    return objection(
        lambda: assert_deterministic(lambda _: torch.tensor(loop.evaluate(model, batches)), torch.zeros(1))
    )


def learns(loop: ModuleType, folder: Path) -> str | None:
    """The goal of a third is what the right loop reaches: it sees one token, and rows of a batch contradict."""
    from pytest_torch import assert_loss_decreases, assert_overfits_one_batch

    batch, model = loop.micro_batches(0, 0)[0], WithLoss(loop, dropout=False)
    optimizer = one_optimizer(loop)
    return objection(
        lambda: assert_loss_decreases(model, batch, itself, optimizer=optimizer, steps=60)
    ) or objection(
        lambda: assert_overfits_one_batch(
            model, batch, itself, optimizer=optimizer, steps=400, max_final_ratio=0.3
        )
    )


def accumulates(loop: ModuleType, folder: Path) -> str | None:
    from pytest_torch import assert_accumulation_equivalent

    def make_step(parts: int) -> Any:
        waiting: list[Any] = []

        def step(setup: Any, batch: Any) -> None:
            waiting.append(batch)
            if len(waiting) == parts:
                for window in loop.windows(waiting, parts):
                    loop.train_window(as_run(loop, setup), window)
                waiting.clear()

        return step

    first, second, third, fourth, *_ = loop.micro_batches(0, 0)
    data = [
        tuple(torch.cat(parts) for parts in zip(*pair, strict=True))
        for pair in ((first, second), (third, fourth))
    ]
    return objection(
        lambda: assert_accumulation_equivalent(
            lambda: torch_setup(loop), data, make_step, accumulation_steps=2, disable_dropout=True
        )
    )


def resumes(loop: ModuleType, folder: Path) -> str | None:
    from pytest_torch import assert_resume_equivalent

    def step(setup: Any, window: Any) -> float:
        return float(loop.train_window(as_run(loop, setup), window)["loss"])

    return objection(
        lambda: assert_resume_equivalent(
            lambda: torch_setup(loop),
            loop.windows(loop.micro_batches(0, 0), 2),
            step,
            save=lambda setup, path: loop.save(as_run(loop, setup), path),
            load=lambda setup, path: loop.load(as_run(loop, setup), path),
        )
    )


# --- TrainParity


def outcome(result: Any) -> str | None:
    """None for PASS; else the outcome and what it says."""
    found = result.to_dict()
    return None if found["outcome"] == "PASS" else f"{found['outcome']}: {json.dumps(found)[:160]}"


def parity_resume(loop: ModuleType, folder: Path) -> str | None:
    from trainparity.api import check_resume

    with importable(folder):
        return outcome(check_resume("trainparity_cases:Resume", cwd=folder, environment=path_to(folder)))


def parity_accumulation(loop: ModuleType, folder: Path) -> str | None:
    from trainparity.api import AccumulationExecutionPlan, ToleranceComparison, check_accumulation

    with importable(folder):
        return outcome(
            check_accumulation(
                "trainparity_cases:Accumulation",
                candidate=AccumulationExecutionPlan(2),
                comparison=ToleranceComparison(rtol=1e-5, atol=1e-6),
                cwd=folder,
                environment=path_to(folder),
            )
        )


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """The cases can be imported here as well, from this folder alone."""
    sys.path.insert(0, str(folder))
    sys.modules.pop("trainparity_cases", None)
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def path_to(folder: Path) -> dict[str, str]:
    """The environment of its processes: the loop is in the folder."""
    return {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def parity_coverage(loop: ModuleType, folder: Path) -> str | None:
    from trainparity.api import ExactlyOnce, audit_rank_iterables

    tokens, _ = loop.rows()
    known = {tuple(row[:-1].tolist()): number for number, row in enumerate(tokens)}

    def ids(batch: Any) -> Iterator[int]:
        return (known[tuple(row.tolist())] for row in batch[0])

    return outcome(
        audit_rank_iterables(
            {0: [b for w in loop.windows(loop.micro_batches(3, 0), loop.ACCUMULATE) for b in w]},
            sample_id_extractor=ids,
            policy=ExactlyOnce(range(loop.ROWS)),
        )
    )


# --- torch-preflight and guardtower


def preflight(loop: ModuleType, folder: Path) -> str | None:
    command = [
        sys.executable,
        "-m",
        "torch_preflight",
        "check",
        "--format",
        "json",
        str(folder / "plain_loop.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    found = json.loads(done.stdout)
    codes = sorted({one["code"] for one in found["diagnostics"]})
    return ", ".join(codes) or None


def tower(loop: ModuleType, folder: Path) -> str | None:
    import guardtower

    run, batch = loop.build(0), loop.micro_batches(0, 0)[0]
    run.model.train()
    tokens = max(int(batch[2].sum()), 1)
    report = guardtower.audit(
        run.model, lambda: loop.loss_sum(run.model, batch) / tokens, optimizer=run.optimizer
    )
    return "; ".join(str(one)[:120] for one in [*report.errors, *report.warnings]) or None


PEERS: dict[str, dict[str, Check]] = {
    "pytest-torch 1.1.1": {
        "optimizer coverage": optimizer_covers,
        "gradients": gradients_arrive,
        "inference contract": inference_contract,
        "determinism of an evaluation": evaluation_is_repeatable,
        "loss decreases, one batch is learned": learns,
        "accumulation": accumulates,
        "resume": resumes,
    },
    "TrainParity 0.1.0": {
        "resume": parity_resume,
        "accumulation": parity_accumulation,
        "sample coverage": parity_coverage,
    },
    "torch-preflight 0.5.0": {"check": preflight},
    "guardtower 0.1.0": {"audit": tower},
}
"""Peer -> its checks by name."""
