"""Line charts: the curves as inline SVG that stretches with the page, every word and number as text beside it.

The drawing fills its box whatever its width (`preserveAspectRatio="none"`, strokes that do not scale); labels are
placed in per cent of the same box, so they stay legible where the page is narrow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pages.markup import Markup, element
from pages.numbers import is_drawn, plain, tick_texts, ticks
from pages.thinning import Point, thinned

COLOURS = 4
"""Of curves, `.c1` to `.c4` in the style sheet; each has a dash of its own as well."""
SIDE = 1000
"""Of the square that is drawn in, before it is stretched."""
LABEL = 7.5
"""Least distance of two labels beside one another, in per cent of the height."""
MOST_DOTS = 30
LOGARITHMIC = 1000.0
"""Largest value over smallest, beyond which an axis of positive values is logarithmic."""


@dataclass(frozen=True)
class Curve:
    """Points in the order of x; those that are not finite are counted, not drawn."""

    name: str
    points: Sequence[Point]
    dots: bool = False
    """Whether each point is marked, as where a value was measured now and then."""

    @cached_property
    def drawn(self) -> list[Point]:
        return [point for point in self.points if is_drawn(point[0]) and is_drawn(point[1])]


@dataclass(frozen=True)
class Level:
    """A horizontal line that curves are held against."""

    name: str
    value: float


@dataclass(frozen=True)
class Chart:
    """What is drawn; `unit` says what the vertical axis counts and which way is good."""

    title: str
    unit: str
    curves: Sequence[Curve]
    levels: Sequence[Level] = ()
    x_name: str = "step"
    from_zero: bool = False


@dataclass(frozen=True)
class Axis:
    """Values to per cent of the length of an axis, from its low end."""

    values: list[float]
    logarithmic: bool = False
    texts: list[str] = field(default_factory=list)

    def place(self, value: float) -> float:
        low, high = self._at(self.values[0]), self._at(self.values[-1])
        if high == low:
            return 50.0
        return 100.0 * ((self._at(value) - low) / (high - low))

    def _at(self, value: float) -> float:
        # Divided first: the difference of two values of 1e300 is finite, but four of them are not.
        return math.log10(value) if self.logarithmic else value / 4.0


def drawing(chart: Chart) -> Markup:
    """A figure with caption, axes, curves and their names; a sentence where there is nothing to draw."""
    curves = [curve for curve in chart.curves if curve.drawn]
    lost = _not_finite(chart.curves)
    caption = element(
        "figcaption",
        element("strong", chart.title),
        " ",
        element("span", chart.unit, class_="unit"),
    )
    if not curves:
        nothing = element("p", lost or "nothing of this was logged", class_="nothing")
        return element("figure", caption, nothing, class_="chart")
    levels = [level for level in chart.levels if is_drawn(level.value)]
    across = _linear([x for curve in curves for x, _ in curve.drawn], whole=True)
    heights = [y for curve in curves for _, y in curve.drawn] + [level.value for level in levels]
    up = _axis(heights, chart.from_zero)
    named = len(curves) + len(levels) > 1
    unit = " (logarithmic)" if up.logarithmic else ""
    svg = element(
        "svg",
        element("g", *(_ruled(up.place(v)) for v in up.values), class_="rules"),
        *(_level(level, up) for level in levels),
        *(_curve(curve, number, across, up) for number, curve in enumerate(curves)),
        viewBox=f"0 0 {SIDE} {SIDE}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{chart.title}, {chart.unit}{unit}: " + "; ".join(_in_words(curves, levels)),
    )
    plot = element(
        "div",
        element("div", _ticks(up, "top"), class_="ys", aria_hidden="true"),
        element("div", svg, class_="area"),
        _ends(curves, levels, up) if named else None,
        element("div", _ticks(across, "left"), class_="xs", aria_hidden="true"),
        element("div", chart.x_name, class_="xname", aria_hidden="true"),
        class_="plot named" if named else "plot",
    )
    key = element("ul", *_key(curves, levels), class_="key") if named else None
    foot = element("p", " ".join(filter(None, [_last(curves[0]) if not named else "", lost])), class_="foot")
    return element("figure", caption, key, plot, foot, class_="chart")


def _linear(values: Sequence[float], *, whole: bool = False) -> Axis:
    """An axis of round numbers; `whole`: from the first to the last value, as of steps."""
    low, high = min(values), max(values)
    marks = ticks(low, high)
    if whole and high > low:
        inside = [v for v in marks if low < v < high]
        near = (high - low) / 12
        marks = [low, *(v for v in inside if v - low > near and high - v > near), high]
        return Axis(marks, texts=[plain(int(v) if v == int(v) else v) for v in marks])
    return Axis(marks, texts=tick_texts(marks))


def _axis(values: Sequence[float], from_zero: bool) -> Axis:
    """The vertical axis: logarithmic where values are positive and far apart, in whole powers of ten."""
    low, high = min(values), max(values)
    if low > 0 and high / low > LOGARITHMIC:
        first, last = math.floor(math.log10(low) + 1e-12), math.ceil(math.log10(high) - 1e-12)
        stride = max(1, math.ceil((last - first) / 6))
        powers = range(first, last + stride, stride)
        return Axis([10.0**p for p in powers if p <= 308], True, [f"1e{p}" for p in powers if p <= 308])
    return _linear([*values, 0.0] if from_zero and low > 0 else values)


def _ruled(height: float) -> Markup:
    y = _y(height)
    return element("line", x1="0", x2=str(SIDE), y1=y, y2=y, vector_effect="non-scaling-stroke")


def _level(level: Level, up: Axis) -> Markup:
    y = _y(up.place(level.value))
    return element(
        "line",
        x1="0",
        x2=str(SIDE),
        y1=y,
        y2=y,
        vector_effect="non-scaling-stroke",
        class_=f"level {_kind(level)}",
    )


def _kind(level: Level) -> str:
    return "gate" if level.name.startswith("gate") else "baseline"


def _curve(curve: Curve, number: int, across: Axis, up: Axis) -> Markup:
    points = [(_x(across.place(x)), _y(up.place(y))) for x, y in thinned(curve.drawn)]
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    line = element("path", d=path, vector_effect="non-scaling-stroke")
    # A line of no length with round ends is a dot, and stays one when the drawing is stretched.
    marked = (curve.dots and len(points) <= MOST_DOTS) or len(points) == 1
    dots = "".join(f"M{x} {y}h0" for x, y in points) if marked else ""
    marks = element("path", d=dots, vector_effect="non-scaling-stroke", class_="dots") if dots else None
    return element("g", line, marks, class_=_colour(number))


def _colour(number: int) -> str:
    return f"c{number % COLOURS + 1}"


def _x(place: float) -> str:
    return f"{place * SIDE / 100:.1f}".removesuffix(".0")


def _y(place: float) -> str:
    return f"{(100 - place) * SIDE / 100:.1f}".removesuffix(".0")


def _ticks(axis: Axis, side: str) -> list[Markup]:
    """Labels of an axis; the widest once more, unseen, so that the column is as wide."""
    at = [axis.place(v) for v in axis.values]
    if side == "top":
        labels = [
            element("span", text, style=f"top:{100 - place:.2f}%;")
            for place, text in zip(at, axis.texts, strict=True)
        ]
        return [*labels, element("span", max(axis.texts, key=len), class_="widest")]
    return [
        element("span", text, style=f"left:{place:.2f}%;", class_=_edge(place))
        for place, text in zip(at, axis.texts, strict=True)
    ]


def _edge(place: float) -> str | None:
    return "first" if place < 1 else "last" if place > 99 else None


def _ends(curves: Sequence[Curve], levels: Sequence[Level], up: Axis) -> Markup:
    """The names beside the ends of the curves, moved apart where they would cover one another."""
    labels = [
        (up.place(curve.drawn[-1][1]), curve.name, plain(curve.drawn[-1][1]), _colour(number))
        for number, curve in enumerate(curves)
    ]
    labels += [(up.place(level.value), level.name, plain(level.value), _kind(level)) for level in levels]
    labels.sort(key=lambda label: -label[0])
    tops = apart([100 - label[0] for label in labels])
    spans = [
        element("span", name, " ", element("strong", value), class_=colour, style=f"top:{top:.2f}%;")
        for top, (_, name, value, colour) in zip(tops, labels, strict=True)
    ]
    widest = max((f"{name} {value}" for _, name, value, _ in labels), key=len)
    return element("div", spans, element("span", widest, class_="widest"), class_="ends", aria_hidden="true")


def apart(places: Sequence[float], distance: float = LABEL) -> list[float]:
    """Rising places in 0..100, moved as little as need be so that neighbours are `distance` apart, and stay inside."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + distance) if moved else place)
    limit = 100.0
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - distance
    return moved


def _key(curves: Sequence[Curve], levels: Sequence[Level]) -> list[Markup]:
    """The names again, as a list, for pages too narrow to have them beside the curves."""
    items = [(curve.name, curve.drawn[-1][1], _colour(number)) for number, curve in enumerate(curves)]
    items += [(level.name, level.value, _kind(level)) for level in levels]
    return [
        element("li", name, " ", element("strong", plain(value)), class_=colour)
        for name, value, colour in items
    ]


def _in_words(curves: Sequence[Curve], levels: Sequence[Level]) -> list[str]:
    said = [
        f"{curve.name}: {len(curve.drawn):,} points, from {plain(curve.drawn[0][1])} to {plain(curve.drawn[-1][1])}"
        for curve in curves
    ]
    return said + [f"{level.name}: {plain(level.value)}" for level in levels]


def _last(curve: Curve) -> str:
    """First, smallest, largest and last value of a curve."""
    values = [y for _, y in curve.drawn]
    if len(values) == 1:
        return f"one value: {plain(values[0])}."
    return f"first {plain(values[0])}, least {plain(min(values))}, most {plain(max(values))}, last {plain(values[-1])}."


def _not_finite(curves: Sequence[Curve]) -> str:
    """Where values have no place on the axis."""
    lost = [(x, curve.name) for curve in curves for x, y in curve.points if not (is_drawn(x) and is_drawn(y))]
    if not lost:
        return ""
    first = ", ".join(f"{name} at {plain(x)}" for x, name in lost[:3])
    many = "values are" if len(lost) > 1 else "value is"
    return f"{len(lost):,} {many} not finite and not drawn: {first}{', ...' * (len(lost) > 3)}."
