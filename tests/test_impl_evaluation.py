"""What a run says of its model, samples that touch nothing, tries that are kept or not, a profile, a collector."""

import contextlib
import gc
import io
import json
import math
import re
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from impl import compare, loop, profiling
from impl.__main__ import main
from impl.config import ModelConfig
from impl.errors import UsageError
from impl.evaluate import evaluate, within_budget
from impl.kernels.runtime.thread_pool import default_pool
from impl.model.decode import Decoder, generate
from impl.model.minigpt import MiniGPT
from impl.model.parameters import initial_parameters
from impl.model.translate import translate, translate_all
from impl.report import finish, live_samples, machine, scores
from impl.report.log_line import Status, line, parse, summary
from impl.report.profile import Spans, chrome_trace, step_profile
from impl.run import directory
from impl.run.clock import Clock
from impl.run.collector import Collector

SMALL = """
steps = 6
batch_size = 64
eval_every = 2
checkpoint_every = 2
[model]
d_model = 8
n_heads = 2
n_layers = 1
d_ff = 8
"""
SHOWN = """
[evaluation]
token_budget = 200
sample_every = 2
temperature = 0.8
top_k = 20
top_p = 0.9
[report]
line = "full"
collector = "quiet"
peak_flops = 1e11
price_per_hour = 2.0
"""


def train(out, settings, *options):
    """What the training of a run directory prints."""
    config = out.with_suffix(".toml")
    config.write_text(settings)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["train", "--out", str(out), "--config", str(config), *options]) == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in what they show, one resumed after each step: (folder, what the second printed)."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HONESTLOOP_TRACKING", "off")
        patch.setenv("HONESTLOOP_PLOTS", "off")
        train(folder / "plain", SMALL)
        printed = train(folder / "shown", SMALL + SHOWN, "--stop-after", "1")
        for step in (2, 3, 4, 5, 6):
            printed = train(folder / "shown", SMALL + SHOWN, "--resume", "--stop-after", str(step))
    return folder, printed


def logged(run, *names):
    """These fields of every line of a log."""
    lines = [json.loads(text) for text in (run / "train_log.jsonl").read_text().splitlines()]
    return [[each[name] for name in names] for each in lines]


def test_what_is_shown_changes_no_bit_of_the_training(runs):
    """Budget, samples, drawn ones too, the full line, the collector; and a resume after every step."""
    folder, _ = runs
    plain, shown = (
        next((folder / name / "models").glob("*[0-9a-f].safetensors")) for name in ("plain", "shown")
    )
    assert plain.name == shown.name and plain.read_bytes() == shown.read_bytes()
    names = ("step", "epoch", "loss", "lr", "grad_norm", "tokens")
    assert logged(folder / "plain", *names) == logged(folder / "shown", *names)


def test_samples_are_taken_after_every_second_update_and_after_the_last(runs):
    folder, _ = runs
    files = sorted(path.name for path in (folder / "shown" / "samples").iterdir())
    assert files == [f"step-{step:08d}.json" for step in (2, 4, 6)]
    said = json.loads((folder / "shown" / "samples" / files[-1]).read_text())
    assert len(said) == 4 and {"row", "to", "source", "said", "expected"} == said[0].keys()
    assert not (folder / "plain" / "samples").exists()


def test_samples_of_a_step_are_the_same_when_they_are_taken_again(runs):
    run = directory.reopen(runs[0] / "shown")
    model = MiniGPT(run.config.model, "float32", finish.load_model(run).state())
    assert live_samples.sentences(run, model, 6) == json.loads(
        (run.path / "samples" / "step-00000006.json").read_text()
    )
    assert live_samples.sentences(run, model, 5) != live_samples.sentences(run, model, 6)


def test_the_line_of_a_step_says_what_the_log_says(runs):
    folder, printed = runs
    status = parse(next(text for text in printed.splitlines() if text.startswith("step ")))
    loss, epoch = logged(folder / "shown", "loss", "epoch")[-1]
    assert (status.step, status.loss, status.epoch) == (6, loss, epoch)
    assert status.steps == 6 and status.memory > 2**20 and status.cpu > 0.0
    assert status.mfu is not None and 0.0 < status.mfu < 100.0
    assert status.tokens_per_second is None  # one step a process: none was timed


def test_the_summary_has_the_facts_of_the_run(runs):
    folder, printed = runs
    told = dict(re.findall(r"^(\w+): +(\S+)$", printed[printed.index("---") :], re.MULTILINE))
    assert told["num_steps"] == "6" and told["depth"] == "1"
    bits = compare.bits_per_byte(directory.reopen(folder / "shown"))
    assert told["val_bpb"] == f"{bits:.6f}"
    assert float(told["cost_dollars"]) == pytest.approx(2.0 * float(told["total_seconds"]) / 3600, abs=1e-6)


def test_a_line_is_read_back_exactly():
    status = Status(
        *(7, 1000, 1.0 / 3.0, 0.1, 4.5, None, None, 2, 12.75, 2**33, 187.5), val_ppl=math.exp(1.0)
    )
    assert parse(line(status)) == status
    assert status.percent == 0.7
    for wrong in ("", "step 1/2", line(status).replace("loss", "lass"), line(status) + " | more: 1"):
        with pytest.raises(ValueError, match="not a line"):
            parse(wrong)
    assert summary({"a": 1.5, "long": None}) == "---\na:    1.500000\nlong: not measured"


def test_bytes_are_those_of_the_texts(runs):
    """Each text, with the space that its first word begins with; a row is predicted twice, once a direction."""
    run = directory.reopen(runs[0] / "plain")
    model = finish.load_model(run)
    _, count = scores.nats_and_bytes(model, run, run.sequences["val"])
    texts = [text for row in run.corpus.splits["val"] for text in (row.en, row.es)]
    assert count == 2 * sum(len(f" {text}".encode()) for text in texts)


def test_a_breakdown_adds_up_to_the_whole(runs):
    run = directory.reopen(runs[0] / "plain")
    told = scores.scores(finish.load_model(run), run)
    whole = told["splits"]["val"]
    assert set(told["by"]) == {"tense", "person"} and set(told["by"]["person"]) <= {"1sg", "2sg", "3sg"}
    for groups in told["by"].values():
        for name in ("rows", "tokens", "bytes"):
            assert sum(group[name] for group in groups.values()) == whole[name]
        nats = sum(math.log(group["ppl"]) * group["tokens"] for group in groups.values())
        assert math.exp(nats / whole["tokens"]) == pytest.approx(whole["ppl"], rel=1e-12)
    assert 0.0 <= told["exact_match"]["es"] <= 1.0


def test_texts_that_are_translated_together_are_as_alone(runs):
    run = directory.reopen(runs[0] / "plain")
    model, texts = finish.load_model(run), [row.en for row in run.corpus.splits["val"][:5]]
    assert translate_all(model, run.tokenizer, texts, "es") == [
        translate(model, run.tokenizer, text, "es") for text in texts
    ]


def test_an_exact_translation_counts():
    row: Any = SimpleNamespace(en="a", es="b", tense="past", person="1sg")
    assert scores.shares({"es": [True, False], "en": [False, False]}, [0]) == {"es": 1.0, "en": 0.0}
    assert scores.GROUPS["tense"](row) == "past"


def test_evaluate_prints_json(runs, capsys):
    assert main(["evaluate", "--run", str(runs[0] / "plain")]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["val"]["bits_per_byte"] > 0.0


@pytest.mark.parametrize("more", [{}, {"window": 5, "softcap": 2.0}], ids=["plain", "window and soft cap"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cached_decoding_has_the_bits_of_the_whole_pass(dtype, more):
    config = ModelConfig(d_model=16, n_heads=2, d_ff=24, context=20, **more)
    start = {name: (4.0 * x).astype(dtype) for name, x in initial_parameters(3, config).items()}
    model = MiniGPT(config, dtype, start)
    ids, logits = generate(model, [1, 7, 9], 18)
    whole = np.array([[1, 7, 9, *ids[:-1]]])
    assert logits.tobytes() == model.forward(whole, np.ones(whole.shape, bool))[0, 2:].tobytes()
    assert generate(model, [1, 7, 9], 18, until=int(ids[0]))[0].tolist() == [ids[0]]
    with pytest.raises(ValueError, match="the context is 20"):
        generate(model, [1, 7, 9], 19)
    with pytest.raises(ValueError, match="token 64"):
        Decoder(model).logits(64)


def test_an_evaluation_that_raises_changes_nothing(runs, monkeypatch):
    run = directory.reopen(runs[0] / "plain")
    machines = loop.build(run)
    before = {name: repr(one.state()) for name, one in machines.named().items()}
    nll, calls = machines.model.nll, []

    def fails(batch, total=0.0):
        calls.append(batch)
        if len(calls) > 1:
            raise MemoryError
        return nll(batch, total)

    monkeypatch.setattr(machines.model, "nll", fails)
    with pytest.raises(MemoryError):
        evaluate(machines.model, run.sequences["val"], 4)
    assert {name: repr(one.state()) for name, one in machines.named().items()} == before
    assert not machines.model.flat_gradients.any()
    assert default_pool() is default_pool()


def test_a_budget_keeps_the_first_sequences():
    sequences = [[0] * 6, [0] * 6, [0] * 3]
    assert [len(within_budget(sequences, n)) for n in (0, 1, 5, 9, 10, 11, 12)] == [3, 1, 1, 1, 2, 2, 3]


# --- tries


def test_a_try_is_kept_only_if_it_is_better(runs, tmp_path, capsys):
    folder, record = runs[0], tmp_path / "tries.jsonl"
    assert main(["compare", str(folder / "shown"), str(folder / "plain"), "--record", str(record)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "discard" and told["bits_per_byte"] == told["best_bits_per_byte"]
    assert "evaluation.sample_every" in told["changed"] and "steps" not in told["changed"]
    assert compare.read(record) == [told]
    with pytest.raises(UsageError, match="recorded already"):
        compare.compare(folder / "shown", folder / "plain", record)


def test_a_lower_number_is_kept(runs, tmp_path, monkeypatch):
    folder = runs[0]
    numbers = {"shown": 1.0, "plain": 2.0}
    monkeypatch.setattr(compare, "bits_per_byte", lambda run: numbers[run.path.name])
    assert compare.compare(folder / "shown", folder / "plain", tmp_path / "a")["verdict"] == "keep"
    numbers["shown"] = math.nan
    assert compare.compare(folder / "shown", folder / "plain", tmp_path / "b")["verdict"] == "discard"


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("HONESTLOOP_TRACKING", "off")
    monkeypatch.setenv("HONESTLOOP_PLOTS", "off")
    folder, record = runs[0], tmp_path / "tries.jsonl"
    train(tmp_path / "short", SMALL.replace("steps = 6", "steps = 4"))
    train(tmp_path / "begun", SMALL, "--stop-after", "2")
    with pytest.raises(UsageError, match="differ in steps"):
        compare.compare(tmp_path / "short", folder / "plain", record)
    with pytest.raises(UsageError, match="not finished"):
        compare.compare(tmp_path / "begun", folder / "plain", record)
    record.write_text("{")
    with pytest.raises(UsageError, match="not lines of JSON"):
        compare.compare(folder / "shown", folder / "plain", record)


# --- time


def test_a_profile_sums_to_one_and_leaves_the_run_alone(runs, tmp_path, capsys):
    run, trace = runs[0] / "plain", tmp_path / "trace.json"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["profile", "--run", str(run), "--out", str(trace)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^step +100\.00 %", printed, re.MULTILINE)
    assert all(re.search(f"^{phase} ", printed, re.MULTILINE) for phase in (*profiling.PHASES, "idle"))
    events = json.loads(trace.read_text())["traceEvents"]
    assert {e["name"] for e in events if e["ph"] == "X"} == set(profiling.PHASES)
    assert all(e["dur"] >= 0.0 and e["ts"] >= 0.0 for e in events if e["ph"] == "X")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_spans_end_when_their_body_raises():
    ticks = iter([1.0, 3.0])
    spans = Spans(clock=lambda: next(ticks))
    with pytest.raises(KeyError), spans.phase("data"):
        raise KeyError
    assert step_profile(spans.found, 1.0, 5.0) == {"data": 0.5, "idle": 0.5}
    assert chrome_trace(spans.found, "x")["traceEvents"][1]["dur"] == 2e6


def test_a_clock_tells_speed_and_what_is_left(monkeypatch):
    ticks = iter([0.0, *(10.0, 40.0), *(41.0, 43.0), *(90.0, 92.0)])
    monkeypatch.setattr("impl.run.clock.time.monotonic", lambda: next(ticks))
    timed = Clock()
    assert timed.speed(5) == (None, None)
    for tokens in (100, 30, 50):
        timed.start_step()
        timed.end_step(tokens)
    assert timed.speed(5) == (20.0, 10.0) and timed.last_step == 2.0


# --- the collector


class Cycle:
    def __init__(self):
        self.itself = self


@pytest.fixture
def unfrozen():
    """Nothing is frozen and the collector is on, as in a fresh process."""
    on = gc.isenabled()
    gc.unfreeze()
    gc.enable()
    yield
    gc.unfreeze()
    (gc.enable if on else gc.disable)()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("on", [False, True])
def test_the_collector_is_as_it_was_also_after_an_error(unfrozen, fails, on):
    (gc.enable if on else gc.disable)()
    with contextlib.suppress(RuntimeError), Collector() as collector:
        collector.step_done()
        assert not gc.isenabled() and gc.get_freeze_count() > 0
        if fails:
            raise RuntimeError
    assert gc.isenabled() == on and gc.get_freeze_count() == 0


def test_garbage_of_the_first_step_is_not_frozen(unfrozen):
    with Collector() as collector:
        alive = weakref.WeakSet(Cycle() for _ in range(10))
        collector.step_done()
        assert len(alive) == 0
        later = weakref.WeakSet(Cycle() for _ in range(10))
        collector.step_done()
        assert len(later) == 10  # off until the next save
        collector.saved()
        assert len(later) == 0


def test_what_others_froze_stays_frozen_and_a_usual_collector_does_nothing(unfrozen):
    gc.freeze()
    count = gc.get_freeze_count()
    with Collector() as collector:
        collector.step_done()
    assert gc.get_freeze_count() == count and gc.isenabled()
    with Collector(quiet=False) as collector:
        collector.step_done()
        collector.saved()
        assert gc.isenabled()


# --- the machine


class Nvml:
    """One card, as the library tells it."""

    ended = 0

    def nvmlInit(self):
        pass

    def nvmlShutdown(self):
        self.ended += 1

    def nvmlDeviceGetCount(self):
        return 1

    def nvmlDeviceGetHandleByIndex(self, number):
        return number

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=3 * 2**30, total=8 * 2**30)

    def nvmlDeviceGetName(self, handle):
        return b"card"

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=55)


def test_a_card_is_measured_through_nvml():
    nvml = Nvml()
    assert machine.gpus(nvml) == [
        {
            "name": "card",
            "memory_used_bytes": 3 * 2**30,
            "memory_total_bytes": 8 * 2**30,
            "utilisation_percent": 55,
        }
    ]
    assert nvml.ended == 1


def test_without_a_card_nothing_is_measured_and_it_says_why(monkeypatch):
    def no_driver():
        raise OSError("Driver Not Loaded")

    nvml = Nvml()
    monkeypatch.setattr(nvml, "nvmlInit", no_driver)
    assert machine.gpus(nvml) == "not measured: Driver Not Loaded"
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert machine.gpus() == "not measured: the package nvidia-ml-py is not installed"


def test_the_machine_has_a_fingerprint_that_stays():
    assert machine.fingerprint() == machine.fingerprint()
    assert re.fullmatch("[0-9a-f]{16}", machine.fingerprint()["sha256"])
    assert machine.cpu_percent() > 0.0
    assert {"seed", "threads", "libm"} < machine.determinism().keys()
    assert machine.facts().keys() == {"fingerprint", "gpus", "cpu_percent", "determinism"}
