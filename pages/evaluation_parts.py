"""The part of a page that shows an evaluation: each split, and the validation split by tense and person."""

from collections.abc import Iterator, Mapping
from typing import Any

from pages.markup import Markup, element
from pages.numbers import plain
from pages.page import table
from pages.run_data import RunData, dig, number_at

COLUMNS = (("rows",), ("ppl",), ("bits_per_byte",), ("exact_match", "es"), ("exact_match", "en"))
HEAD = ("rows", "perplexity", "bits per byte", "exact to Spanish", "exact to English")


def breakdown(run: RunData) -> list[Markup]:
    """A table for the splits and one for each breakdown; nothing if the run has no evaluation."""
    by = dig(run.evaluation, "by")
    told = {"split": dig(run.evaluation, "splits"), **(by if isinstance(by, Mapping) else {})}
    return [
        element("div", table([name, *HEAD], list(rows(groups)), range(1, 6)), class_="panel")
        for name, groups in told.items()
        if isinstance(groups, Mapping) and groups
    ]


def rows(groups: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row a group: its name and its numbers, nothing where there is none."""
    for name, scores in groups.items():
        numbers = (number_at(scores, *keys) for keys in COLUMNS)
        yield [str(name), *("" if number is None else plain(number, 4) for number in numbers)]
