"""Pages say what the files say, and nothing that anybody wrote becomes markup; there is a page whatever they hold."""

import itertools
import json
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gates.judge import inert_html
from gates.verdict import definition
from pages import evaluation_parts, limits, numbers, properties, run, run_parts, verdict
from pages.chart import Chart, Curve, Level, apart, drawing
from pages.markup import ATTRIBUTES, TAGS, element, joined, link
from pages.numbers import plain, tick_texts, ticks
from pages.run_data import RunData
from pages.run_parts import tokens_a_second
from pages.thinning import MOST, thinned
from pages.verdict_parts import margin_in_words, sentence, without_likeness
from tests import shown_pages

TEXTS = shown_pages.RULE_TEXTS
MINIMAL = {"verdict": "PASSED", "subject": "impl", "gates": []}


class Read(HTMLParser):
    """The elements of a page, their attributes, and the text of what is no style sheet."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def read(page):
    """The page, read; it is well-formed, inert, and of elements and attributes on the lists."""
    inert_html.check(page.encode())
    found = Read(page)
    assert found.open == []
    assert set(found.tags) <= {tag.lower() for tag in TAGS}
    assert {name for name, _ in found.attributes} <= {name.lower() for name in ATTRIBUTES}
    return found


def everything(attack=""):
    """Every kind of page, of facts in which each text is attacked."""
    facts = shown_pages.attacked(shown_pages.verdict(), attack)
    shown = shown_pages.attacked_run(attack) if attack else shown_pages.run()
    return [
        run.report(shown),
        verdict.page(facts, shown, TEXTS),
        properties.page(shown_pages.attacked(shown_pages.grading(), attack), TEXTS),
    ]


# Numbers


def test_a_report_has_the_numbers_of_the_files():
    shown = shown_pages.run()
    text = read(run.report(shown)).text
    assert f"Validation perplexity {plain(1.741013489040907)}, 0.587 times" in text
    assert f"training {plain(shown.log[-1]['loss'])}" in text
    assert f"validation {plain(shown.log[-1]['val_loss'])}" in text
    assert f"4-gram {plain(math.log(2.9663505607403744))}" in text
    assert f"gate: 0.7 x its perplexity {plain(math.log(0.7 * 2.9663505607403744))}" in text
    assert "577.2 MiB (605,241,344)" in text and "1 min 40 s (100.33)" in text
    assert "2.09e-04" in text and "1.67e-03" in text and "lower is better" in text
    assert "1c72fdba2162 with changes" in text and "AMD EPYC 7B13" in text and "2026-11-28 19:18 UTC" in text
    assert shown.manifest["config_sha256"] in text and "0.9, 0.95" in text and "2.4.6" in text
    assert "tú has estudiado" in text and "✓ as the data" in text and "✗ other" in text


def test_what_nobody_has_heard_of_is_shown():
    """A number of the log as a chart, a fact as a row, a cost among the costs."""
    text = read(run.report(shown_pages.run())).text
    assert "experts_used" in text and "first 1, least 0, most 4, last 0." in text
    assert "a_new_fact told by a later version" in text
    cost = text[text.index(" Cost ") : text.index(" Results ", text.index(" Cost "))]
    assert "training_flops 1.25e+12" in cost


def test_tokens_a_second_are_those_between_two_lines():
    log = [{"step": n, "tokens": 100 * n, "seconds": n / 2} for n in range(1, 4)]
    assert list(tokens_a_second(RunData("", log))) == [(2, 400.0), (3, 600.0)]
    assert list(tokens_a_second(RunData("", [{"tokens": 1}, {"seconds": 2}]))) == []


def test_a_verdict_says_what_failed_first_and_what_a_pass_would_leave_open():
    text = read(verdict.page(shown_pages.verdict(), shown_pages.run(), TEXTS)).text
    assert "✗ FAILED my_pkg Failed 1 of 3 gates: update/weights: update 7: 24 of 26 tensors" in text
    order = ["What failed ✗", "got 0.00123", "expected 0.00456", "more than a million times what is allowed"]
    order += ["behaves like epsilon before the correction", f"look for {TEXTS['UPDATE-03']['hint']}"]
    order += [
        "– NOT RUN 1 whole gate: drift",
        "NOT RUN 1 control: untrained",
        "! EXPECTED FAILURE ACT-01, as declared",
    ]
    order += ["○ NOT OFFERED rows", "94 more controls", "committed: 83.9 % of what is allowed"]
    order += [
        "1 of 2 were refused",
        "4-gram 1.087",
        "--blind-seed 1 --kill-seed 2",
        "What no verdict can show",
    ]
    for words in order:
        assert words in text
        text = text.partition(words)[2]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"verdict": "PASSED", "gates": [shown_pages.gate("a")] * 3}, "Passed 3 of 3 gates."),
        (
            {"verdict": "PASSED", "gates": [shown_pages.gate("a")], "expected_failures": {"X": "y"}},
            "Passed 1 of 1 gate; 1 failure as declared.",
        ),
        (
            {
                "verdict": "INCOMPLETE",
                "interrupted": "SIGTERM",
                "gates": [{"gate": "a", "verdict": "NOT RUN"}],
            },
            "Not complete: interrupted by SIGTERM: 1 of 1 gate did not run to the end (a)",
        ),
        (
            {"verdict": "INCOMPLETE", "declared_and_not_asked": ["rows"], "gates": []},
            "Not complete: declared and not asked: rows",
        ),
        (
            {"verdict": "FAILED", "expected_and_held": {"X-01": "y"}},
            "X-01 is declared not to hold, and holds: remove the declaration",
        ),
        ({"verdict": "FAILED", "file_problems": ["somebody wrote to it"]}, "somebody wrote to it"),
        (
            {"verdict": "FAILED", "gates": [{"gate": n, "verdict": "FAILED"} for n in "ab"]},
            "Failed 2 of 2 gates (a, b)",
        ),
    ],
)
def test_the_verdict_in_one_sentence(facts, said):
    assert sentence(facts) == said
    read(verdict.page(facts, None, TEXTS))


def test_margins_in_words():
    assert margin_in_words({"margin": "exact"}) == "exact: nothing differs"
    assert margin_in_words({"share": 0.0, "margin": "exact"}) == "exact: nothing differs"
    assert margin_in_words({"share": 0.25, "margin": "4x inside"}) == "inside 4 times"
    assert margin_in_words({"share": 0.839, "margin": "+0.11"}) == "83.9 % of what is allowed"
    assert (
        margin_in_words({"share": 650.0, "margin": "650x", "verdict": "FAILED"})
        == "650 times what is allowed"
    )
    assert margin_in_words({"margin": "exact", "verdict": "FAILED"}) == ""
    assert without_likeness("a (behaves like: f (of x) and y) (and 3 more)") == (
        "a (and 3 more)",
        "f (of x) and y",
    )


def test_one_block_a_rule_for_both_dtypes():
    text = read(properties.page(shown_pages.grading(), TEXTS)).text
    assert text.count("✗ BROKEN ACT-01") == 1
    assert "got 0.042 expected 0.041 (float32) error 1e-3 = 1e4 x the derived bound" in text
    assert "1 more test of this rule failed [float64]" in text and "behaves like gelu: the tanh form" in text
    assert (
        "BLOCKED 1 rule rests on one that is broken" in text
        and "NOT OFFERED 1 of the rules, for want of softmax, float16." in text
    )
    assert "float32 25 %, float64 1 %" in text and "holds, though EXPECTED" in text


# Nothing that anybody wrote becomes markup


@pytest.mark.parametrize("attack", shown_pages.ATTACKS)
def test_what_a_subject_wrote_is_text(attack):
    for page, usual in zip(everything(attack), everything(), strict=True):
        found = read(page)
        assert set(found.tags) == set(Read(usual).tags)
        assert not any(name.startswith("on") for name, _ in found.attributes)
        links = {value for name, value in found.attributes if name == "href"}
        assert links == {value for name, value in Read(usual).attributes if name == "href"}
        # It is there, to be read, as it was written but for what no page can hold.
        seen = " ".join(joined(attack).split())
        assert seen in page or "\\u" in seen
        if attack.isprintable():
            assert " ".join(attack.split()) in found.text


def test_only_addresses_of_pages_are_links():
    assert link("x", "javascript:alert(1)") == "x"
    assert link("x", "https://example.org/a?b=c#d") == '<a href="https://example.org/a?b=c#d">x</a>'
    for wrong in (
        {"href": "data:text/html,x"},
        {"style": "background:url(//x)"},
        {"onload": "x"},
        {"src": "x"},
    ):
        with pytest.raises(ValueError):
            element("a", "x", **wrong)
    with pytest.raises(ValueError):
        element("script", "x")


def test_control_characters_and_directions_are_shown_as_escapes():
    assert joined("a\u202e\u0000\ud800\tb\nc") == "a\\u202e\\x00\\ud800    b\nc"
    joined("\ud800").encode()


# Whatever the files hold, there is a page

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def objects(*names):
    """Objects that have some of these keys, and others, with values of any form."""
    return st.dictionaries(st.sampled_from(names) | st.text(max_size=5), JSON, max_size=6)


LINES = objects("step", "loss", "val_loss", "lr", "seconds", "tokens", "grad_norm")


@settings(max_examples=30)
@given(
    st.lists(LINES, max_size=5),
    objects("strongest_baseline", "perplexity", "ratio", "baselines", "wall_seconds", "steps"),
    objects("git", "platform", "packages", "config", "started_at"),
    objects("formats", "rounded", "positions"),
    st.lists(objects("source", "said", "expected"), max_size=2),
)
def test_a_run_of_any_form_has_a_page(log, results, manifest, drift, samples):
    read(run.report(RunData("x", log, results, manifest, drift, samples)))


@settings(max_examples=30)
@given(
    objects(
        "verdict", "level", "gates", "controls", "notes", "not_offered", "interrupted", "controls_left_out"
    ),
    st.lists(objects("gate", "verdict", "checks", "broken_tests", "title"), max_size=2),
    st.lists(
        objects("check", "verdict", "share", "margin", "got", "expected", "problem", "rule"), max_size=3
    ),
)
def test_a_verdict_of_any_form_has_a_page(facts, gates, checks):
    facts |= {"gates": [{**gate, "checks": checks} for gate in gates]} if gates else {}
    read(verdict.page(facts, None, TEXTS))
    read(
        properties.page(
            {**facts, "rules": [{**c, "status": "broken", "failures": checks} for c in checks]}, TEXTS
        )
    )


def test_an_empty_run_says_that_nothing_was_logged():
    text = read(run.report(RunData("empty", absent=["results.json: no such file"]))).text
    assert "Nothing was logged." in text and "nothing of this was logged" in text
    assert "Not shown: results.json: no such file" in text


def test_numbers_that_are_not_finite_are_told_and_not_drawn():
    log = [
        {"step": n, "loss": value}
        for n, value in enumerate([1.0, math.nan, math.inf, -math.inf, 1e308, 2.0], 1)
    ]
    text = read(run.report(RunData("x", log))).text
    assert "4 values are not finite and not drawn: training at 2, training at 3, training at 4, ..." in text
    assert "nan" not in re.findall(r' d="([^"]*)"', run.report(RunData("x", log)))
    gone = read(run.report(RunData("x", [{"step": 1, "loss": math.nan}]))).text
    assert "1 value is not finite and not drawn: training at 1." in gone


# Sizes


def test_what_is_too_long_is_cut_with_a_note():
    long = "x" * 10_000_000
    facts = {**shown_pages.verdict(), "notes": [long] * 50}
    facts["gates"][1]["checks"][1] |= {"got": long, "problem": long}
    page = verdict.page(facts, RunData(long, shown_pages.log(), {"a": long}, {"b": [long] * 1000}), TEXTS)
    assert len(page.encode()) <= verdict.LIMIT
    assert "(cut: 10,000,000 characters)" in read(page).text
    assert limits.trimmed(list(range(9)), 5, 3) == [0, 1, 2, "... 6 more"]
    assert limits.trimmed({str(n): n for n in range(9)}, 5, 3) == {"0": 0, "1": 1, "2": 2, "...": "6 more"}
    deep: object = "x"
    for _ in range(60):
        deep = {"a": deep}
    assert "(an object of 1 fields)" in json.dumps(limits.trimmed(deep, 9, 9))


def test_a_long_log_is_a_small_page_that_keeps_every_spike():
    log = [{"step": n, "loss": 1.0 + n % 3 * 0.01} for n in range(60_000)]
    log[22_222]["loss"], log[44_444]["loss"] = 50.0, -50.0
    page = run.report(RunData("long", log))
    assert len(page) < 100_000
    assert (
        "first 1, least"
        in read(run.report(RunData("x", [{"step": r["step"], "y": r["loss"]} for r in log]))).text
    )
    (path,) = [d for d in re.findall(r' d="(M[^"]*)"', page) if "h0" not in d]
    heights = [float(point.split()[1]) for point in path[1:].split("L")]
    low, high = min(heights), max(heights)
    assert (heights.count(low), heights.count(high)) == (1, 1)
    assert high - low == pytest.approx(1000 * 100 / (ticks(-50, 50)[-1] - ticks(-50, 50)[0]), rel=1e-3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000))
def test_thinning_keeps_ends_and_extremes_in_order(values):
    points = list(enumerate(values))
    kept = thinned(points, 50)
    assert len(kept) <= max(50, 0) or len(points) <= 50
    assert kept[0] == points[0] and kept[-1] == points[-1]
    assert kept == sorted(kept) and set(kept) <= set(points)
    assert {min(values), max(values)} <= {y for _, y in kept}
    assert MOST % 2 == 0


# Axes and charts


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_ticks_enclose_what_is_drawn(a, b):
    low, high = min(a, b), max(a, b)
    marks = ticks(low, high)
    assert 2 <= len(marks) <= 12 and marks == sorted(marks)
    slack = 2e-9 * (marks[-1] - marks[0])
    assert marks[0] <= low + slack and marks[-1] >= high - slack
    assert len(tick_texts(marks)) == len(marks)


def test_ticks_are_round_numbers():
    assert tick_texts(ticks(0.44, 4.19)) == ["0", "1", "2", "3", "4", "5"]
    assert tick_texts(ticks(0, 0.004)) == ["0", "0.001", "0.002", "0.003", "0.004"]
    assert tick_texts(ticks(3.0, 3.0))[0] < tick_texts(ticks(3.0, 3.0))[-1]
    assert [plain(x) for x in (0, 600, 1.5, 0.00008, 12345.678, 1e9)] == [
        "0",
        "600",
        "1.5",
        "8e-5",
        "12,346",
        "1e+9",
    ]
    assert [plain(x) for x in (10**30, math.nan, -math.inf)] == ["1.000e+30", "nan", "-inf"]
    assert [numbers.seconds(x) for x in (0.5, 100.3, 7300.0)] == ["0.5 s", "1 min 40 s", "2 h 1 min 40 s"]
    assert [numbers.bytes_of(x) for x in (12, 605241344)] == ["12 bytes", "577.2 MiB"]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_labels_do_not_cover_one_another(places):
    moved = apart(sorted(places))
    assert all(b - a >= 7.49 for a, b in itertools.pairwise(moved))
    assert max(moved) <= 100


def test_a_chart_has_its_axes_names_and_gate():
    points = [(n, 4.0 / n) for n in range(1, 50)]
    chart = drawing(Chart("Loss", "nats", [Curve("training", points)], [Level("gate: 0.7", 0.5)]))
    text = Read(chart).text
    assert "Loss nats" in text and "step" in text and "gate: 0.7 0.5" in text
    assert 'class="level gate"' in chart and 'preserveAspectRatio="none"' in chart
    assert "training: 49 points, from 4 to 0.08163; gate: 0.7: 0.5" in chart
    far = drawing(Chart("Norm", "", [Curve("a", [(1, 1e-9), (2, 1e9)])]))
    assert "(logarithmic)" in far and ">1e-9<" in far


# What may lie in a run directory


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<p>no policy</p>", "before a policy"),
        ("", "no policy"),
        ("{policy}<script>1</script>", "<script>"),
        ("{policy}<p onclick=x>", "onclick"),
        ("{policy}<a href=' javascript:x'>", "href"),
        ("{policy}<img src=//example.org/x>", "src"),
        ("{policy}<meta http-equiv=refresh content=0>", "refresh"),
        (
            "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src 'unsafe-inline'\">",
            "policy",
        ),
        ("<meta http-equiv=Content-Security-Policy content=\"style-src 'unsafe-inline'\">", "policy"),
        ("<link rel=stylesheet href=x>{policy}", "before a policy"),
    ],
)
def test_a_page_that_runs_or_loads_something_is_refused(page, said):
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    inert_html.check(
        f"{policy}<p>x <a href='https://example.org'>y</a><img src='data:image/png;base64,'>".encode()
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        inert_html.check(page.replace("{policy}", policy).encode())


def test_the_limit_that_a_page_draws_is_the_one_that_the_gate_applies():
    assert run_parts.RATIO_LIMIT == definition.RATIO_LIMIT


def test_an_evaluation_is_a_table_for_each_breakdown():
    scores = {"rows": 3, "ppl": 2.5, "bits_per_byte": 0.75, "exact_match": {"es": 1.0}}
    told = {"splits": {"val": scores}, "by": {"tense": {"<b>past</b>": scores}, "person": {}}}
    found = "".join(map(str, evaluation_parts.breakdown(RunData("x", evaluation=told))))
    assert found.count("<table") == 2 and "0.75" in found and "exact to Spanish" in found
    assert "&lt;b&gt;past" in found and "<b>" not in found
    assert evaluation_parts.breakdown(RunData("x", evaluation={"by": 3, "splits": [1]})) == []
