"""Numbers as people read them."""

import math
from typing import Any, TypeGuard

LARGEST = 1e300
"""Beyond this, either way, a number is shown and not drawn."""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_drawn(value: Any) -> TypeGuard[float]:
    """Whether it is a number that has a place on an axis."""
    return is_number(value) and -LARGEST < value < LARGEST  # false for NaN


def plain(value: Any, digits: int = 4) -> str:
    """A number in few digits: whole numbers whole, others with `digits` significant ones."""
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else f"{_scientific(value)}"
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        decimals = digits - 1 - (math.floor(math.log10(abs(value))) if value else 0)
        text = f"{value:,.{max(decimals, 0)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent):+d}"


def _scientific(value: int) -> str:
    text = str(value) if abs(value) < 10**400 else "1" + "0" * 400
    sign = "-" if value < 0 else ""
    text = text.lstrip("-")
    return f"{sign}{text[0]}.{text[1:4]}e+{len(text) - 1}"


def bytes_of(value: float) -> str:
    """An amount of memory, in binary units."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1024
    raise AssertionError


def seconds(value: float) -> str:
    """A time that something took."""
    if not math.isfinite(value):
        return str(value)
    if value < 100:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, that enclose both; two or more."""
    if not high - low > 1e-12 * max(abs(low), abs(high), 1e-280):
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 5) if m * power >= raw * 0.999), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_texts(values: list[float]) -> list[str]:
    """Labels of an axis, all in one form."""
    step, largest = abs(values[1] - values[0]), max(map(abs, values))
    if largest >= 1e6 or step < 1e-4:
        return ["0" if v == 0 else f"{v:.3g}".replace("e-0", "e-").replace("e+0", "e+") for v in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{v:,.{decimals}f}" if v else "0" for v in values]
