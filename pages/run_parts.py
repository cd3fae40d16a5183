"""The parts of a page that show a run: curves, drift, samples, results and cost, manifest."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pages.chart import Chart, Curve, Level, drawing
from pages.markup import Child, Markup, element
from pages.numbers import bytes_of, is_drawn, is_number, plain, seconds
from pages.page import facts, folded, listed, table
from pages.run_data import RunData, dig, entries, flat, number_at

RATIO_LIMIT = 0.7
"""Share of the strongest n-gram's perplexity that the gate allows."""
LOSSES = (("loss", "training"), ("val_loss", "validation"))
KNOWN = {
    "lr": ("Learning rate", "that the update used"),
    "grad_norm": ("Gradient norm", "global, before clipping"),
    "tokens_per_second": ("Tokens a second", "predicted tokens; higher is better"),
    "tokens": ("Tokens of the update", "predicted tokens"),
    "total_tokens": ("Tokens so far", "predicted tokens"),
    "epoch": ("Epoch", "passes over the training rows"),
    "seconds": ("Time", "seconds since the run began"),
}
"""Number of a log line -> title and unit; any other is a chart under its own name."""
NO_CHART = frozenset({"loss", "val_loss", "ppl", "val_ppl", "best_val_loss", "best_step"})
"""What the chart of the losses tells already."""
MOST_CHARTS = 24
FORMS = ("●", "◆", "▲", "■")
TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(?:\.\d+)?(?:Z|\+00:00)", re.ASCII)
BOLD = ("ratio", "perplexity.val.ppl")


def text(value: Any) -> str | None:
    """A value in words, on one line."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        return plain(value, 6)
    if isinstance(value, list | tuple):
        return ", ".join(str(text(inner)) for inner in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(inner)}" for key, inner in value.items()) or "none"
    return str(value)


def exact(value: Any) -> str | None:
    """A value in words, numbers in all of their digits: seeds and settings are copied from here."""
    if is_number(value):
        return repr(value) if not isinstance(value, int) or abs(value) < 10**40 else plain(value)
    if isinstance(value, list | tuple):
        return ", ".join(str(exact(inner)) for inner in value) or "none"
    return text(value)


def commit(manifest: Mapping[str, Any]) -> str | None:
    """The commit that the run was started from, and whether anything differed from it."""
    sha = dig(manifest, "git", "sha")
    if not isinstance(sha, str):
        return None
    return sha[:12] + (" with changes" if dig(manifest, "git", "dirty") is True else "")


def machine(manifest: Mapping[str, Any]) -> str | None:
    """The machine of the run: what its manifest says, under `platform` or at the top."""
    told = dig(manifest, "platform") or manifest
    names = ("processor", "cpu_model", "os", "python")
    found = [value for name in names if isinstance(value := dig(told, name), str) and value]
    return ", ".join(found) or None


def when(value: Any) -> str | None:
    """A time to the minute, where it is written as ISO 8601 in UTC; else as it is written."""
    if not isinstance(value, str):
        return text(value)
    match = TIME.fullmatch(value)
    return f"{match[1]} {match[2]} UTC" if match else value


# Curves


def loss(run: RunData) -> Markup:
    """Losses with the n-gram's and the gate's lines, wherever the run has them."""
    curves = [Curve(name, run.points(key), dots=key == "val_loss") for key, name in LOSSES]
    told = [curve.name for curve in curves if curve.points]
    title = f"{told[0].capitalize()} loss" if len(told) == 1 else "Loss"
    shown = drawing(Chart(title, "nats a token; lower is better", curves, list(_levels(run.results))))
    return element("div", shown, class_="wide")


def _levels(results: Mapping[str, Any]) -> Iterator[Level]:
    perplexity, n = (
        number_at(results, "strongest_baseline", "val", "ppl"),
        dig(results, "strongest_baseline", "n"),
    )
    if perplexity is None or not is_drawn(perplexity) or perplexity <= 0:
        return
    yield Level(f"{plain(n)}-gram" if is_number(n) else "n-gram", math.log(perplexity))
    yield Level(f"gate: {RATIO_LIMIT} x its perplexity", math.log(RATIO_LIMIT * perplexity))


def curves(run: RunData) -> Iterator[Markup]:
    """Every number of the log: losses in one chart, each of the others in one of its own."""
    yield loss(run)
    names = [name for name in run.numeric() if name not in NO_CHART]
    names.sort(key=lambda name: list(KNOWN).index(name) if name in KNOWN else len(KNOWN))
    charts = [_chart(name, run.points(name)) for name in names]
    if (rate := list(tokens_a_second(run))) and "tokens_per_second" not in names:
        charts.insert(2, _chart("tokens_per_second", rate))
    yield element("div", *charts[:MOST_CHARTS], class_="charts")
    if left := names[MOST_CHARTS:]:
        yield element("p", f"{len(left):,} more numbers of the log are not drawn.", class_="muted")


def _chart(name: str, points: Sequence[tuple[float, float]]) -> Markup:
    title, unit = KNOWN.get(name, (name, ""))
    return drawing(Chart(title, unit, [Curve(title, points, dots=True)], from_zero=True))


def tokens_a_second(run: RunData) -> Iterator[tuple[float, float]]:
    """(step, tokens of the update / seconds since the line before), where the log has both."""
    before: float | None = None
    for number, line in enumerate(run.log, 1):
        now, tokens = line.get("seconds"), line.get("tokens")
        if before is not None and is_drawn(now) and is_drawn(tokens) and now > before:
            yield (line["step"] if is_number(line.get("step")) else number), tokens / (now - before)
        before = now if is_drawn(now) else None


# Drift


def drift(run: RunData) -> Markup | None:
    """Relative error of each layer, by format: numbers, and dots on a logarithmic scale."""
    formats = (
        {
            name: dict(dig(told, "relative_error") or {})
            for name, told in (dig(run.drift, "formats") or {}).items()
            if isinstance(dig(told, "relative_error"), Mapping)
        }
        if isinstance(dig(run.drift, "formats"), Mapping)
        else {}
    )
    if not formats:
        return None
    layers = list(dict.fromkeys(layer for errors in formats.values() for layer in errors))
    shown = [e for errors in formats.values() for e in errors.values() if is_drawn(e) and e > 0]
    low, high = (math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))) if shown else (0, 1)
    span = max(high - low, 1)
    rows = [
        [
            layer,
            *(_figure(errors.get(layer)) for errors in formats.values()),
            _dots(layer, formats, low, span),
        ]
        for layer in layers
    ]
    marks = [f"{form} {name}" for name, form in zip(formats, FORMS, strict=False)]
    head = ["layer", *marks, f"1e{low} to 1e{low + span}, logarithmic"]
    flips = [
        f"{name} {plain(told['argmax_flips'])}"
        for name, told in run.drift["formats"].items()
        if is_number(dig(told, "argmax_flips"))
    ]
    said = "Relative error of each layer's output; lower is better. "
    said += str(dig(run.drift, "rounded") or "")
    positions = number_at(run.drift, "positions")
    if flips and positions is not None:
        said += f" The most likely next token changes at {', '.join(flips)} of {plain(positions)} positions."
    numbers = range(1, len(formats) + 1)
    return element("div", element("p", said), table(head, rows, numbers), class_="panel")


def _figure(value: Any) -> str:
    return f"{value:.2e}" if is_number(value) and is_drawn(value) else str(text(value) or "")


def _dots(layer: str, formats: Mapping[str, Mapping[str, Any]], low: int, span: int) -> Markup:
    placed = []
    for number, (errors, form) in enumerate(zip(formats.values(), FORMS, strict=False), 1):
        value = errors.get(layer)
        if is_drawn(value) and value > 0:
            at = 100 * (math.log10(value) - low) / span
            placed.append(element("span", form, style=f"left:{at:.1f}%;", class_=f"c{number}"))
    return element("div", *placed, class_="dotplot", aria_hidden="true")


# Samples, results, manifest


def samples(run: RunData) -> Markup:
    """What the model makes of some inputs, beside what the data says."""
    rows = []
    for sample in run.samples:
        if not isinstance(sample, Mapping):
            continue
        said, expected = text(sample.get("said")) or "", text(sample.get("expected")) or ""
        right = (
            element("span", "✓ as the data", class_="ok")
            if said == expected
            else element("span", "✗ other", class_="bad")
        )
        rows.append([text(sample.get("source")) or "", said, expected, right])
    return element("div", table(["given", "the model says", "the data says", ""], rows), class_="panel")


def results(run: RunData) -> Iterator[Markup]:
    """Every final number a row: those that say what it cost first; the n-grams folded."""
    rows = [
        (name, value)
        for name, value in flat(run.results, without=("baselines", "schema"))
        if value is not None
    ]
    cost = [(name, value) for name, value in rows if _is_cost(name)]
    if cost:
        yield element("h3", "Cost")
        yield _facts(cost)
    others = [(name, value) for name, value in rows if not _is_cost(name)]
    yield element("h3", "Results")
    yield _facts(others)
    tables = entries(dig(run.results, "baselines"))
    if tables:
        heads = ["n-gram", "order", "parameter", "perplexity on validation"]
        lines = [
            [
                *(text(entry.get(key)) for key in ("kind", "n", "parameter")),
                text(number_at(entry, "val", "ppl")),
            ]
            for entry in tables
        ]
        yield element("div", folded(f"{len(tables)} n-grams", table(heads, lines, (1, 2, 3))), class_="panel")


def _is_cost(name: str) -> bool:
    words = ("second", "bytes", "flop", "wall", "memory", "energy", "joule", "watt")
    return any(word in name.lower() for word in words)


def _facts(rows: Sequence[tuple[str, Any]]) -> Markup:
    return element("div", listed((name, _amount(name, value)) for name, value in rows), class_="panel")


def _amount(name: str, value: Any) -> Child:
    """A value with its unit, as its name tells it."""
    if not is_number(value) or not is_drawn(value):
        return text(value)
    if name.endswith("_bytes"):
        return f"{bytes_of(value)} ({plain(value)})"
    if name.endswith("seconds"):
        return f"{seconds(value)} ({plain(value, 6)})"
    return element("strong", plain(value, 6)) if name in BOLD else plain(value, 6)


def manifest(run: RunData) -> Iterator[Markup]:
    """Seeds, hashes, settings, machine, a row each; packages folded."""
    told = run.manifest
    rows = [(name, exact(value)) for name, value in flat({k: v for k, v in told.items() if k != "packages"})]
    settings = [(name, value) for name, value in rows if name.startswith("config.")]
    others = [(name, value) for name, value in rows if not name.startswith("config.")]
    yield element("div", listed(others), class_="panel")
    if settings:
        short = [(name.removeprefix("config."), value) for name, value in settings]
        yield element("div", folded(f"{len(settings)} settings", facts(short)), class_="panel")
    packages = dig(told, "packages")
    if isinstance(packages, Mapping) and packages:
        shown = facts((name, text(version)) for name, version in packages.items())
        yield element("div", folded(f"{len(packages)} packages with their versions", shown), class_="panel")
