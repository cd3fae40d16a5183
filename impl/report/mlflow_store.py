"""A run directory copied into an MLflow store.

Every copy is idempotent: the MLflow run is found by the tag `honestloop.run_id` and the store is asked for its last
step, so neither a SIGKILL nor a second helper leaves a gap or a double.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from impl.report.tracking import DEFAULT_URI, without_password
from impl.run.log import read_log

EXPERIMENT = "honestloop"
METRICS = ("loss", "lr", "grad_norm", "val_loss", "val_ppl")
ARTEFACTS = (
    "manifest.json",
    "config.toml",
    "data.json",
    "results.json",
    "report.html",
    "samples.json",
    "evaluation.json",
    "machine.json",
    "loss_curve.png",
    "drift/*",
    "models/*.manifest.json",
    "checkpoints/step-*/manifest.json",
)
FINISHED = "FINISHED"
DESCRIPTION = "mlflow.note.content"
"""The tag that MLflow's page shows as the description of a run."""
_LINES_PER_BATCH = 200  # MLflow takes 1000 metrics at once


class AlreadyFinished(Exception):
    """The MLflow run is complete: there is nothing left to copy."""


class Mirror:
    """One run directory and its MLflow run."""

    def __init__(self, run_dir: Path, uri: str) -> None:
        self.run_dir = run_dir
        self.uri = uri
        self.error: str | None = None
        self._manifest: dict[str, Any] = {}
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._last_step = 0

    def attempt(self, *actions: Callable[[MlflowClient], None]) -> None:
        """Connect if need be, then do `actions`. What fails is kept in `error`; the next attempt starts anew."""
        try:
            if self._client is None:
                self._client = self._connect()
            for action in actions:
                action(self._client)
            self.error = None
        except AlreadyFinished:
            self.error = None
        except Exception as error:
            self._client = None
            self.error = one_line(error)

    def answer(self) -> dict[str, str]:
        """What the training writes into results.json."""
        if self.error is not None:
            return {"error": self.error}
        return {"run_id": self._run_id, "uri": without_password(self.uri)}

    def copy_log(self, client: MlflowClient) -> None:
        """Log the lines of train_log.jsonl that come after the store's last step."""
        lines = [
            line for line in read_log(self.run_dir / "train_log.jsonl") if line["step"] > self._last_step
        ]
        now = int(time.time() * 1000)
        for start in range(0, len(lines), _LINES_PER_BATCH):
            batch = lines[start : start + _LINES_PER_BATCH]
            metrics = [
                Metric(name, line[name], now, line["step"])
                for line in batch
                for name in METRICS
                if name in line
            ]
            client.log_batch(self._run_id, metrics=metrics)
            self._last_step = batch[-1]["step"]

    def copy_artefacts(self, client: MlflowClient) -> None:
        """Log what the run directory has of the files worth keeping; the tensors stay where they are."""
        for pattern in ARTEFACTS:
            for path in sorted(self.run_dir.glob(pattern)):
                self._copy_file(client, path)

    def copy_results(self, client: MlflowClient) -> None:
        """Log the final figures of results.json, if it is there, as metrics, and say them in the run's description."""
        if not (file := self.run_dir / "results.json").exists():
            return
        results = json.loads(file.read_bytes())
        strongest, scores = results["strongest_baseline"], results["perplexity"]
        figures = {f"final_{split}_ppl": score["ppl"] for split, score in scores.items() if score}
        figures |= {name: results[name] for name in ("ratio", "tokens_per_second", "wall_seconds")}
        now = int(time.time() * 1000)
        known = [
            Metric(name, value, now, self._last_step) for name, value in figures.items() if value is not None
        ]
        client.log_batch(self._run_id, metrics=known)
        said = (
            f"Validation perplexity {scores['val']['ppl']:.4f}, {results['ratio']:.3f} x that of the strongest n-gram "
            f"({strongest['kind']}, n = {strongest['n']}, {strongest['val']['ppl']:.4f}); best at step "
            f"{results['best_step']}. Whether the run is right is not said here: `pytest gates/` judges it."
        )
        client.set_tag(self._run_id, DESCRIPTION, said)

    def end(self, status: str) -> Callable[[MlflowClient], None]:
        """The action that closes the MLflow run as `status`."""
        return lambda client: client.set_terminated(self._run_id, status)

    def _copy_file(self, client: MlflowClient, path: Path) -> None:
        folder = path.parent.relative_to(self.run_dir).as_posix()
        client.log_artifact(self._run_id, str(path), None if folder == "." else folder)

    def _connect(self) -> MlflowClient:
        """Find or create the MLflow run, with its parameters, and ask for its last step."""
        self._manifest = json.loads((self.run_dir / "manifest.json").read_bytes())
        client = MlflowClient(tracking_uri=self.uri)
        run = self._find_run(client) or self._create_run(client)
        self._run_id = run.info.run_id
        if run.info.status == FINISHED:  # perhaps by the helper of a resumed training, while this one waited
            raise AlreadyFinished
        client.update_run(self._run_id, status="RUNNING")
        client.log_batch(self._run_id, params=list(parameters(self._manifest)))
        history = client.get_metric_history(self._run_id, METRICS[0])
        self._last_step = max((metric.step for metric in history), default=0)
        for name in ("manifest.json", "config.toml"):
            self._copy_file(client, self.run_dir / name)
        return client

    def _find_run(self, client: MlflowClient) -> Run | None:
        same = f"tags.`honestloop.run_id` = '{self._manifest['run_id']}'"
        runs = client.search_runs([self._experiment(client)], filter_string=same, max_results=1)
        return runs[0] if runs else None

    def _create_run(self, client: MlflowClient) -> Run:
        config = self._manifest["config"]
        tags = {
            DESCRIPTION: f"A training in {self.run_dir.resolve()}; its figures are here when it is over.",
            "honestloop.run_id": self._manifest["run_id"],
            "mlflow.source.name": " ".join(self._manifest["command_line"]),
            "mlflow.source.git.commit": self._manifest["git"]["sha"] or "",
        }
        started = datetime.fromisoformat(self._manifest["started_at"])
        return client.create_run(
            self._experiment(client),
            start_time=int(started.timestamp() * 1000),
            tags=tags,
            run_name=f"{self.run_dir.resolve().name}, seed {config['seed']}, {config['steps']} steps",
        )

    def _experiment(self, client: MlflowClient) -> str:
        """Id of the experiment; the default store keeps its artefacts beside itself."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        place = Path("runs/mlartifacts").resolve().as_uri() if self.uri == DEFAULT_URI else None
        found = client.get_experiment_by_name(name)
        # A store that was moved or copied here keeps its artefacts elsewhere.
        if found is not None and place and found.artifact_location != place:
            name = f"{name} in {Path.cwd()}"
            found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name, artifact_location=place))
            except (
                MlflowException
            ):  # another run has just created it; if not, the next line raises the reason
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)


def parameters(manifest: dict[str, Any]) -> Iterator[Param]:
    """The configuration, flattened (`model.d_model`), and the facts of the manifest worth a column."""
    for name in ("config_sha256", "tokenizer_sha256", "n_parameters", "loss_reduction"):
        yield Param(name, str(manifest[name]))
    for name, value in manifest["config"].items():
        if isinstance(value, dict):
            yield from (Param(f"{name}.{key}", str(inner)) for key, inner in value.items())
        else:
            yield Param(name, str(value))


def one_line(error: Exception) -> str:
    """First line of an error's message, with its type, at most 300 characters."""
    message = str(error).strip().splitlines() or [""]
    return without_password(f"{type(error).__name__}: {message[0]}")[:300]
