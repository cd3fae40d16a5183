"""Gate 4. The model that a fresh process loads is the model that was trained, to the last bit."""

import pytest

from gates.judge import reload


@pytest.mark.needs("committed")
def test_reloaded_logits_are_the_live_ones(accept, runs, grading, scorer):
    committed = runs["committed"]
    accept(
        reload.logits_are_the_live_ones(committed.run, committed.reloaded, scorer, grading.committed["val"])
    )


@pytest.mark.needs("committed")
def test_the_file_name_carries_the_hash(accept, runs):
    accept(reload.name_carries_the_hash(runs["committed"].run))


@pytest.mark.needs("committed")
def test_the_tensors_are_the_parameters(accept, runs):
    accept(reload.tensors_are_the_parameters(runs["committed"].run))


@pytest.mark.needs("committed")
def test_the_model_is_the_last_checkpoint(accept, runs):
    accept(reload.model_is_the_last_checkpoint(runs["committed"].run))


@pytest.mark.needs("control/saves_float16")
def test_refuses_weights_that_lost_bits_on_their_way_to_disk(refuse, runs, grading, scorer):
    run, reloaded = runs["control/saves_float16"]
    refuse("saves_float16", reload.logits_are_the_live_ones(run, reloaded, scorer, grading.committed["val"]))


@pytest.mark.needs("control/unties_head")
def test_refuses_a_tied_head_stored_twice(refuse, runs):
    refuse("unties_head", reload.tensors_are_the_parameters(runs["control/unties_head"]))


@pytest.mark.needs("control/prefixes_names")
def test_refuses_names_with_the_prefix_of_a_wrapper(refuse, runs):
    refuse("prefixes_names", reload.tensors_are_the_parameters(runs["control/prefixes_names"]))


@pytest.mark.needs("control/one_update_older")
def test_refuses_a_model_older_than_the_last_checkpoint(refuse, runs):
    refuse("one_update_older", reload.model_is_the_last_checkpoint(runs["control/one_update_older"]))
