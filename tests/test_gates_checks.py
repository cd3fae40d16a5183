"""Checks of the gates that need no run: each is shown evidence that is right, and evidence that is wrong."""

import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import impl.run.manifest
from fixtures.corpus import files
from gates.judge import drift, first_difference, perplexity, reload, resume, scoring, tracking
from gates.judge import probe_checks as judged
from gates.subject import git, logit_probes, tensors
from gates.subject.interrupted_runs import STEPS, STOPS, Interrupted
from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from honestloop.suite_location import ROOT
from reference import model
from reference.data import make_batch

SPLITS = files.read_directory()


@pytest.fixture(scope="module")
def scorer() -> scoring.ReferenceScorer:
    return scoring.ReferenceScorer(SPLITS["train"])


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    """Weights large enough that attention looks at something."""
    chance = np.random.default_rng(7)
    return {
        name: chance.normal(0.0, 0.3, shape)
        if len(shape) == 2
        else np.full(shape, float(name.endswith("gamma")))
        for name, shape in model.parameter_shapes(scoring.CONFIG).items()
    }


@pytest.fixture(scope="module")
def answers(scorer, weights) -> logit_probes.Answers:
    """What a correct subject answers."""
    asked = logit_probes.probes_of(scorer.sequences(SPLITS["val"][:8]))
    return logit_probes.Answers(asked, model.forward(weights, asked.tokens, asked.key_mask, scoring.CONFIG))


def test_pairs_agree_up_to_the_cut_and_differ_after_it(scorer):
    asked = logit_probes.probes_of(scorer.sequences(SPLITS["val"]))
    assert asked.cells == 2 * len(SPLITS["val"])
    assert {cut for _, _, cut in asked.future_pairs} == set(logit_probes.CUTS)
    for a, b, cut in asked.future_pairs:
        assert np.array_equal(asked.tokens[a, :cut], asked.tokens[b, :cut])
        assert asked.key_mask[[a, b], :cut].all()
        assert (
            not np.array_equal(asked.tokens[a, cut:], asked.tokens[b, cut:]) or cut == asked.tokens.shape[1]
        )
    for a, b, cut in asked.padding_pairs:
        assert np.array_equal(asked.key_mask[a], asked.key_mask[b])
        assert not asked.key_mask[a, cut:].any()
        assert (asked.tokens[a, cut:] != asked.tokens[b, cut:]).any()


def test_a_correct_model_is_causal_and_ignores_padding_and_is_the_oracle(answers, weights):
    for finding in (
        judged.causality(answers),
        judged.padding(answers),
        judged.agreement_with_the_oracle(answers, weights),
    ):
        assert finding.passed, finding.message


def test_a_bit_that_depends_on_the_future_is_found(answers):
    _, b, cut = answers.probes.future_pairs[5]
    logits = answers.logits.copy()
    logits[b, cut - 1, 3] = np.nextafter(logits[b, cut - 1, 3], 99.0)
    finding = judged.causality(dataclasses.replace(answers, logits=logits))
    assert not finding.passed
    assert f"at position {cut - 1}, where the next change is at position {cut}" in finding.message


@pytest.mark.parametrize("check", [judged.causality, judged.padding])
def test_answers_that_are_no_numbers_satisfy_nothing(answers, check):
    for value in (np.nan, np.inf):
        finding = check(dataclasses.replace(answers, logits=np.full_like(answers.logits, value)))
        assert not finding.passed
        assert "not finite" in finding.message


def live_run(
    path: Path, scorer: scoring.ReferenceScorer, weights: dict[str, np.ndarray], rows: int = 32
) -> RunDirectory:
    """A run directory with nothing in it but live logits, right ones, of the first val sequences."""
    tokens, _, _, mask = make_batch(scorer.sequences(SPLITS["val"])[:rows])
    logits = model.forward(weights, tokens, mask, scoring.CONFIG)
    live = {"tokens": tokens, "key_mask": mask, "logits": logits}
    path.mkdir()
    (path / logit_probes.LIVE).write_bytes(tensors.write(live))
    run = RunDirectory(path)
    run.__dict__["weights"] = weights
    return run


def test_live_logits_are_the_oracles_with_the_saved_weights(tmp_path, scorer, weights):
    run = live_run(tmp_path / "run", scorer, weights)
    parroted = run.tensors(logit_probes.LIVE)["logits"]
    assert reload.logits_are_the_live_ones(run, parroted, scorer, SPLITS["val"]).passed
    run.__dict__["weights"] = {**weights, "E": np.nextafter(weights["E"], 9.0) * 1.001}
    finding = reload.logits_are_the_live_ones(run, parroted, scorer, SPLITS["val"])
    assert not finding.passed
    assert "not the oracle's logits with the saved weights" in finding.message


def test_live_logits_of_too_few_sequences_are_refused(tmp_path, scorer, weights):
    run = live_run(tmp_path / "run", scorer, weights, rows=31)
    finding = reload.logits_are_the_live_ones(
        run, run.tensors(logit_probes.LIVE)["logits"], scorer, SPLITS["val"]
    )
    assert "the first sequences of the val split" in finding.message


ALL_FILES = (*first_difference.FILES, "average.safetensors")


@pytest.mark.parametrize("listed", [(), first_difference.FILES, ALL_FILES[1:], (*ALL_FILES, "more.json")])
def test_a_checkpoint_manifest_lists_every_other_file(tmp_path, listed):
    def finding(names: tuple[str, ...]) -> str:
        files = {name: {"sha256": hashlib.sha256(data).hexdigest()} for name in names}
        (folder / "manifest.json").write_text(json.dumps({"files": files}), encoding="utf-8")
        return reload.model_is_the_last_checkpoint(run).message.partition(": ")[2]

    folder = tmp_path / "checkpoints" / "step-00000001"
    folder.mkdir(parents=True)
    data = tensors.write({"E": np.ones(3)})
    for name in ALL_FILES:
        (folder / name).write_bytes(data)
    run = RunDirectory(tmp_path)
    run.__dict__["weights"] = {"E": np.ones(3)}
    assert finding(ALL_FILES).startswith("; got")
    assert "manifest.json: files" in finding(listed)


def logged(**changes: object) -> tuple[RunDirectory, tracking.Store]:
    """A log of two steps, changed on its last line, and a store that holds just what is in it."""
    numbers = {"loss": 2.0, "lr": 0.1, "grad_norm": 1.0}
    last = {"step": 2, **numbers, "val_loss": 1.0, "val_ppl": 2.7, **changes}
    run = RunDirectory(Path("unused"))
    run.__dict__["log"] = [{"step": 1, **numbers}, {k: v for k, v in last.items() if v is not None}]
    curves = {name: {n["step"]: n[name] for n in run.log if name in n} for name in tracking.METRICS}
    return run, tracking.Store("", [], curves, {})


def test_a_log_with_every_number_in_the_store_passes():
    assert tracking.metrics_equal_the_log(*logged()).passed


@pytest.mark.parametrize("name", tracking.METRICS)
@pytest.mark.parametrize("value", [None, "2.0"])
def test_a_log_that_lacks_a_number_has_no_metrics_to_equal(name, value):
    finding = tracking.metrics_equal_the_log(*logged(**{name: value}))
    assert not finding.passed
    assert f"train_log.jsonl line 2: {name}" in finding.message


def test_an_empty_log_has_no_metrics_to_equal():
    run = RunDirectory(Path("unused"))
    run.__dict__["log"] = []
    assert not tracking.metrics_equal_the_log(run, tracking.Store("", [], {}, {})).passed


def test_logits_in_single_precision_are_not_the_oracle(answers, weights):
    single = answers.logits.astype(np.float32).astype(np.float64)
    assert not judged.agreement_with_the_oracle(dataclasses.replace(answers, logits=single), weights).passed


def test_uniform_weights_read_v_and_a_wrong_scorer_is_found(scorer, monkeypatch):
    assert perplexity.scorer_reads_v(scorer, SPLITS["val"][:4]).passed
    crooked = {name: np.full_like(x, 0.1) for name, x in scoring.uniform_weights().items()}
    crooked["E"][3] = 0.7
    monkeypatch.setattr(scoring, "uniform_weights", lambda: crooked)
    assert not perplexity.scorer_reads_v(scorer, SPLITS["val"][:4]).passed


def test_a_score_counts_every_token_but_bos_and_padding(scorer):
    score = scorer.score(scoring.uniform_weights(), SPLITS["val"])
    assert score.tokens == sum(len(s) - 1 for s in scorer.sequences(SPLITS["val"]))
    assert score.perplexity == pytest.approx(64.0, rel=1e-12)


def test_the_strongest_ngram_is_the_one_that_counts(scorer):
    baselines = scorer.baselines(SPLITS["val"])
    assert len(baselines) == 14
    assert scorer.strongest(SPLITS["val"]).perplexity == min(b.perplexity for b in baselines)


def test_overlap_must_be_refused_with_status_2_in_one_line_that_names_the_cell(tmp_path):
    cell, run = SPLITS["train"][0]["id"], RunDirectory(tmp_path / "run")
    good = Finished("x", 2, "", f"error: {cell} is in train and val\n", 0.1)
    assert perplexity.overlap_is_refused(good, run).passed
    for change in ({"status": 0}, {"status": 1}, {"stderr": "error\n"}, {"stderr": good.stderr * 2}):
        assert not perplexity.overlap_is_refused(dataclasses.replace(good, **change), run).passed
    run.path.mkdir()
    assert not perplexity.overlap_is_refused(good, run).passed


def log(epoch_steps: int = 12) -> list[dict[str, float]]:
    return [{"epoch": step // epoch_steps, "lr": min(step + 1, 50) * 1e-5} for step in range(STEPS)]


def interruptions(run: RunDirectory) -> dict[str, Interrupted]:
    found = {name: Interrupted(run, [(s, [s]) for s in stops], "") for name, stops in STOPS.items()}
    found["kill-early"] = Interrupted(run, [(10, [])], "")
    found["kill-late"] = Interrupted(run, [(55, [50])], "")
    found["terminate"] = Interrupted(run, [(34, [34])], "")
    return found


@pytest.mark.parametrize(
    ("name", "stood"),
    [
        ("kill-early", [(60, [50])]),
        ("kill-late", [(50, [50])]),
        ("terminate", [(34, [])]),
        ("mid-epoch", [(18, [])]),
        ("twice", [(7, [7])]),
        ("last-step", [(72, [72])]),
    ],
)
def test_an_interruption_that_fell_elsewhere_is_found(tmp_path, name, stood):
    run = RunDirectory(tmp_path)
    run.__dict__["log"] = log()
    runs = interruptions(run)
    assert resume.cuts(run, runs).passed
    runs[name] = Interrupted(run, stood, "")
    assert not resume.cuts(run, runs).passed


def test_cuts_need_epochs_of_the_length_they_were_chosen_for(tmp_path):
    run = RunDirectory(tmp_path)
    run.__dict__["log"] = log(epoch_steps=10)
    assert "epoch" in resume.cuts(run, interruptions(run)).message


def test_git_state_outside_a_repository_is_unknown(tmp_path):
    assert git.git_state(tmp_path) == git.Git(None, None, None)


def test_a_link_to_an_environment_leaves_the_tree_clean_and_another_file_does_not(tmp_path):
    """For the gate as for the loop that it judges, by the list of ignored files of this repository."""
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        (tmp_path / ".gitignore").write_bytes((ROOT / ".gitignore").read_bytes())
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True)

    def dirty() -> set[bool | None]:
        found, said = git.git_state(tmp_path), impl.run.manifest._git_state(tmp_path)
        assert dataclasses.asdict(found) == said.model_dump()
        return {found.dirty, said.dirty}

    (tmp_path / ".venv").symlink_to(ROOT)
    assert dirty() == {False}
    (tmp_path / "new").touch()
    assert dirty() == {True}


def test_drift_of_weights_that_fit_the_format_is_zero_and_nothing_flips(scorer, weights):
    coarse = {name: np.round(x * 4) / 4 for name, x in weights.items()}
    found = drift.Drift(coarse, scorer, SPLITS["val"][:2])
    for measured in found.measured.values():
        assert [error for error, _ in measured.errors.values()] == [0.0] * len(drift.LAYERS)
        assert 0 in measured.flips


def test_drift_grows_with_coarser_formats(scorer, weights):
    measured = drift.Drift(weights, scorer, SPLITS["val"][:2]).measured
    for layer in drift.LAYERS:
        fine, coarse = (measured[form].errors[layer] for form in ("float16", "bfloat16"))
        assert 0 < fine[1] < fine[0] < coarse[0]
