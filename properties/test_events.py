"""What happens at which update, over a whole run and over one that goes on from any of its updates."""

from fixtures.control_strategies import event_settings
from properties.assertions import holds
from properties.checks import checks
from reference import events

ORDER = {kind: place for place, kind in enumerate(events.KINDS)}


def given(subject, settings):
    """The subject's events: (update, kind)."""
    return [(int(update), str(kind)) for update, kind in subject.schedule_of_events(settings)]


def expected(subject, settings):
    """The oracle's, under the subject's conventions."""
    said = subject.conventions
    return events.schedule_of_events(settings, leftover=said.leftover, first_evaluation=said.first_evaluation)


def in_order(found):
    """The events by update, those of one update in the oracle's order."""
    return sorted(found, key=lambda event: (event[0], event[0] > 0 and ORDER.get(event[1], 9)))


def same_events(rule, subject, settings, kinds=events.KINDS):
    """Of these kinds the same events at the same updates, none twice."""
    got = in_order(e for e in given(subject, settings) if e[1] in kinds)
    wanted = in_order(e for e in expected(subject, settings) if e[1] in kinds)
    missing, extra = [e for e in wanted if e not in got], [e for e in got if e not in wanted]
    found = f"{settings}: missing {missing}, not expected {extra}; got {got}"
    holds(rule, got == wanted, found)


@checks("EVENT-01", settings=event_settings())
def test_a_run_has_its_number_of_updates(subject, settings):
    """Counted in updates, not in micro-batches; in epochs, with what is left over; and the smaller of the two."""
    same_events("EVENT-01", subject, settings, ("train",))


@checks("EVENT-02", settings=event_settings())
def test_events_follow_the_updates_that_their_cadence_divides_and_the_last(subject, settings):
    length = events.run_length(settings, leftover=subject.conventions.leftover)
    on = {k: max(settings[k], 1) for k in ("eval_every", "sample_every", "save_every")}
    same_events("EVENT-02", subject, settings | on | {"steps": length, "epochs": None})


@checks("EVENT-03", "EVENT-02", settings=event_settings())
def test_a_cadence_of_zero_or_below_is_off(subject, settings):
    """At the last update too."""
    length = events.run_length(settings, leftover=subject.conventions.leftover)
    settings = settings | {"steps": length, "epochs": None}
    for name, kind in (("eval_every", "evaluate"), ("sample_every", "sample"), ("save_every", "save")):
        for off in (0, -1):
            same_events("EVENT-03", subject, settings | {name: off}, (kind,))
    same_events("EVENT-02", subject, settings)


@checks("EVENT-04", settings=event_settings())
def test_a_run_that_goes_on_has_the_events_that_are_left(subject, settings):
    """From every update, the last one too: none is repeated, none is skipped, and nothing is counted anew."""
    length = events.run_length(settings, leftover=subject.conventions.leftover)
    for start in range(length + 1):
        same_events("EVENT-04", subject, settings | {"start": start})


@checks("EVENT-05", settings=event_settings())
def test_an_update_comes_first_and_its_checkpoint_knows_its_evaluation(subject, settings):
    got = given(subject, settings | {"eval_every": 1, "save_every": 1, "sample_every": 2})
    for update in range(1, max(update for update, _ in got) + 1):
        kinds = [kind for u, kind in got if u == update]
        order = [kind for kind in kinds if kind in ("train", "evaluate", "save")]
        found = f"update {update}: {kinds}"
        holds("EVENT-05", kinds[0] == "train" and order == ["train", "evaluate", "save"], found)
    numbers = [update for update, _ in got]
    holds("EVENT-05", numbers == sorted(numbers), f"the updates are not in order: {got}")
