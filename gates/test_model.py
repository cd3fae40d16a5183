"""Gate of level 3. A model of any kind is a language model, and its updates are those of its own loss."""

import pytest

from gates.judge import gradient_check, own_model


@pytest.mark.needs("model")
def test_logits_are_a_distribution_over_tokens(accept, runs):
    accept(own_model.normalised(runs["model"]))


@pytest.mark.needs("model")
def test_future_tokens_do_not_change_earlier_logits(accept, runs):
    accept(own_model.causality(runs["model"].probes, runs["model"].table))


@pytest.mark.needs("model")
def test_padding_does_not_change_logits(accept, runs):
    accept(own_model.padding(runs["model"].probes, runs["model"].table))


@pytest.mark.needs("model")
def test_the_tokenizer_decodes_what_it_encodes(accept, runs):
    accept(own_model.tokenizer(runs["model"]))


@pytest.mark.needs("model")
def test_reported_numbers_are_the_recomputed_ones(accept, runs):
    accept(own_model.reported(runs["model"]))


@pytest.mark.needs("model")
def test_beats_the_strongest_ngram_on_the_same_tokens(accept, runs):
    accept(own_model.beats_the_baseline(runs["model"]))


@pytest.mark.needs("model")
def test_val_loss_is_that_of_each_checkpoint(accept, runs):
    accept(own_model.validation_losses(runs["model"]))


@pytest.mark.needs("model")
def test_the_logged_loss_is_that_of_the_verb(accept, runs):
    accept(gradient_check.logged_losses(runs["model"].updates, runs["model"].table.unit))


@pytest.mark.needs("model")
def test_the_gradient_is_that_of_the_loss(accept, runs):
    accept(gradient_check.gradients(runs["model"].updates))
