"""The command line end to end on a small model: what a user sees, and what is on the disk afterwards."""

import contextlib
import fcntl
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from impl.__main__ import main
from impl.commands import COMPILES
from impl.errors import UsageError
from impl.kernels.runtime import thread_pool

ROOT = Path(__file__).resolve().parents[1]
SMALL = """
batch_size = 64
steps = 12
eval_every = 4
checkpoint_every = 4
[model]
d_model = 8
n_heads = 2
n_layers = 1
d_ff = 8
[optimizer]
warmup_steps = 3
"""


BUFFERED = {
    **os.environ,
    "HONESTLOOP_TRACKING": "off",
    "PYTHONUNBUFFERED": "",
}  # as an interpreter is by default


def process(*arguments, environment=None, **options):
    """Run one verb as a process of its own."""
    variables = {**os.environ, "HONESTLOOP_TRACKING": "off", **(environment or {})}
    command = [sys.executable, "-m", "impl", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120, **options
    )
    return subprocess.CompletedProcess(command, done.returncode, done.stdout, beside_compiling(done.stderr))


def beside_compiling(errors):
    """What was said on stderr, but for the line of a first training."""
    return errors.replace(COMPILES + "\n", "")


def impl(*arguments):
    """Run one verb here: the same as `process`, without the second it takes to start one."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(
        arguments, status, output.getvalue(), beside_compiling(errors.getvalue())
    )


@pytest.fixture(scope="module", autouse=True)
def _no_tracking():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HONESTLOOP_TRACKING", "off")
        yield


def refused(done, pattern):
    """One line on stderr that says why, nothing on stdout, status 2."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.fullmatch(rf"error: .*{pattern}.*\n", done.stderr), done.stderr


def contents(directory):
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def finished(config):
    """A finished run of 12 steps."""
    out = config.parent / "finished"
    done = impl("train", "--out", out, "--config", config)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def unfinished(finished, config, tmp_path):
    """A run stopped after step 6 of 12, with checkpoints at 4 and 6."""
    out = tmp_path / "unfinished"
    done = impl("train", "--out", out, "--config", config, "--stop-after", 6)
    assert done.returncode == 0, done.stderr
    return out


def log_of(run):
    return (run / "train_log.jsonl").read_bytes()


def test_a_run_directory_has_everything_and_nothing_else(finished):
    stem = next((finished / "models").glob("*[0-9a-f].safetensors")).stem
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    files = ("manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors")
    assert names == {
        *(f"checkpoints/step-{step:08d}/{name}" for step in (4, 8, 12) for name in files),
        *(f"models/{stem}.{end}" for end in ("safetensors", "manifest.json", "optim.safetensors")),
        *(f"drift/{name}" for name in ("drift_results.json", "drift_per_layer.png", "argmax_flips.md")),
        *("manifest.json", "config.toml", "data.json", "tokenizer.json", "train_log.jsonl", "results.json"),
        *("live_logits.safetensors", "loss_curve.png", "samples.json", "report.html"),
        *("evaluation.json", "machine.json"),
    }


def test_interrupted_and_resumed_is_the_same_to_the_byte(finished, unfinished):
    assert process("train", "--out", unfinished, "--resume").returncode == 0
    assert log_of(unfinished) == log_of(finished)
    last = "checkpoints/step-00000012"
    for name in ("weights.safetensors", "optimizer.safetensors", "state.json"):
        assert (unfinished / last / name).read_bytes() == (finished / last / name).read_bytes()


def test_resuming_a_finished_run_changes_nothing(finished):
    before = contents(finished)
    done = impl("train", "--out", finished, "--resume")
    assert (done.returncode, contents(finished)) == (0, before)


def test_stopping_before_the_first_step_leaves_manifest_and_checkpoint(config, tmp_path):
    done = impl("train", "--out", tmp_path / "run", "--config", config, "--stop-after", 0)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/manifest.json").read_text())["seed"] == "0"
    assert log_of(tmp_path / "run") == b""
    assert (tmp_path / "run/checkpoints/step-00000000").is_dir()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_writes_a_checkpoint(config, tmp_path, number):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "impl", "train", "--out", out, "--config", config, "--steps", "100000"]
    training = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert training.stdout is not None
    assert training.stdout.readline()  # the first evaluation: training is under way
    training.send_signal(number)
    output, errors = training.communicate(timeout=60)
    stopped = re.search(rb"stopped after step (\d+) of 100000; continue with --resume", output)
    assert stopped is not None, output
    step = int(stopped[1])
    assert (training.returncode, errors) == (0, b"")
    assert log_of(out).count(b"\n") == step
    assert (out / f"checkpoints/step-{step:08d}").is_dir()


@pytest.mark.parametrize(
    ("stop_after", "note", "steps"),
    [
        (13, "--stop-after 13 is beyond the last step, 12: the run is trained to its end", 12),
        (6, "--stop-after 6: the run has 6 steps already, no other is trained", 6),
        (4, "--stop-after 4: the run has 6 steps already, no other is trained", 6),
        (7, None, 7),
        (12, None, 12),
    ],
)
def test_a_stop_that_cannot_be_made_says_so(unfinished, stop_after, note, steps):
    done = impl("train", "--out", unfinished, "--resume", "--stop-after", stop_after)
    assert (done.returncode, done.stderr) == (0, "" if note is None else note + "\n")
    assert log_of(unfinished).count(b"\n") == steps


def test_a_run_of_no_steps_says_what_its_results_are(config, tmp_path):
    done = impl("train", "--out", tmp_path / "run", "--config", config, "--steps", 0)
    note = "a run of 0 steps: nothing is trained, the results are of the initial weights\n"
    assert (done.returncode, done.stderr) == (0, note)
    assert log_of(tmp_path / "run") == b""
    found = json.loads((tmp_path / "run/results.json").read_bytes())
    assert (found["steps"], found["best_step"], found["tokens_per_second"]) == (0, None, None)


def test_a_model_that_no_memory_holds_is_one_line(config, tmp_path):
    (tmp_path / "large.toml").write_text("[model]\nd_model = 1000000000000")
    refused(
        impl("train", "--out", tmp_path / "run", "--config", tmp_path / "large.toml"), "not enough memory: "
    )


@pytest.mark.parametrize("arguments", [["--help"], ["baseline"], ["train", "--out", "run"], ["fly"]])
def test_a_closed_pipe_is_silent(tmp_path, config, arguments):
    """Nobody reads what the command says: neither a traceback nor a word, and the status of a SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)
    if arguments[0] == "train":
        arguments = ["train", "--out", tmp_path / "run", "--config", config]
    both = subprocess.PIPE if arguments != ["fly"] else writing  # its one line is on stderr
    command = [sys.executable, "-m", "impl", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=BUFFERED, stdout=writing, stderr=both, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr or b"") == (2 if arguments == ["fly"] else 141, b"")


def test_output_that_cannot_be_written_is_one_line():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "impl", "--help"]
        done = subprocess.run(
            command, cwd=ROOT, env=BUFFERED, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert (done.returncode, done.stderr) == (2, "error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("threads", ["\u0663", "0", "1" + "0" * 5000, "4,2", "+3", ""])
def test_a_number_of_threads_that_is_none_is_refused(monkeypatch, threads):
    monkeypatch.setenv(thread_pool.THREADS_VARIABLE, threads)
    with pytest.raises(UsageError, match="expected a number of threads"):
        thread_pool.thread_count()


def test_an_existing_run_is_never_overwritten(finished, config):
    before = contents(finished)
    refused(impl("train", "--out", finished, "--config", config), "exists already; continue it with --resume")
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (["--seed", 1], "began with seed = 0, not 1"),
        (["--steps", 13], "began with steps = 12, not 13"),
    ],
)
def test_resuming_with_other_settings_is_refused(unfinished, options, pattern):
    before = contents(unfinished)
    refused(impl("train", "--out", unfinished, "--resume", *options), pattern)
    assert contents(unfinished) == before


@pytest.mark.parametrize(
    ("name", "text", "pattern"),
    [
        ("config.toml", "seed = 1\n", "not the configuration in manifest.json"),
        ("tokenizer.json", "{}", "not the tokenizer"),
        ("manifest.json", "{}", "manifest.json: "),
    ],
)
def test_resuming_an_altered_run_is_refused(unfinished, name, text, pattern):
    (unfinished / name).write_text(text)
    refused(impl("train", "--out", unfinished, "--resume"), pattern)


def test_resuming_on_other_data_is_refused(unfinished, tmp_path):
    data = shutil.copytree(
        ROOT / "fixtures/corpus", tmp_path / "data", ignore=shutil.ignore_patterns("*.py", "__*")
    )
    lines = (data / "train.jsonl").read_text().splitlines(keepends=True)
    (data / "train.jsonl").write_text("".join(lines[1:]))
    refused(impl("train", "--out", unfinished, "--resume", "--data", data), "not the data")


def test_a_torn_checkpoint_is_reported_and_the_one_before_is_used(finished, unfinished):
    torn = unfinished / "checkpoints/step-00000006/weights.safetensors"
    torn.write_bytes(torn.read_bytes()[:100])
    done = impl("train", "--out", unfinished, "--resume")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "checkpoint skipped" in done.stderr
    assert log_of(unfinished) == log_of(finished)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_without_a_usable_checkpoint_nothing_is_lost(unfinished, damage):
    for path in (unfinished / "checkpoints").iterdir():
        if damage == "missing":
            shutil.rmtree(path)
        else:
            os.truncate(path / "weights.safetensors", 10)
    before = contents(unfinished)
    done = impl("train", "--out", unfinished, "--resume")
    assert done.returncode == 2
    assert "error: " in done.stderr.splitlines()[-1]
    assert "no checkpoint there can be used" in done.stderr.splitlines()[-1]
    assert contents(unfinished) == before


def test_killed_before_the_first_checkpoint_it_starts_again(finished, unfinished):
    shutil.rmtree(unfinished / "checkpoints")
    lines = log_of(unfinished).splitlines(keepends=True)
    (unfinished / "train_log.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    done = impl("train", "--out", unfinished, "--resume")
    assert done.returncode == 0, done.stderr
    assert log_of(unfinished) == log_of(finished)


def test_two_processes_cannot_train_in_one_directory(unfinished):
    descriptor = os.open(unfinished, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    refused(impl("train", "--out", unfinished, "--resume"), "another process is training there")
    os.close(descriptor)


@pytest.mark.filterwarnings("ignore:os.fork")  # another test of this process may have started threads of JAX
def test_a_full_disk_is_one_line_and_loses_nothing(finished, unfinished):
    """A limit on file size stands in for the full disk: a write past it fails in the same way."""
    before = contents(unfinished)
    limit = 4096 + len(log_of(unfinished))

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    refused_run = process("train", "--out", unfinished, "--resume", preexec_fn=small_files)
    assert (refused_run.returncode, refused_run.stderr.count("\n")) == (2, 1), refused_run.stderr
    assert "File too large" in refused_run.stderr
    assert {path: before[path] for path in before if path.name != "train_log.jsonl"}.items() <= contents(
        unfinished
    ).items()
    assert impl("train", "--out", unfinished, "--resume").returncode == 0
    assert log_of(unfinished) == log_of(finished)


def test_a_loss_that_is_not_finite_stops_before_any_parameter_changes(config, tmp_path):
    """A rate of 1e38 makes the parameters infinite in the first update, so the second step's loss is NaN."""
    wild = tmp_path / "wild.toml"
    wild.write_text(SMALL.replace("[optimizer]", "[optimizer]\npeak_lr = 1e38\nmin_lr = 1e38"))
    done = impl("train", "--out", tmp_path / "run", "--config", wild)
    assert done.returncode == 1
    assert re.fullmatch(r"error: step \d+: the (loss|gradient norm) is (nan|inf); .*\n", done.stderr), (
        done.stderr
    )
    assert "nothing of it was kept" in done.stderr


def test_an_evaluation_that_is_not_finite_stops_with_one_line(tmp_path):
    wild = tmp_path / "wild.toml"
    text = SMALL.replace("[optimizer]", "[optimizer]\npeak_lr = 1000.0\nmin_lr = 1000.0").replace(
        "eval_every = 4", "eval_every = 1"
    )
    wild.write_text(text)
    done = impl("train", "--out", tmp_path / "run", "--config", wild)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert re.search(r"step \d+: the (validation perplexity|loss|gradient norm) is (inf|nan)", done.stderr)


def test_a_run_directory_appears_with_its_manifest_or_not_at_all(config, tmp_path, monkeypatch):
    """The process dies while it writes the beginning: nothing is left that --resume could not continue."""

    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("impl.run.manifest.build", die)
    assert impl("train", "--out", tmp_path / "run", "--config", config).returncode == 130
    assert not list(tmp_path.iterdir())


def test_a_leftover_of_a_killed_save_is_cleared_away(finished, unfinished):
    (unfinished / f"checkpoints/.step-00000008.{os.getpid()}.tmp").mkdir()
    assert impl("train", "--out", unfinished, "--resume").returncode == 0
    assert log_of(unfinished) == log_of(finished)
    assert not list((unfinished / "checkpoints").glob(".*"))


def test_a_home_that_cannot_be_written_to_is_no_obstacle(tmp_path):
    done = process(
        "--help", environment={"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"honestloop-{os.getuid()}"]


def test_a_kernel_cache_that_others_may_write_to_is_not_used(tmp_path):
    shared = tmp_path / "cache/honestloop/numba"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    done = process("--help", environment={"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert not list(shared.iterdir())


def test_a_run_can_be_scored_from_another_directory(finished, config, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert (
        impl("train", "--out", tmp_path / "run", "--config", config, "--data", "fixtures/corpus").returncode
        == 0
    )
    monkeypatch.chdir(tmp_path)
    assert impl("eval", "--run", "run").returncode == 0


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("stepz = 3", r"wrong.toml: unknown setting 'stepz'; did you mean steps\?"),
        ("batch = 3", r"unknown setting 'batch'; did you mean batch_size\?"),
        ("lr = 3.0", r"unknown setting 'lr'; did you mean optimizer.min_lr or optimizer.peak_lr\?"),
        ("[optimizer]\nlr = 3.0", r"unknown setting 'optimizer.lr'; did you mean optimizer.min_lr or "),
        ("[model]\ndropout = 0.1", r"unknown setting 'model.dropout'; did you mean dropout\?"),
        ("[optim]\npeak_lr = 3.0", r"unknown setting 'optim'; did you mean optimizer\?"),
        ("xyzzy = 3", "unknown setting 'xyzzy'; known are seed, dtype, .*optimizer.clip_norm"),
        ("optimizer = 3", r"optimizer: is a section; write \[optimizer\] and "),
        ("model = []", r"model: is a section; write \[model\] and "),
        ("[steps]\nmany = 3", "steps: is one value, not a section"),
        ("steps = 9007199254740993", r"steps: the integer is too large, it must be below 2\^53"),
        ("eval_every = 9007199254740992", "eval_every: the integer is too large"),
        ("[model]\nd_model = 9007199254740992", r"model\.d_model: the integer is too large"),
        ("[optimizer]\nclip_norm = 9007199254740993", r"optimizer\.clip_norm: the integer is too large"),
        ("[optimizer]\nclip_norm = 1" + "0" * 400, r"optimizer\.clip_norm: the integer is too large"),
        ("steps = 1" + "0" * 5000, "not valid TOML"),
        ("seed = 18446744073709551616", "seed: "),
        ("seed = '1" + "0" * 5000 + "'", "seed: '10*' is not a whole number"),
        ("seed = '\u0663'", "seed: '\u0663' is not a whole number"),
        ("seed = ' 3'", "seed: ' 3' is not a whole number"),
        ("seed = '1_000'", "seed: '1_000' is not a whole number"),
        ("seed = '+3'", r"seed: '\+3' is not a whole number"),
        ("seed = ''", "seed: '' is not a whole number"),
        ("[optimizer]\npeak_lr = 'fast'", r"optimizer\.peak_lr: "),
        ("[model]\nd_model = 10\nn_heads = 4", "model: .*multiple of 2"),
        ("[model]\nn_layers = 1000000000000000", r"model\.n_layers: .*65536"),
        ("steps = -1", "steps: "),
        ("steps =", "not valid TOML"),
        ("dropout = 1.0", "dropout: "),
        ("dtype = 'float16'", "dtype: "),
        ("[model]\ncontext = 8", "a sequence has .* tokens, the model's context is 8"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, text, pattern):
    (tmp_path / "wrong.toml").write_text(text)
    refused(impl("train", "--out", tmp_path / "run", "--config", tmp_path / "wrong.toml"), pattern)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ([], "required: VERB"),
        (["fly"], "invalid choice: 'fly'"),
        (["train"], "required: --out"),
        (["train", "--out", "x", "--speed", "9"], "unrecognized arguments: --speed 9"),
        (["train", "--out", "x", "--steps", "few"], "'few' is not a whole number"),
        (["train", "--out", "x", "--seed", "-1"], "'-1' is not a whole number"),
        (["train", "--out", "x", "--seed", "\u0663"], "'\u0663' is not a whole number"),
        (["train", "--out", "x", "--steps", "\uff13"], "'\uff13' is not a whole number"),
        (["train", "--out", "x", "--stop-after", "1_000"], "'1_000' is not a whole number"),
        (["train", "--out", "x", "--steps", " 3"], "' 3' is not a whole number"),
        (["train", "--out", "x", "--steps", "+3"], r"'\+3' is not a whole number"),
        (["train", "--out", "x", "--steps", "1" + "0" * 5000], "'10*' is not a whole number"),
        (["train", "--out", "x", "--steps", "9007199254740993"], "options: steps: the integer is too large"),
        (["train", "--out", "x", "--config", "nowhere.toml"], "nowhere.toml: No such file"),
        (["train", "--out", "x", "--data", "nowhere"], "nowhere: no such data directory"),
        (["train", "--out", "nowhere", "--resume"], "nowhere: not a run directory"),
        (["eval", "--run", "nowhere"], "nowhere: not a run directory"),
    ],
)
def test_wrong_usage_is_one_line(arguments, pattern):
    refused(impl(*arguments), pattern)


@pytest.mark.parametrize(
    ("verb", "tense", "person", "to", "pattern"),
    [
        ("fly", "past_simple", "1sg", "es", "unknown verb 'fly'"),
        ("write", "past", "1sg", "es", "unknown tense 'past'"),
        ("write", "past_simple", "4sg", "es", "unknown person '4sg'"),
        ("write", "past_simple", "1sg", "fr", "unknown language 'fr'"),
    ],
)
def test_sample_names_what_it_does_not_know(finished, verb, tense, person, to, pattern):
    done = impl("sample", "--run", finished, "--verb", verb, "--tense", tense, "--person", person, "--to", to)
    refused(done, pattern)


def test_sample_shows_source_and_translation(finished):
    done = impl("sample", "--run", finished, "--verb", "write", "--tense", "past_simple", "--person", "3sg")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("he wrote -> ")


def test_logits_of_a_fresh_process_are_the_live_ones(finished, tmp_path):
    live = safetensors.numpy.load_file(finished / "live_logits.safetensors")
    expected = live.pop("logits")
    safetensors.numpy.save_file(live, tmp_path / "tokens.safetensors")
    done = process(
        "logits",
        "--run",
        finished,
        "--tokens",
        tmp_path / "tokens.safetensors",
        "--out",
        tmp_path / "out.safetensors",
    )
    assert done.returncode == 0, done.stderr
    assert safetensors.numpy.load_file(tmp_path / "out.safetensors")["logits"].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("tokens", "pattern"),
    [
        ({"tokens": np.zeros((1, 4), np.int64)}, "needs key_mask and tokens"),
        ({"tokens": np.zeros((1, 4)), "key_mask": np.ones((1, 4), bool)}, "needs tokens int64"),
        ({"tokens": np.full((1, 4), 64), "key_mask": np.ones((1, 4), bool)}, "each from 0 to 63"),
        ({"tokens": np.zeros((1, 33), np.int64), "key_mask": np.ones((1, 33), bool)}, "1 to 32 tokens a row"),
    ],
)
def test_logits_refuses_tokens_it_cannot_use(finished, tmp_path, tokens, pattern):
    safetensors.numpy.save_file(tokens, tmp_path / "tokens.safetensors")
    out = tmp_path / "out.safetensors"
    refused(
        impl("logits", "--run", finished, "--tokens", tmp_path / "tokens.safetensors", "--out", out), pattern
    )
    assert not out.exists()


def test_an_altered_model_is_refused(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    model = next((run / "models").glob("*[0-9a-f].safetensors"))
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    refused(impl("eval", "--run", run), "not the ones its name was made from")


def test_eval_reports_what_training_reported(finished):
    done = impl("eval", "--run", finished)
    assert json.loads(done.stdout) == json.loads((finished / "results.json").read_text())["perplexity"]


def test_drift_can_be_written_again(finished, tmp_path):
    assert impl("drift", "--run", finished, "--out", tmp_path / "drift").returncode == 0
    for path in (finished / "drift").iterdir():
        assert (tmp_path / "drift" / path.name).read_bytes() == path.read_bytes()


def test_the_result_does_not_depend_on_hash_seed_locale_or_time_zone(finished, config, tmp_path):
    strange = {"PYTHONHASHSEED": "123", "LC_ALL": "C", "TZ": "Asia/Kathmandu", "OMP_NUM_THREADS": "3"}
    done = process("train", "--out", tmp_path / "run", "--config", config, environment=strange)
    assert done.returncode == 0, done.stderr
    assert log_of(tmp_path / "run") == log_of(finished)
