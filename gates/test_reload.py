"""Gate 4. The model that a fresh process loads is the model that was trained, to the last bit."""

import pytest

from gates.control_parameters import control_parameters
from gates.judge import reload
from gates.verdict.definition import control

CHECKS = {
    "name": reload.name_carries_the_hash,
    "tensors": reload.tensors_are_the_parameters,
    "checkpoint": reload.model_is_the_last_checkpoint,
}


@pytest.mark.needs("committed")
def test_reloaded_logits_are_the_live_ones(accept, runs, session, scorer):
    committed = runs["committed"]
    accept(
        reload.logits_are_the_live_ones(committed.run, committed.reloaded, scorer, session.committed["val"])
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
def test_refuses_weights_that_lost_bits_on_their_way_to_disk(refuse, runs, session, scorer):
    run, reloaded = runs["control/saves_float16"]
    refuse("saves_float16", reload.logits_are_the_live_ones(run, reloaded, scorer, session.committed["val"]))


@pytest.mark.parametrize("name", control_parameters("reload", *CHECKS))
def test_refuses_a_file_that_is_not_the_model(refuse, runs, name):
    refuse(name, CHECKS[control(name).check](runs[f"control/{name}"]))
