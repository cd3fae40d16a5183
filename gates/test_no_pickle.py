"""Gate 5. Nothing is unpickled: not by the subject's source, not from its files, not while it runs."""

import pytest

from gates.judge import artefacts, static_scan, unpickling_attempts
from gates.subject.controls import module_of
from honestloop.suite_location import ROOT


def test_the_source_has_no_way_to_unpickle(accept, note, session):
    note(unpickling_attempts.SHOWS)
    accept(static_scan.check(session.subject, session.description.folder))


@pytest.mark.needs("committed")
def test_every_artefact_is_of_an_allowed_format(accept, runs):
    accept(artefacts.check(runs["committed"].run.path))


@pytest.mark.needs("guarded")
def test_trains_saves_and_loads_where_unpickling_raises(accept, runs):
    accept(unpickling_attempts.works_without_unpickling(*runs["guarded"]))


def test_refuses_pickle_imported_in_roundabout_ways(refuse):
    refuse("hidden_imports", static_scan.check(module_of("hidden_imports"), ROOT))


@pytest.mark.needs("control/pickle_in_checkpoint")
def test_refuses_a_pickle_in_a_checkpoint(refuse, runs):
    refuse("pickle_in_checkpoint", artefacts.check(runs["control/pickle_in_checkpoint"].path))


@pytest.mark.needs("control/unpickles")
def test_refuses_unpickling_through_a_library(refuse, runs):
    refuse("unpickles", unpickling_attempts.breaks(*runs["control/unpickles"]))
