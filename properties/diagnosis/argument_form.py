"""Loops that take the number of micro-batches of an update as a setting, called and recorded as if it were an argument.

The oracle, and every known mistake, has train(micro_batches, accumulate); a subject may declare
`accumulate = "setting"`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from honestloop.guard import Call

NAME = "accumulate"


def takes_argument(make: Callable[..., Any], accumulate: int) -> Callable[..., Any]:
    """A maker of such loops, whose `train` takes the number and leaves it to the setting, which is the same."""
    return lambda params, settings: _WithArgument(make(params, {**settings, NAME: accumulate}))


class _WithArgument:
    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def train(self, micro_batches: Any, accumulate: int) -> Any:
        return self._loop.train(micro_batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def in_argument_form(calls: Sequence[Call]) -> list[Call]:
    """The calls with the number where the oracle takes it; those of other functions as they are."""
    numbers: dict[int | None, int] = {}
    return [_moved(call, numbers) if call.function == "trainer" else call for call in calls]


def _moved(call: Call, numbers: dict[int | None, int]) -> Call:
    """The call; `numbers` keeps what each loop was made with."""
    if call.method is None and len(call.args) == 2 and NAME in call.args[1]:
        settings = dict(call.args[1])
        numbers[call.target] = settings.pop(NAME)
        return replace(call, args=(call.args[0], settings))
    if call.method == "train" and call.target in numbers and len(call.args) == 1:
        return replace(call, args=(call.args[0], numbers[call.target]))
    return call
