"""Checks of the MLflow gate: what the tracking store holds is what the run directory holds."""

import hashlib
import importlib
import os
import urllib.parse
import urllib.request
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gates.errors import GateError
from gates.subject.run_directory import RunDirectory
from gates.subject.tracking_store import sqlite_uri
from gates.verdict.finding import Finding, all_equal
from honestloop.guarded_files import one_line, printable
from honestloop.suite_location import ROOT

EACH_STEP, AT_THE_END = ("loss", "lr", "grad_norm"), ("val_loss", "val_ppl")
METRICS = (*EACH_STEP, *AT_THE_END)
ARTEFACTS = ("manifest.json", "config.toml", "results.json", "loss_curve.png")
TAG = "honestloop.run_id"


@dataclass(frozen=True)
class Store:
    """The runs of a tracking store that carry one run's id, read through MLflow's own client."""

    uri: str
    runs: list[Any]
    metrics: Mapping[str, dict[int, float]]
    artefacts: Mapping[str, bytes]


def load() -> None:
    """Import all that reading a store takes: before a subject runs, which might write modules of the same names."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library and its dependencies, on import
        for name in (
            "mlflow",
            "mlflow.store.tracking.sqlalchemy_store",
            "sqlalchemy.dialects.sqlite.pysqlite",
        ):
            importlib.import_module(name)


def read(run: RunDirectory, uri: str, folder: Path = ROOT) -> Store:
    """Look the run up; a relative store is in the folder that the subject ran in. GateError if it cannot be read."""
    load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        import sqlalchemy

        address = _absolute(uri, folder)
        try:
            client = mlflow.MlflowClient(address)
            experiments = [experiment.experiment_id for experiment in client.search_experiments()]
            wanted = f"tags.`{TAG}` = '{run.json('manifest.json')['run_id']}'"
            found = list(client.search_runs(experiments, wanted))
            if len(found) != 1:
                return Store(uri, found, {}, {})
            run_id = found[0].info.run_id
            metrics = {
                name: {m.step: m.value for m in client.get_metric_history(run_id, name)}
                for name in found[0].data.metrics
            }
            return Store(uri, found, metrics, _artefacts(found[0].info.artifact_uri))
        except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
            # ValueError: of ConfigParser, where the folder in which MLflow is installed has a `%` in its name
            raise GateError(f"MLflow store {uri}: {one_line(error)}") from None


def run_exists(run: RunDirectory, store: Store) -> Finding:
    """One run with this run id, finished, in the store that results.json names."""
    said = run.json("results.json")["mlflow"]
    facts: dict[str, tuple[Any, Any]] = {"runs with this run id": (len(store.runs), 1)}
    if len(store.runs) == 1:
        facts["its status"] = (store.runs[0].info.status, "FINISHED")
        facts["results.json: mlflow.run_id"] = ((said or {}).get("run_id"), store.runs[0].info.run_id)
        facts["results.json: mlflow.uri"] = ((said or {}).get("uri"), store.uri)
    return all_equal("mlflow/run", facts, of=f"1 run in {store.uri}")


def metrics_equal_the_log(run: RunDirectory, store: Store) -> Finding:
    """Every value of every curve, exactly; no value missing, none too many; and the log has them all."""
    log: dict[str, dict[int, float]] = {name: {} for name in METRICS}
    for line in run.log:
        for name in METRICS:
            if name in line:
                log[name][line["step"]] = line[name]
    facts = _gaps(run.log)
    for name, curve in log.items():
        tracked = store.metrics.get(name, {})
        for step in sorted({*curve, *tracked}):
            facts[f"metric {name} at step {step}"] = (tracked.get(step), curve.get(step))
    return all_equal("mlflow/metrics", facts, of=f"{len(facts)} values in {len(log)} curves")


def _gaps(log: list[dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """What the log itself lacks: a number for each curve on each line, for validation at least on the last."""
    if not log:
        return {"train_log.jsonl": ("no lines", "a line a step")}
    wanted = [(number, line, name) for number, line in enumerate(log, 1) for name in EACH_STEP]
    wanted += [(len(log), log[-1], name) for name in AT_THE_END]
    return {
        f"train_log.jsonl line {number}: {name}": (repr(line.get(name)), "a number")
        for number, line, name in wanted
        if type(line.get(name)) not in (int, float)
    }


def parameters_equal_the_configuration(run: RunDirectory, store: Store) -> Finding:
    """Every setting of the resolved configuration, under its dotted name."""
    tracked = store.runs[0].data.params if store.runs else {}
    facts = {
        f"parameter {name}": (tracked.get(name), value)
        for name, value in _flat(run.json("manifest.json")["config"])
    }
    return all_equal("mlflow/parameters", facts, of=f"{len(facts)} settings")


def artefacts_equal_the_files(run: RunDirectory, store: Store) -> Finding:
    """Manifest, configuration, results, plots, drift report and checkpoint manifests, byte for byte."""
    facts = {
        f"artefact {name}": (_digest(store.artefacts.get(name)), _digest(run.read(name)))
        for name in _expected_artefacts(run)
    }
    return all_equal("mlflow/artefacts", facts, of=f"{len(facts)} files")


def _expected_artefacts(run: RunDirectory) -> list[str]:
    drift = [f"drift/{name}" for name in run.names("drift")]
    return [*ARTEFACTS, *drift, *(f"{folder}/manifest.json" for folder in run.checkpoints().values())]


def _artefacts(address: str) -> dict[str, bytes]:
    """What lies where the store says that the artefacts are, which must be a folder of this machine."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("", "file") or parts.netloc:
        raise GateError(
            f"MLflow store: found artefacts at {printable(address)[:200]}, expected a folder here"
        )
    folder = ROOT / urllib.request.url2pathname(parts.path)
    kept = RunDirectory(folder)
    names = [str(path.relative_to(folder)) for path in kept.files()]
    return {name: kept.read(name) for name in names}


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for name, value in config.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", str(value)))
    return found


def _absolute(uri: str, folder: Path) -> str:
    """A relative SQLite path is relative to where the subject ran. GateError if there is no such file."""
    path = uri.removeprefix("sqlite:///")
    if path == uri or path.startswith("/"):
        return uri
    if not (folder / path).is_file():
        raise GateError(f"MLflow store {uri}: there is no such file")
    return sqlite_uri(folder / path)


def _digest(data: bytes | None) -> str:
    return "missing" if data is None else f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:12]}"
