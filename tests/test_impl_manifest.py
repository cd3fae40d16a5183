"""manifest.json: its schema is strict and committed, its facts are facts."""

import copy
import hashlib
import json
import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import rfc8785

from honestloop import schemas
from impl.config import Config
from impl.data.corpus import load_corpus
from impl.errors import UsageError
from impl.run import manifest
from impl.run.files import write_json

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "fixtures" / "corpus"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    tokenizer = tmp_path_factory.mktemp("run") / "tokenizer.json"
    tokenizer.write_bytes(b"{}")
    command_line = ["impl", "train", "--out", "x"]
    return manifest.build(Config(seed=2**64 - 1), load_corpus(CORPUS), tokenizer, command_line, 103_680)


@pytest.fixture
def value(built):
    """The JSON value of a manifest, to be altered at will."""
    return json.loads(json.dumps(built.model_dump(mode="json")))


def errors(value):
    return list(schemas.deviations("phase18_manifest", value))


def objects(value, path=()):
    """Every object inside a JSON value whose keys the schema fixes, with its path."""
    if isinstance(value, dict) and path not in {("config",), ("corpus",), ("packages",)}:
        yield path
        for key, inner in value.items():
            yield from objects(inner, (*path, key))


def inside(value, path):
    for key in path:
        value = value[key]
    return value


def test_a_built_manifest_is_valid_and_survives_the_disk(built, value, tmp_path):
    assert errors(value) == []
    write_json(tmp_path / "manifest.json", value)
    assert manifest.load(tmp_path / "manifest.json") == built


def refused(value, tmp_path):
    write_json(tmp_path / "manifest.json", value)
    try:
        manifest.load(tmp_path / "manifest.json")
    except UsageError:
        return True
    return False


def test_every_field_is_required_and_no_other_is_allowed(value, tmp_path):
    tried = 0
    for path in objects(value):
        for key in inside(value, path):
            broken = copy.deepcopy(value)
            del inside(broken, path)[key]
            assert refused(broken, tmp_path), f"{path} without {key}"
            tried += 1
        broken = copy.deepcopy(value)
        inside(broken, path)["surplus"] = 1
        assert refused(broken, tmp_path), f"{path} with a surplus field"
    assert tried == 22 + 2 + 3 + 3 + 2 + 3  # manifest, rng, streams, git, cores, numba


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("schema",), "honestloop/manifest/v2"),
        (("run_id",), "run-1"),
        (("command_line",), []),
        (("started_at",), "2026-01-01 00:00:00"),
        (("seed",), 0),
        (("seed",), "01"),
        (("config_sha256",), "ABC"),
        (("corpus", "train.jsonl"), EMPTY_SHA256[:-1]),
        (("tokenizer_sha256",), EMPTY_SHA256.upper()),
        (("git", "sha"), "HEAD"),
        (("git", "dirty"), "no"),
        (("cores", "logical"), 0),
        (("memory_bytes",), "24 GB"),
        (("dtype",), "float16"),
        (("loss_reduction",), ""),
        (("n_parameters",), 103_680.5),
        (("rng", "streams", "init"), "xyz"),
        (("numba", "version"), None),
    ],
)
def test_a_wrong_value_is_refused_by_schema_and_loader(value, tmp_path, path, wrong):
    inside(value, path[:-1])[path[-1]] = wrong
    assert errors(value)
    write_json(tmp_path / "manifest.json", value)
    with pytest.raises(UsageError) as refused:
        manifest.load(tmp_path / "manifest.json")
    assert "manifest.json" in str(refused.value)
    assert ".".join(path) in str(refused.value)


def test_hashes_seed_and_streams_are_what_they_say(value):
    assert value["seed"] == value["config"]["seed"] == str(2**64 - 1)
    assert value["config_sha256"] == hashlib.sha256(rfc8785.dumps(value["config"])).hexdigest()
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in CORPUS.glob("*.jsonl")}
    assert value["corpus"] == files
    assert value["tokenizer_sha256"] == hashlib.sha256(b"{}").hexdigest()
    key = hashlib.sha256(f"{2**64 - 1}/data".encode()).digest()[:8].hex()
    assert value["rng"]["streams"]["data"] == key


def test_software_and_hardware_are_the_ones_here(value):
    assert value["packages"]["numpy"] == metadata.version("numpy")
    assert len(value["packages"]) == len({d.name for d in metadata.distributions()})
    assert value["numba"]["threading_layer"] in ("tbb", "omp", "workqueue")
    assert "blas" in {library["user_api"] for library in value["blas"]}
    assert "mask" in value["loss_reduction"]


def test_two_runs_have_two_ids(built, tmp_path):
    again = manifest.build(Config(), load_corpus(CORPUS), CORPUS / "val.jsonl", ["x"], 1)
    assert again.run_id != built.run_id


@pytest.fixture
def repository(tmp_path):
    """An empty git repository, and a function that runs git in it."""

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)
        return done.stdout

    git("init", "-q")
    return tmp_path, git


def test_git_before_the_first_commit_and_outside_git_is_null(repository, tmp_path_factory):
    nothing = manifest.Git(sha=None, dirty=None, diff_sha256=None)
    assert manifest._git_state(repository[0]) == nothing
    assert manifest._git_state(tmp_path_factory.mktemp("outside")) == nothing


def test_git_state_clean_changed_and_with_an_untracked_file(repository):
    root, git = repository
    (root / "a").write_text("1\n")
    git("add", "a")
    git("commit", "-qm", "first")
    sha = git("rev-parse", "HEAD").decode().strip()
    assert manifest._git_state(root) == manifest.Git(sha=sha, dirty=False, diff_sha256=EMPTY_SHA256)
    (root / "b").write_text("new\n")
    assert manifest._git_state(root) == manifest.Git(sha=sha, dirty=True, diff_sha256=EMPTY_SHA256)
    (root / "a").write_text("2\n")
    diff = hashlib.sha256(git("diff", "HEAD", "--binary")).hexdigest()
    assert diff != EMPTY_SHA256
    assert manifest._git_state(root) == manifest.Git(sha=sha, dirty=True, diff_sha256=diff)


def test_an_image_brings_what_its_manifests_say_of_git():
    """The commit is read from .git; no variable says it a second time."""
    recipe = (ROOT / "Dockerfile").read_text()
    assert "COPY . .\n" in recipe
    assert " git " in recipe
    assert ".git" not in (ROOT / ".dockerignore").read_text().split()
    assert not re.findall(r"HONESTLOOP_\w+", recipe)


def test_a_machine_without_git_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert manifest._git_state(ROOT).sha is None


def test_processor_name_without_proc_comes_from_cpuinfo(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setattr("cpuinfo.get_cpu_info", lambda: {"brand_raw": "Apple M9"})
    assert manifest._cpu_model() == "Apple M9"
