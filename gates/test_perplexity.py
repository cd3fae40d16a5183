"""Gate 1. Val perplexity is at most 0.7 times that of the strongest n-gram, and it is what the numbers say it is."""

import pytest

from fixtures.corpus import files
from gates.judge import perplexity, probe_checks, scoring
from gates.judge.scoring import ReferenceScorer

UNSEEN = ("val", "test")


@pytest.mark.needs("committed")
def test_beats_the_strongest_ngram_on_the_committed_split(accept, note, runs, session, scorer):
    trained = runs["committed"].trained
    contests = {
        name: scoring.contest(scorer, trained.run.weights, session.committed[name]) for name in UNSEEN
    }
    note(
        f"committed split, held-out verbs (not gated): ratio {contests['test'].ratio:.3f}, {contests['test']}"
    )
    accept(perplexity.ratio("perplexity/committed", contests["val"]))


@pytest.mark.needs("blind")
def test_beats_the_strongest_ngram_on_cells_it_never_got(accept, note, runs):
    split, run = runs["blind"].split, runs["blind"].run
    scorer = ReferenceScorer(split.handed["train"])
    contests = {name: scoring.contest(scorer, run.weights, split.kept[name]) for name in UNSEEN}
    note(
        f"blind split {split.seed} (--blind-seed {split.seed} repeats it), held-out verbs (not gated): "
        f"ratio {contests['test'].ratio:.3f}, {contests['test']}"
    )
    accept(perplexity.ratio("perplexity/blind", contests["val"]))


def test_uniform_weights_have_perplexity_v(accept, session, scorer):
    accept(perplexity.scorer_reads_v(scorer, session.committed["val"]))


@pytest.mark.needs("committed")
def test_future_tokens_do_not_change_earlier_logits(accept, runs):
    accept(probe_checks.causality(runs["committed"].answers))


@pytest.mark.needs("committed")
def test_padding_does_not_change_logits(accept, runs):
    accept(probe_checks.padding(runs["committed"].answers))


@pytest.mark.needs("committed")
def test_logits_agree_with_the_oracle(accept, runs):
    committed = runs["committed"]
    accept(probe_checks.agreement_with_the_oracle(committed.answers, committed.run.weights))


@pytest.mark.needs("committed", "blind")
def test_no_val_or_test_cell_is_in_train(accept, runs, session):
    split, run = runs["blind"].split, runs["blind"].run
    blind = perplexity.split_is_kept(
        run, split.handed, split.kept, perplexity.digests(run.path.parent / "data")
    )
    if not blind.passed:
        return accept(blind)
    trained = runs["committed"].trained
    accept(perplexity.split_is_kept(trained.run, session.committed, {}, perplexity.digests(trained.data)))


@pytest.mark.needs("overlap")
def test_overlapping_splits_are_refused(accept, runs):
    accept(perplexity.overlap_is_refused(*runs["overlap"]))


@pytest.mark.needs("committed")
def test_reported_numbers_are_the_recomputed_ones(accept, runs, session, scorer):
    accept(perplexity.reported_is_recomputed(runs["committed"].run, session.committed, scorer))


@pytest.mark.needs("committed")
def test_tokenizer_is_learned_from_train_alone(accept, runs, session, scorer):
    accept(
        perplexity.tokenizer_is_learned_from_train(runs["committed"].run, scorer, session.committed["train"])
    )


@pytest.mark.needs("control/untrained")
def test_refuses_an_untrained_model(refuse, runs, session, scorer):
    contest = scoring.contest(scorer, runs["control/untrained"].weights, session.committed["val"])
    refuse("untrained", perplexity.ratio("perplexity/committed", contest))


@pytest.mark.needs("control/unshifted_targets")
def test_refuses_a_model_trained_on_unshifted_targets(refuse, runs, session, scorer):
    run = runs["control/unshifted_targets"]
    assert perplexity.claims_to_pass(run)
    contest = scoring.contest(scorer, run.weights, session.committed["val"])
    refuse("unshifted_targets", perplexity.ratio("perplexity/committed", contest))


@pytest.mark.needs("control/no_causal_mask")
def test_refuses_a_model_trained_without_its_causal_mask(refuse, runs):
    run, answered = runs["control/no_causal_mask"]
    assert perplexity.claims_to_pass(run)
    refuse("no_causal_mask", probe_checks.causality(answered))


@pytest.mark.needs("control/claims_better")
def test_refuses_a_run_that_claims_a_better_number_than_it_has(refuse, runs, session, scorer):
    val = {"val": session.committed["val"]}
    refuse("claims_better", perplexity.reported_is_recomputed(runs["control/claims_better"], val, scorer))


@pytest.mark.needs("control/swallows_overlap")
def test_refuses_a_run_on_splits_that_overlap(refuse, runs):
    finished, run = runs["control/swallows_overlap"]
    finished.succeeded()
    data = run.path.parent / "data"
    refuse(
        "swallows_overlap",
        perplexity.split_is_kept(run, files.read_directory(data), {}, perplexity.digests(data)),
    )


@pytest.mark.needs("control/warns_of_overlap")
def test_refuses_a_run_that_only_warns_of_overlap(refuse, runs):
    refuse("warns_of_overlap", perplexity.overlap_is_refused(*runs["control/warns_of_overlap"]))


@pytest.mark.needs("control/tokenizer_reads_val")
def test_refuses_a_tokenizer_that_is_learned_from_val_too(refuse, runs, session, scorer):
    run, train = runs["control/tokenizer_reads_val"], session.committed["train"]
    refuse("tokenizer_reads_val", perplexity.tokenizer_is_learned_from_train(run, scorer, train))
