"""The manifest gate asks for the truth, whatever it is: own generators and libraries pass, false claims do not."""

import copy
import json
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest
import torch

from gates.errors import GateError
from gates.judge import manifest as truth
from gates.subject.git import Git
from gates.subject.run_directory import RunDirectory
from gates.subject.training_runs import Growth, Trained
from impl.config import Config
from impl.data.corpus import load_corpus
from impl.run import manifest
from impl.run.files import write_json

CORPUS = Path(__file__).resolve().parents[1] / "fixtures" / "corpus"
COMMAND = ("train", "--out", "x")
LAST = "checkpoints/step-00000001/manifest.json"


@pytest.fixture(scope="module")
def numba_manifest(tmp_path_factory):
    """What `impl` says."""
    tokenizer = tmp_path_factory.mktemp("run") / "tokenizer.json"
    tokenizer.write_bytes(b"{}")
    built = manifest.build(Config(), load_corpus(CORPUS), tokenizer, ["impl", *COMMAND], 103_680)
    return json.loads(json.dumps(built.model_dump(mode="json", by_alias=True)))


@pytest.fixture
def torch_manifest(numba_manifest):
    """What an honest PyTorch loop says: no numba, no Philox, its own words."""
    said = copy.deepcopy(numba_manifest)
    del said["numba"]
    said["rng"] = {"algorithm": "torch.Generator (mt19937)"}
    said["loss_reduction"] = "mean"
    said["torch"] = {"version": torch.__version__, "threads": torch.get_num_threads()}
    said["devices"] = [said.setdefault("device", "cpu")]
    said["remarks"] = "a field of its own"
    return said


def findings(said, folder):
    """What the checks of the machine, of the form and of the run say. Without numba's Philox it declares its own."""
    write_json(folder / "manifest.json", said)
    (folder / LAST).parent.mkdir(parents=True, exist_ok=True)
    for name in ("results.json", LAST):
        write_json(folder / name, {"run_id": said["run_id"]})
    run = LenientRun(folder)
    now = datetime.now(UTC)
    began = datetime.fromisoformat(said["started_at"])
    git = Git(None, None, None)
    trained = Trained(run, COMMAND, CORPUS, None, (git, git), began, now, 1.0, Growth(folder / LAST))
    generator = "own" if "torch" in said else "philox"
    facts = truth.run_facts(trained, generator)
    return [truth.valid(run), truth.machine(run), facts, truth.packages(run)]


class LenientRun(RunDirectory):
    """A run directory whose results are not looked at here."""

    def json(self, name):
        return json.loads(self.read(name))


def refusals(said, folder):
    return [f"{f.where}: {f.problem}" for f in findings(said, folder) if not f.passed]


def test_what_impl_says_is_true(numba_manifest, tmp_path):
    assert refusals(numba_manifest, tmp_path) == []


def test_a_truthful_manifest_of_another_library_is_true(torch_manifest, tmp_path):
    assert refusals(torch_manifest, tmp_path) == []


@pytest.mark.parametrize(
    ("path", "claim", "refused"),
    [
        (("numba",), {"version": "0.0.1"}, "manifest/machine: manifest.json: numba.version"),
        (("tensorflow",), {"version": "2.20"}, "manifest/machine: manifest.json: tensorflow.version"),
        (("torch", "version"), "2.0.0", "manifest/machine: manifest.json: torch.version"),
        (("torch",), {"threads": 2}, "manifest/schema: manifest.json: torch.version"),
        (("devices",), ["cuda: NVIDIA H100"], "manifest/machine: manifest.json: devices[0]"),
        (("device",), "cuda:0", "manifest/machine: manifest.json: device"),
        (("devices",), ["quantum"], "manifest/machine: manifest.json: devices[0]"),
        (("rng", "algorithm"), "philox4x32-10", "manifest/run: manifest.json: rng.algorithm"),
        (("rng",), {}, "manifest/schema: manifest.json: rng.algorithm"),
        (("packages", "numpy"), "1.0", "manifest/packages: manifest.json: packages.numpy"),
        (("memory_bytes",), 1, "manifest/machine: manifest.json: memory_bytes"),
    ],
)
def test_a_claim_that_is_not_true_is_refused(torch_manifest, tmp_path, path, claim, refused):
    inner = torch_manifest
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = claim
    if refused.startswith("manifest/schema"):
        write_json(tmp_path / "manifest.json", torch_manifest)
        found = truth.valid(LenientRun(tmp_path))
        assert f"{found.where}: {found.problem}" == refused
        with pytest.raises(GateError, match=r"manifest.json: .*: found nothing, expected"):
            truth.machine(LenientRun(tmp_path))
    else:
        assert any(line.startswith(refused) for line in refusals(torch_manifest, tmp_path))


@pytest.mark.parametrize(
    ("rng", "refused"),
    [
        ({"algorithm": "philox4x32-10"}, "manifest/run: manifest.json: rng.streams"),
        (
            {"algorithm": "philox4x32-10", "streams": {"init": "00"}},
            "manifest/run: manifest.json: rng.streams",
        ),
        ({"algorithm": "mt19937"}, "manifest/run: manifest.json: rng.algorithm"),
    ],
)
def test_a_loop_that_declares_philox_names_it_and_its_keys(numba_manifest, tmp_path, rng, refused):
    numba_manifest = copy.deepcopy(numba_manifest) | {"rng": rng}
    assert any(line.startswith(refused) for line in refusals(numba_manifest, tmp_path))


def test_the_numba_that_is_claimed_is_the_one_installed(torch_manifest, tmp_path):
    torch_manifest["numba"] = {"version": metadata.version("numba")}
    assert refusals(torch_manifest, tmp_path) == []


def test_a_field_that_is_missing_is_named_with_its_file(tmp_path):
    (tmp_path / "results.json").write_text('{"run_id": "' + "0" * 32 + '", "steps": 1, "best_step": 1}')
    with pytest.raises(
        GateError, match=r"results.json: perplexity: found nothing, expected scores by split .*dir-01"
    ):
        RunDirectory(tmp_path).json("results.json")
