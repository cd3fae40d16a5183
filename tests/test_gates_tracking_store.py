"""The tracking store is found whatever its folder is called, and only plain files of this machine are read from it."""

import json
import warnings
from urllib.parse import quote

import pytest

from gates.errors import GateError
from gates.judge import tracking
from gates.subject.run_directory import RunDirectory
from gates.subject.tracking_store import DEFAULT_STORE, own_store, store_of_session

ODD = "früh 50%41% #1"


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A folder with an odd name, in it a run, and a store in which that is tracked."""
    folder = tmp_path_factory.mktemp("store") / ODD
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "manifest.json").write_text(json.dumps({"run_id": "r1"}))
    store = own_store(folder)
    tracking.load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        client = mlflow.MlflowClient(store["MLFLOW_TRACKING_URI"])
        place = store["_MLFLOW_SERVER_ARTIFACT_ROOT"]
        run = client.create_run(
            client.create_experiment("e", artifact_location=place), tags={tracking.TAG: "r1"}
        )
        client.log_metric(run.info.run_id, "loss", 1.5, step=1)
        client.log_artifact(run.info.run_id, str(folder / "run" / "manifest.json"))
    return folder, store["MLFLOW_TRACKING_URI"], client, run.info


def test_a_store_in_a_folder_of_any_name_is_read(tracked):
    folder, uri, _, _ = tracked
    assert (folder / "mlflow.db").is_file()
    store = tracking.read(RunDirectory(folder / "run"), uri)
    assert store.metrics == {"loss": {1: 1.5}}
    assert store.artefacts == {"manifest.json": b'{"run_id": "r1"}'}


def test_the_default_store_is_read_below_a_root_of_any_name(tracked):
    folder = tracked[0]
    (folder / "runs").mkdir()
    (folder / "mlflow.db").rename(folder / "runs" / "mlflow.db")
    try:
        assert tracking.read(RunDirectory(folder / "run"), DEFAULT_STORE, folder).metrics == {
            "loss": {1: 1.5}
        }
    finally:
        (folder / "runs" / "mlflow.db").rename(folder / "mlflow.db")
    with pytest.raises(GateError, match="there is no such file"):
        tracking.read(RunDirectory(folder / "run"), DEFAULT_STORE, folder)


def test_an_artefact_that_is_no_file_is_one_line(tracked):
    folder, uri, _, info = tracked
    where = folder / "mlartifacts" / info.run_id / "artifacts" / "linked.json"
    where.symlink_to("/etc/passwd")
    with pytest.raises(GateError, match=r"linked\.json: found a symbolic link"):
        tracking.read(RunDirectory(folder / "run"), uri)
    where.unlink()


@pytest.mark.parametrize("address", ["http://192.0.2.1/x", "s3://bucket/x", "file://elsewhere/x"])
def test_artefacts_elsewhere_are_not_fetched(address):
    with pytest.raises(GateError, match="expected a folder here"):
        tracking._artefacts(address)
    assert tracking._artefacts(f"file:///no/such/{quote(ODD)}") == {}


def test_a_checkout_that_can_be_written_keeps_its_store_and_another_gets_one_among_the_runs(
    tmp_path, monkeypatch
):
    assert store_of_session(tmp_path) == {}
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert store_of_session(tmp_path)["MLFLOW_TRACKING_URI"].startswith("sqlite:///")
