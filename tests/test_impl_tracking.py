"""MLflow mirrors the run directory: every number once, every file, whatever happens to the training or to the store."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from impl.commands import COMPILES
from impl.report.tracking import DEFAULT_URI, HELPER_SETTINGS, Tracker, without_password

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a library's, on import
    from mlflow import MlflowClient

    from impl.report.mlflow_helper import first_commands
    from impl.report.mlflow_store import METRICS, Mirror, parameters
    from impl.run.log import read_log

ROOT = Path(__file__).resolve().parents[1]
RUN_ID = "0123456789abcdef0123456789abcdef"
MANIFEST: dict[str, Any] = {
    "schema": "honestloop/manifest/v1",
    "run_id": RUN_ID,
    "command_line": ["impl", "train"],
    "started_at": "2026-01-02T03:04:05.678Z",
    "git": {"sha": None, "dirty": None, "diff_sha256": None},
    "config": {"seed": "18446744073709551615", "steps": 450, "model": {"d_model": 64, "ln_eps": 1e-5}},
    "config_sha256": "c" * 64,
    "tokenizer_sha256": "d" * 64,
    "n_parameters": 103_680,
    "loss_reduction": "mean over unmasked tokens",
}


def log_line(step):
    """A line of train_log.jsonl whose floats have no short decimal form; every 50th is an evaluation."""
    line = {"step": step, "epoch": 0, "loss": 1 / step, "lr": step / 3e5, "grad_norm": step / 7, "tokens": 9}
    return line | ({"val_loss": 2 / step, "val_ppl": 3 / step} if step % 50 == 0 else {})


def write_log(run_dir, steps, tail=""):
    lines = [json.dumps(log_line(step)) + "\n" for step in range(1, steps + 1)]
    (run_dir / "train_log.jsonl").write_text("".join(lines) + tail)


@pytest.fixture
def run_dir(tmp_path):
    """A run directory with 450 logged steps: more than one batch of MLflow's."""
    run_dir = tmp_path / "run"
    for folder in ("drift", "models", "checkpoints/step-00000450"):
        (run_dir / folder).mkdir(parents=True)
    (run_dir / "manifest.json").write_text(json.dumps(MANIFEST))
    for name in ("config.toml", "drift/drift_results.json", "models/m.manifest.json"):
        (run_dir / name).write_text(f"contents of {name}")
    (run_dir / "results.json").write_text(json.dumps(RESULTS))
    (run_dir / "checkpoints/step-00000450/manifest.json").write_text("digests")
    (run_dir / "checkpoints/step-00000450/weights.safetensors").write_text("tensors")
    write_log(run_dir, 450)
    return run_dir


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory):
    """The bytes of an empty store: creating one takes two seconds."""
    file = tmp_path_factory.mktemp("store") / "empty.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file.read_bytes()


@pytest.fixture
def uri(tmp_path, migrated_store, monkeypatch):
    """Address of an empty store of this test's own, with its artefacts beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("HONESTLOOP_TRACKING", raising=False)
    (tmp_path / "store.db").write_bytes(migrated_store)
    return f"sqlite:///{tmp_path}/store.db"


RESULTS = {
    "perplexity": {"val": {"ppl": 1.25}, "test": None},
    "strongest_baseline": {"kind": "backoff", "n": 3, "val": {"ppl": 2.5}},
    "ratio": 0.5,
    "best_step": 400,
    "tokens_per_second": 9000.0,
    "wall_seconds": 3.0,
}


def tracked(uri):
    """The runs of a store."""
    client = MlflowClient(uri)
    return client, client.search_runs([e.experiment_id for e in client.search_experiments()])


def curves(uri):
    """Every metric of the only run, as a list of (step, value)."""
    client, (run,) = tracked(uri)
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in METRICS}
    return {name: [(m.step, m.value) for m in history] for name, history in histories.items()}


def expected_curves(steps):
    lines = [log_line(step) for step in range(1, steps + 1)]
    return {name: [(line["step"], line[name]) for line in lines if name in line] for name in METRICS}


def test_metrics_equal_the_log_exactly_and_once(run_dir, uri):
    mirror = Mirror(run_dir, uri)
    mirror.attempt(mirror.copy_log)
    assert mirror.error is None
    assert curves(uri) == expected_curves(450)
    mirror.attempt(mirror.copy_log)
    after_a_crash = Mirror(run_dir, uri)
    after_a_crash.attempt(after_a_crash.copy_log)
    assert after_a_crash.answer() == mirror.answer()
    assert curves(uri) == expected_curves(450)


def test_a_growing_log_is_followed_and_its_half_line_waits(run_dir, uri):
    write_log(run_dir, 3, tail='{"step": 4, "lo')
    mirror = Mirror(run_dir, uri)
    mirror.attempt(mirror.copy_log)
    assert curves(uri) == expected_curves(3)
    write_log(run_dir, 50)
    mirror.attempt(mirror.copy_log)
    assert curves(uri) == expected_curves(50)


def test_a_log_cut_back_by_resume_and_written_again_adds_nothing_twice(run_dir, uri):
    mirror = Mirror(run_dir, uri)
    mirror.attempt(mirror.copy_log)
    resumed = Mirror(run_dir, uri)
    write_log(run_dir, 400)
    resumed.attempt(resumed.copy_log)
    write_log(run_dir, 500)
    resumed.attempt(resumed.copy_log)
    assert curves(uri) == expected_curves(500)


def test_no_log_yet(tmp_path):
    assert read_log(tmp_path / "train_log.jsonl") == []


def test_parameters_are_the_flattened_configuration():
    found = {parameter.key: parameter.value for parameter in parameters(MANIFEST)}
    assert found["seed"] == "18446744073709551615"
    assert found["model.d_model"] == "64"
    assert found["model.ln_eps"] == "1e-05"
    assert found["loss_reduction"] == MANIFEST["loss_reduction"]


def test_artefacts_equal_the_files_and_tensors_stay(run_dir, uri, tmp_path):
    mirror = Mirror(run_dir, uri)
    mirror.attempt(mirror.copy_artefacts, mirror.end("FINISHED"))
    client, (run,) = tracked(uri)
    assert run.info.status == "FINISHED"
    assert run.data.tags["honestloop.run_id"] == RUN_ID
    assert run.info.start_time == 1_767_323_045_678
    (tmp_path / "copy").mkdir()
    copy = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path / "copy")))
    found = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    wanted = {
        "manifest.json",
        "config.toml",
        "results.json",
        "drift/drift_results.json",
        "models/m.manifest.json",
        "checkpoints/step-00000450/manifest.json",
    }
    assert wanted <= found
    assert not [name for name in found if name.endswith(".safetensors")]
    assert all((copy / name).read_bytes() == (run_dir / name).read_bytes() for name in wanted)


def test_a_store_that_comes_back_gets_everything(run_dir, uri, tmp_path, migrated_store):
    mirror = Mirror(run_dir, uri)
    (tmp_path / "store.db").write_text("not a database")
    mirror.attempt(mirror.copy_log)
    assert "not a database" in mirror.answer()["error"]
    (tmp_path / "store.db").write_bytes(migrated_store)
    mirror.attempt(mirror.copy_log)
    assert mirror.error is None
    assert curves(uri) == expected_curves(450)


@pytest.mark.parametrize("uri", ["postgresql://ann:secret@db/x", "http://ann:secret@127.0.0.1:5000"])
def test_a_password_is_never_shown(uri):
    assert without_password(f"cannot reach {uri} now") == f"cannot reach {uri} now".replace(
        "ann:secret", "***"
    )


@pytest.mark.parametrize(
    ("said", "quiet", "heard"),
    [
        (b"sync\nsync\n", 0.05, ["sync"]),
        (b"sync\nprepare\nsync\n", 60.0, ["sync", "prepare", "sync"]),
        (b"", 0.05, ["sync"]),
    ],
    ids=["checkpoints", "end of the steps", "no checkpoint"],
)
def test_the_first_seconds_are_the_trainings(said, quiet, heard):
    """MLflow is imported when they are over, or when there is no step left to disturb."""
    reading, writing = os.pipe()
    os.write(writing, said)
    began = time.monotonic()
    assert first_commands(reading, quiet) == heard
    assert (time.monotonic() - began >= quiet) == (b"prepare" not in said)
    os.close(writing)
    os.close(reading)


def test_a_training_killed_in_its_first_seconds_is_noticed_at_once():
    reading, writing = os.pipe()
    os.write(writing, b"sync\n")
    os.close(writing)
    began = time.monotonic()
    assert first_commands(reading, 60.0) == []
    assert time.monotonic() - began < 60.0
    os.close(reading)


def test_off_starts_nothing(run_dir, monkeypatch):
    monkeypatch.setenv("HONESTLOOP_TRACKING", "off")
    with Tracker(run_dir) as tracker:
        tracker.sync()
        assert tracker.where() == tracker.finish() == {"off": True}


def test_default_store_is_a_file_under_runs(run_dir, uri, tmp_path, migrated_store, capfd):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").write_bytes(migrated_store)
    with Tracker(run_dir) as tracker:
        tracker.sync()
        where = tracker.where()
        assert where == tracker.finish()
    assert where["uri"] == DEFAULT_URI
    assert curves(DEFAULT_URI) == expected_curves(450)
    _, (run,) = tracked(DEFAULT_URI)
    assert (run.info.run_id, run.info.status) == (where["run_id"], "FINISHED")
    manifest = tmp_path / "runs" / "mlartifacts" / where["run_id"] / "artifacts" / "manifest.json"
    assert manifest.read_bytes() == (run_dir / "manifest.json").read_bytes()
    assert (
        run.data.metrics.items() >= {"ratio": 0.5, "final_val_ppl": 1.25, "tokens_per_second": 9000.0}.items()
    )
    assert "final_test_ppl" not in run.data.metrics  # it is not scored
    said = run.data.tags["mlflow.note.content"]
    assert said.startswith(
        "Validation perplexity 1.2500, 0.500 x that of the strongest n-gram (backoff, n = 3, 2.5000)"
    )
    assert (
        run.info.run_name
        == f"{run_dir.name}, seed {MANIFEST['config']['seed']}, {MANIFEST['config']['steps']} steps"
    )
    assert capfd.readouterr() == ("", "")


def test_address_from_the_environment(run_dir, uri, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with Tracker(run_dir) as tracker:
        assert tracker.where()["uri"] == uri
    _, (run,) = tracked(uri)
    assert run.info.status == "KILLED"  # it never finished
    assert not (tmp_path / "runs").exists()


def test_an_exception_marks_the_run_failed(run_dir, uri):
    with pytest.raises(ZeroDivisionError), Tracker(run_dir, uri) as tracker:
        tracker.sync()
        raise ZeroDivisionError
    _, (run,) = tracked(uri)
    assert run.info.status == "FAILED"


def test_a_finished_run_is_left_alone_by_a_late_helper(run_dir, uri):
    mirror = Mirror(run_dir, uri)
    mirror.attempt(mirror.copy_log, mirror.end("FINISHED"))
    late = Mirror(run_dir, uri)
    late.attempt(late.copy_log, late.end("KILLED"))
    assert late.answer() == mirror.answer()
    _, (run,) = tracked(uri)
    assert run.info.status == "FINISHED"


def test_a_killed_training_leaves_a_whole_run_that_resume_continues(run_dir, uri):
    write_log(run_dir, 100)
    script = (
        "import os, pathlib, signal, sys; from impl.report.tracking import Tracker\n"
        "tracker = Tracker(pathlib.Path(sys.argv[1]), sys.argv[2]); tracker.sync()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", script, str(run_dir), uri], env=environment)
    assert killed.returncode == -signal.SIGKILL
    write_log(run_dir, 450)
    with Tracker(run_dir, uri) as tracker:  # while the first helper may still be starting
        tracker.finish()
    assert curves(uri) == expected_curves(450)
    _, (run,) = tracked(uri)
    assert run.info.status == "FINISHED"


@pytest.fixture
def silent_server():
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_store_that_hangs_is_given_up(run_dir, silent_server, capfd):
    began = time.monotonic()
    with Tracker(run_dir, silent_server, patience=1.0) as tracker:
        for _ in range(20_000):  # more than a pipe holds
            tracker.sync()
        assert tracker.where() == {"error": "no answer in 1 s"}
        assert tracker.finish() == {"error": "its helper process died"}
    assert time.monotonic() - began < 10
    assert capfd.readouterr().err.count("\n") == 1


def test_a_helper_that_is_slow_but_at_work_is_waited_for(run_dir, uri, capfd):
    """Importing MLflow takes longer than this patience, as it takes the usual one where others have all cores."""
    with Tracker(run_dir, uri, patience=1.0) as tracker:
        tracker.sync()
        assert "run_id" in tracker.finish()
    assert curves(uri) == expected_curves(450)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("http://127.0.0.1:9", "Max retries exceeded"),
        ("nonsense://x", "unsupported URI"),
        ("sqlite:////proc/x/y.db", "No such file or directory"),
        ("sqlite:///{tmp_path}/text.db", "file is not a database"),
    ],
    ids=["dead server", "unknown scheme", "unwritable directory", "corrupt file"],
)
def test_a_store_that_cannot_be_reached_is_an_answer(run_dir, tmp_path, broken, reason, monkeypatch):
    for name, value in HELPER_SETTINGS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "text.db").write_text("not a database, and long enough not to look like an empty one")
    began = time.monotonic()
    mirror = Mirror(run_dir, broken.format(tmp_path=tmp_path))
    mirror.attempt(mirror.copy_log, mirror.copy_artefacts, mirror.end("FINISHED"))
    assert reason in mirror.answer()["error"]
    assert "\n" not in mirror.answer()["error"]
    assert time.monotonic() - began < 20


def test_a_helper_that_dies_is_an_answer(run_dir, capfd):
    (run_dir / "manifest.json").unlink()
    with Tracker(run_dir, "sqlite:///unused.db") as tracker:
        assert tracker.where() == {"error": "its helper process died"}
        tracker.sync()
    line = "tracking: the run is whole, but not in sqlite:///unused.db: its helper process died\n"
    assert capfd.readouterr() == ("", line)


def test_a_training_finishes_without_its_store(tmp_path):
    run = tmp_path / "run"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    environment.pop("HONESTLOOP_TRACKING", None)
    command = [sys.executable, "-m", "impl", "train", "--out", str(run), "--steps", "2"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (said,) = done.stderr.replace(COMPILES + "\n", "").splitlines()
    assert said.startswith("tracking: the run is whole, but not in http://127.0.0.1:9: MlflowException")
    assert list(json.loads((run / "results.json").read_bytes())["mlflow"]) == ["error"]


def make_ui(folder, *options):
    for name in ("Makefile", "requirements.lock"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return subprocess.run(
        ["make", "--no-print-directory", *options, "ui"], cwd=folder, capture_output=True, text=True
    )


def test_the_web_pages_need_a_store(tmp_path):
    done = make_ui(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    said = done.stderr.splitlines()[0]
    assert said == "error: there is no runs/mlflow.db yet; python -m impl train makes it"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_web_pages_have_an_environment_of_their_own_and_say_where_they_are(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mlflow.db").touch()
    plan = make_ui(tmp_path, "--dry-run").stdout
    assert f"-m pip install --quiet --disable-pip-version-check mlflow=={version('mlflow-skinny')}\n" in plan
    assert plan.index("-m venv --clear .venv-ui") < plan.index("http://127.0.0.1:5000/#/experiments/")
    assert plan.index("#/experiments/") < plan.index(".venv-ui/bin/mlflow ui")
