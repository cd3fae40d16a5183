"""Fewer points that look the same: of each stretch of a curve its smallest and its largest value stay."""

from collections.abc import Sequence

Point = tuple[float, float]

MOST = 600
"""Points that are drawn of a curve; a page is some 1,000 pixels wide."""


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most `most` of the points, in order: first and last, and the two extremes of each of equal stretches.

    A curve of no more points is as it was; so no spike is lost, whatever the length of a log.
    """
    if len(points) <= most:
        return list(points)
    stretches = (most - 2) // 2
    kept = {0, len(points) - 1}
    for number in range(stretches):
        start, end = (len(points) * part // stretches for part in (number, number + 1))
        stretch = range(start, end)
        kept.add(min(stretch, key=lambda i: points[i][1]))
        kept.add(max(stretch, key=lambda i: points[i][1]))
    return [points[i] for i in sorted(kept)]
