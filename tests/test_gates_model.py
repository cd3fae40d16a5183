"""The checks of the gate `model`, on a model in NumPy: what is accepted, and each mistake by its words."""

import dataclasses
import json
import math
import random

import numpy as np
import pytest

from gates.errors import GateError
from gates.judge import own_model
from gates.subject import model_runs
from gates.subject.model_probes import probe
from gates.subject.model_runs import JudgedUpdate, ModelEvidence
from gates.subject.model_table import Document, ModelTable, documents, table_of
from gates.subject.recorded_directory import RecordedDirectory
from gates.subject.recorded_runs import JudgedRun, MadeAgain
from gates.subject.scored_texts import Texts, TokenLosses, batch_of, read_texts, token_losses
from reference.central_differences import LossAt
from tests import small_language_model as small

TABLE = ModelTable("train.txt", "val.txt", context=5, bos=0, eos=1)
TEXT = [[int(x) for x in np.random.default_rng(k).integers(2, small.VOCAB - 1, 3 + k % 6)] for k in range(40)]


def texts(ids=TEXT, **changes):
    words = ["".join(chr(97 + i) for i in one) for one in ids]
    return Texts(
        **{"documents": words, "ids": ids, "decoded": words, "alone": {0: ids[0]}, "own_tokenizer": True}
        | changes
    )


@pytest.fixture
def evidence(tmp_path):
    """What a right subject leaves, answered by the small model."""
    val = texts(TEXT[30:])
    model = small.asked(tmp_path / "asked")
    score = token_losses(model, tmp_path, val.windows(TABLE))
    answers = probe(model, tmp_path, val.sequences(TABLE), TABLE.context, random.Random(1))
    at = JudgedUpdate(1, {}, LossAt(1.0, 1e-16, 1e-9), [])
    log: list[model_runs.Line] = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "val_loss": float(np.float32(score.mean)), "val_ppl": math.exp(score.mean)},
    ]
    total = sum(len(text) for text in val.decoded)
    return ModelEvidence(TABLE, log, {}, texts(TEXT[:30]), val, total, small.VOCAB, answers, {2: score}, [at])


def with_log(evidence, **changes):
    return dataclasses.replace(evidence, log=[evidence.log[0], {**evidence.log[1], **changes}])


def test_a_right_model_passes(evidence):
    for check in (own_model.normalised, own_model.tokenizer, own_model.reported, own_model.validation_losses):
        finding = check(evidence)
        assert finding.passed, finding.message
    assert own_model.causality(evidence.probes, TABLE).passed
    assert own_model.padding(evidence.probes, TABLE).passed


# Logits


def leaking(w, tokens):
    found = small.logits(w, tokens)
    found[:, :-1] += 1e-6 * w["W"][0][None, None] * tokens[:, 1:, None]
    return found


def from_the_end(w, tokens):
    return small.logits(w, tokens) + np.arange(tokens.shape[1])[::-1][:, None]


def centred(w, tokens):
    """Over positions: the future, and the padding."""
    found = small.logits(w, tokens)
    return found - found.mean(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("own", "check", "says"),
    [
        (leaking, own_model.causality, "a future token changes logits"),
        (centred, own_model.causality, "a future token changes logits"),
        (centred, own_model.padding, "padding at the end changes logits"),
        (from_the_end, own_model.padding, "padding at the end changes logits at position 0"),
    ],
)
def test_looks_at_the_future_or_the_padding_are_refused(own, check, says, tmp_path):
    model = small.asked(tmp_path, own=own)
    model.vocab_size = small.VOCAB
    finding = check(probe(model, tmp_path, TEXT, 5, random.Random(2)), TABLE)
    assert not finding.passed
    assert says in finding.message


def test_rounding_is_no_look_at_the_future_and_what_is_declared_is_allowed(tmp_path):
    def rounded(w, tokens):
        noise = np.random.default_rng(len(tokens)).normal(0, 1e-14, (*tokens.shape, small.VOCAB))
        return small.logits(w, tokens) + noise

    model = small.asked(tmp_path, own=rounded)
    model.vocab_size = small.VOCAB
    answers = probe(model, tmp_path, TEXT, 5, random.Random(2))
    assert own_model.causality(answers, TABLE).passed
    assert own_model.padding(answers, TABLE).passed
    assert not own_model.causality(answers, dataclasses.replace(TABLE, rounding=1e-16)).passed


def test_logits_that_are_no_numbers_are_refused_by_the_check_that_says_so(evidence):
    whole = evidence.probes.whole.copy()
    whole[0, 0, 3] = -np.inf
    broken = dataclasses.replace(evidence, probes=dataclasses.replace(evidence.probes, whole=whole))
    assert "logits are not finite" in own_model.normalised(broken).message
    assert not own_model.causality(
        dataclasses.replace(evidence.probes, whole=np.full_like(whole, np.nan)), TABLE
    ).passed
    few = dataclasses.replace(evidence, vocab_size=small.VOCAB - 3)
    assert "the text has token" in own_model.normalised(few).message


# Texts


def test_a_tokenizer_that_loses_something_is_refused(evidence):
    lost = dataclasses.replace(
        evidence, validation=texts(TEXT[30:], decoded=["x", *texts(TEXT[31:]).decoded])
    )
    assert "validation: document 0 is not what its ids decode to" in own_model.tokenizer(lost).message
    other = dataclasses.replace(evidence, train=texts(TEXT[:30], alone={4: [1]}))
    assert "train: document 4 has other ids when it is encoded alone" in own_model.tokenizer(other).message


def test_windows_predict_every_token_once_but_the_first():
    one = texts([[*range(2, 10)], [], [3]])
    assert one.windows(TABLE) == [[0, 2, 3, 4, 5, 6], [6, 7, 8, 9, 1], [0, 1], [0, 3, 1]]
    bare = dataclasses.replace(TABLE, bos=None, eos=None)
    assert one.windows(bare) == [[2, 3, 4, 5, 6, 7], [7, 8, 9]]
    tokens, targets, mask = batch_of([[0, 2, 3], [0, 1]])
    assert tokens.tolist() == [[0, 2], [0, 0]]
    assert targets.tolist() == [[2, 3], [1, 0]]
    assert mask.tolist() == [[True, True], [True, False]]


def test_texts_are_bytes_without_a_tokenizer_and_ids_if_there_is_no_text(tmp_path):
    model = small.asked(tmp_path)
    assert read_texts(model, tmp_path, ["aé"], encode=False, decode=False).ids == [[97, 195, 169]]
    assert read_texts(model, tmp_path, [[4, 5]], encode=False, decode=False).decoded is None
    wrong: dict[str, list[Document]] = {"no document": [], "texts and ids": ["a", [1]], "no `decode`": ["a"]}
    for says, given in wrong.items():
        with pytest.raises(GateError, match=says):
            read_texts(model, tmp_path, given, encode=True, decode=False)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({}, "does not say 'train'"),
        ({"train": "a", "validation": "b"}, "does not say 'context'"),
        ({"train": "a", "validation": "b", "context": "64"}, "context is '64', expected int"),
        ({"train": "a", "validation": "b", "context": True}, "context is True, expected int"),
        ({"train": "a", "validation": "b", "context": 0}, "expected at least 1"),
        (
            {"train": "a", "validation": "b", "context": 4, "ratio": math.nan},
            "ratio is nan, expected at least 0",
        ),
        ({"train": "a", "validation": "b", "context": 4, "bos": -1}, "expected at least 0"),
        ({"train": "a", "validation": "b", "context": 4, "precision": "int8"}, "expected one of float64"),
        (
            {"train": "a", "validation": "b", "context": 4, "documents": "pages"},
            "expected one of lines, file",
        ),
        ({"train": "a", "validation": "b", "context": 4, "contxt": 4}, "has no key 'contxt'; there is train"),
    ],
)
def test_the_table_says_what_is_wrong_with_it(said, says):
    with pytest.raises(GateError) as error:
        table_of(said)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_documents_are_lines_or_the_file_or_rows_of_json(tmp_path):
    plain, rows = tmp_path / "a.txt", tmp_path / "a.jsonl"
    plain.write_text("one\n\ntwo\u2028three\n", encoding="utf-8")
    assert documents(plain, "lines") == ["one", "two\u2028three"]
    assert documents(plain, "file") == ["one\n\ntwo\u2028three\n"]
    rows.write_text('{"text": "a\\nb", "id": 1}\n{"text": ""}\n')
    assert documents(rows, "lines") == ["a\nb", ""]
    rows.write_text('{"ids": [1, 2]}\n')
    assert documents(rows, "lines") == [[1, 2]]
    for text, says in (('{"ids": [-1]}', "line 1 is neither"), ("[]", "line 1 is neither"), ("{", "line 1:")):
        rows.write_text(text)
        with pytest.raises(GateError, match=says):
            documents(rows, "lines")
    plain.write_bytes(b"\xff")
    with pytest.raises(GateError, match="cannot be read"):
        documents(plain, "lines")
    with pytest.raises(GateError, match="no such file"):
        documents(tmp_path / "nothing.txt", "lines")


# Perplexity


def test_val_loss_of_something_else_is_refused_and_named(evidence):
    score = evidence.scores[2]
    counts, sums = np.bincount(score.window), np.bincount(score.window, weights=score.nll)
    older = TokenLosses(score.nll + 0.25, score.window)
    wrong = {
        "the mean over the first 3 of": sums[:3].sum() / counts[:3].sum(),
        "the mean of the windows' means": (sums / counts).mean(),
        "padding is counted": score.total / (len(counts) * counts.max()),
        "the weights of step 1": older.mean,
        "val_loss is not that of the checkpoint's weights": score.mean + 1e-4,
    }
    for says, got in wrong.items():
        finding = own_model.validation_losses(
            dataclasses.replace(with_log(evidence, val_loss=float(got)), scores={1: older, 2: score})
        )
        assert not finding.passed
        assert says in finding.message
    assert not own_model.validation_losses(with_log(evidence, val_loss=None)).passed
    assert not own_model.validation_losses(with_log(evidence, val_loss=math.nan)).passed


def test_reported_numbers_are_checked_wherever_they_stand(evidence):
    score = evidence.scores[2]
    finding = own_model.reported(with_log(evidence, val_ppl=2**score.mean))
    assert "log, step 2: val_ppl (behaves like: 2 to the loss, which is in nats)" in finding.message
    bits = score.total / math.log(2) / evidence.predicted_bytes
    right = {"val_loss": score.mean, "perplexity": math.exp(score.mean), "bits_per_byte": bits, "other": "x"}
    assert own_model.bits_per_byte(evidence) == pytest.approx(bits)
    assert own_model.reported(dataclasses.replace(evidence, results=right)).passed
    for name in ("val_loss", "perplexity", "bits_per_byte"):
        for value in (right[name] * 1.001, "1", None, math.nan):
            finding = own_model.reported(dataclasses.replace(evidence, results={**right, name: value}))
            assert f"results.json: {name}" in finding.problem


def test_a_model_no_better_than_a_table_of_counts_is_refused(evidence):
    uniform = TokenLosses(
        np.full(evidence.scores[2].tokens, math.log(small.VOCAB)), evidence.scores[2].window
    )
    finding = own_model.beats_the_baseline(dataclasses.replace(evidence, scores={2: uniform}))
    assert not finding.passed
    assert "the strongest n-gram's is too high" in finding.message
    certain = TokenLosses(np.zeros(uniform.tokens) + 0.1, uniform.window)
    better = dataclasses.replace(evidence, scores={2: certain})
    assert own_model.beats_the_baseline(better).passed
    stricter = dataclasses.replace(better, table=dataclasses.replace(TABLE, ratio=0.01))
    assert not own_model.beats_the_baseline(stricter).passed


# Updates


def test_updates_with_a_checkpoint_on_both_sides_are_found_and_skipped_ones_left_out(tmp_path):
    for step in (0, 1, 2, 4, 5):
        (tmp_path / f"checkpoints/step-{step:08d}").mkdir(parents=True)
    lines = [{"step": step, "skipped": step == 2} for step in range(1, 6)]
    (tmp_path / "train_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = RecordedDirectory(tmp_path)
    assert [(pair.step, pair.line["step"]) for pair in model_runs.neighbours(run)] == [(1, 1), (5, 5)]
    judged = JudgedRun(run, {}, 0.0, MadeAgain([], [], {}, {}))
    assert [p.step for p in model_runs._drawn_pairs(judged, None, random.Random(1))] == [1, 5]
    assert len(model_runs._drawn_pairs(judged, run, random.Random(1))) == 4
    for folder in (tmp_path / "checkpoints").iterdir():
        folder.rmdir()
    with pytest.raises(GateError, match="no update has a checkpoint on both sides"):
        model_runs._drawn_pairs(judged, run, random.Random(1))


def test_a_tied_head_that_is_saved_twice_moves_with_its_parameter():
    E, zeros = np.arange(4.0), np.zeros(4)
    saved = {"E": E, "head": E.copy(), "bias": zeros, "mask": zeros.copy()}
    copies = model_runs._copies(saved, {"E", "bias"})
    assert copies == {"head": "E"}
    assert model_runs._with_copies(saved | {"E": E + 1}, copies)["head"].tolist() == (E + 1).tolist()
