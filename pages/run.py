"""report.html: what became of one run, from its files."""

from collections.abc import Iterator

from pages import evaluation_parts, run_parts
from pages.limits import trimmed
from pages.markup import Child, Markup, element
from pages.numbers import bytes_of, plain, seconds
from pages.page import Section, document, facts, within
from pages.run_data import RunData, dig, number_at

LIMIT = 2_000_000
"""Bytes of a page."""


def report(run: RunData) -> str:
    """The page of a run, at most LIMIT bytes."""
    return within(LIMIT, lambda characters, items: _page(_short(run, characters, items)))


def _short(run: RunData, characters: int, items: int) -> RunData:
    """The same run with what was written by others cut to size; of the log every line is kept, and drawn."""
    kept = {
        name: trimmed(getattr(run, name), characters, items)
        for name in ("name", "results", "manifest", "drift", "samples", "evaluation", "absent")
    }
    return RunData(log=run.log, **kept)


def _page(run: RunData) -> str:
    footer = element(
        "p",
        "Drawn from the files of the run directory and from nothing else. What a run says of itself is judged by "
        "`honestloop grade`; this page only shows it.",
    )
    return document(f"{run.name}: report of a run", _header(run), _sections(run), footer)


def _header(run: RunData) -> Child:
    return [
        element("p", "honestloop: report of a run", class_="kicker"),
        element("h1", run.name),
        element("p", _sentence(run), class_="lead"),
        facts(_facts(run)),
        _absent(run),
    ]


def _sentence(run: RunData) -> str:
    """The outcome in one sentence."""
    ratio, perplexity = number_at(run.results, "ratio"), number_at(run.results, "perplexity", "val", "ppl")
    last = run.points("val_loss")
    if ratio is not None and perplexity is not None:
        return (
            f"Validation perplexity {plain(perplexity)}, {plain(ratio, 3)} times that of the strongest n-gram "
            f"(a gate wants at most {run_parts.RATIO_LIMIT})."
        )
    if last:
        return f"Validation loss {plain(last[-1][1])} nats a token at step {plain(last[-1][0])}."
    if losses := run.points("loss"):
        return f"Training loss {plain(losses[-1][1])} nats a token at step {plain(losses[-1][0])}."
    return "Nothing was logged."


def _facts(run: RunData) -> Iterator[tuple[str, Child]]:
    """What is asked first of a run."""
    results, manifest = run.results, run.manifest
    steps = number_at(results, "steps")
    yield "updates", plain(steps) if steps is not None else f"{len(run.log):,} lines of the log"
    yield "commit", run_parts.commit(manifest)
    yield "began", run_parts.when(dig(manifest, "started_at"))
    yield "machine", run_parts.machine(manifest)
    for key, name, form in (
        ("wall_seconds", "wall time", seconds),
        ("tokens_per_second", "tokens a second", plain),
        ("peak_memory_bytes", "peak memory", bytes_of),
    ):
        if (value := number_at(results, key)) is not None:
            yield name, form(value)


def _absent(run: RunData) -> Markup | None:
    if not run.absent:
        return None
    lines = [element("li", line) for line in run.absent]
    return element(
        "div", element("p", "Not shown:"), element("ul", *lines, class_="plain"), class_="panel caution small"
    )


def _sections(run: RunData) -> Iterator[Section]:
    yield Section("curves", "Curves", *run_parts.curves(run))
    if drift := run_parts.drift(run):
        yield Section("drift", "Drift", drift)
    if run.samples:
        yield Section("samples", "Samples", run_parts.samples(run))
    if breakdown := evaluation_parts.breakdown(run):
        yield Section("evaluation", "Evaluation", *breakdown)
    if run.results:
        yield Section("results", "Results and cost", *run_parts.results(run))
    if run.manifest:
        yield Section("manifest", "Manifest", *run_parts.manifest(run))
