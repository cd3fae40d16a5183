"""A finished run copied into MLflow, unless HONESTLOOP_TRACKING is off."""

import os
import time
from pathlib import Path
from typing import Any

from torch_phase18.log import lines
from torch_phase18.run import LOG, Run

METRICS = ("loss", "lr", "grad_norm", "val_loss", "val_ppl")
ARTEFACTS = (
    "manifest.json",
    "config.toml",
    "results.json",
    "*.png",
    "drift/*",
    "checkpoints/step-*/manifest.json",
)
DEFAULT_STORE = "sqlite:///runs/mlflow.db"
AT_ONCE = 200  # lines; MLflow takes 1000 metrics


class Tracker:
    """The MLflow run of a run directory; `said` is what results.json tells about it."""

    def __init__(self, run: Run) -> None:
        self.run, self.client, self.said = run, None, dict[str, Any](off=True)
        if os.environ.get("HONESTLOOP_TRACKING", "").lower() == "off":
            return
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
        if uri == DEFAULT_STORE:
            Path("runs").mkdir(exist_ok=True)
        self.client = MlflowClient(tracking_uri=uri)
        tags = {"honestloop.run_id": run.manifest["run_id"]}
        made = self.client.create_run(self._experiment(uri), tags=tags, run_name=run.path.resolve().name)
        self.said = {"run_id": made.info.run_id, "uri": uri}

    def copy(self) -> None:
        """Parameters, curves and files; the run is then finished."""
        if self.client is None:
            return
        from mlflow.entities import Metric, Param

        key, now = self.said["run_id"], int(time.time() * 1000)
        self.client.log_batch(key, params=[Param(*pair) for pair in _flat(self.run.manifest["config"])])
        log = lines(self.run.path / LOG)
        for start in range(0, len(log), AT_ONCE):
            metrics = [
                Metric(name, line[name], now, line["step"])
                for line in log[start : start + AT_ONCE]
                for name in METRICS
                if name in line
            ]
            self.client.log_batch(key, metrics=metrics)
        for path in (path for pattern in ARTEFACTS for path in sorted(self.run.path.glob(pattern))):
            folder = path.parent.relative_to(self.run.path).as_posix()
            self.client.log_artifact(key, str(path), None if folder == "." else folder)
        self.client.set_terminated(key, "FINISHED")

    def _experiment(self, uri: str) -> str:
        assert self.client is not None
        found = self.client.get_experiment_by_name("torch_phase18")
        place = Path("runs/mlartifacts").resolve().as_uri() if uri == DEFAULT_STORE else None
        return str(
            found.experiment_id
            if found
            else self.client.create_experiment("torch_phase18", artifact_location=place)
        )


def _flat(config: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for name, value in config.items():
        inner = isinstance(value, dict)
        found += _flat(value, f"{prefix}{name}.") if inner else [(prefix + name, str(value))]
    return found
