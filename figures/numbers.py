"""Numbers, bounds and margins as people write them."""

from __future__ import annotations

import math
from datetime import datetime

from markupsafe import Markup

from claims.registry import Measurement


def number(value: float, digits: int = 4) -> Markup:
    """``5.8 x 10^-3`` in HTML; plain where that is shorter; a word where there is no number."""
    if math.isnan(value):
        return Markup("not a number")
    if math.isinf(value):
        return Markup("∞" if value > 0 else "\u2212∞")
    plain = f"{value:.{digits}g}"
    mantissa, _, exponent = plain.partition("e")
    if not exponent and 0 < abs(value) < 0.001:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
    mantissa = mantissa.replace("-", "\u2212")
    if not exponent:
        return Markup(mantissa)
    power = f"10<sup>{int(exponent)}</sup>".replace("-", "\u2212")
    times = {"1": "", "\u22121": "\u2212"}.get(mantissa, f"{mantissa}\u202f\u00d7\u202f")
    return Markup(times + power)


def bound(measurement: Measurement) -> Markup:
    """``≤ 10^-9``, ``≥ 0``, ``in [1.7, 2.3]``."""
    if isinstance(measurement.bound, tuple):
        lowest, highest = (number(edge) for edge in measurement.bound)
        return Markup("in [{}, {}]").format(lowest, highest)
    sign = "≤" if measurement.relation == "<=" else "≥"
    return Markup("{} {}").format(sign, number(measurement.bound))


def margin(measurement: Measurement) -> Markup:
    """The room to the bound, as a share of it: ``41% left``, ``missed by 3.2x the bound``."""
    left = measurement.margin
    if measurement.holds:
        if left == 0:
            return Markup("exactly at the bound")
        if left >= 2:
            return Markup("{}\u00d7 the bound left").format(_times(left))
        if 0.99 < left < 1:
            return Markup("&gt;\u202f99% left")
        return Markup(f"{number(100 * left, 3 if left >= 1 else 2)}% left")
    if left == -math.inf:
        return Markup("missed")
    if left > -1:
        return Markup(f"missed by {number(-100 * left, 2)}%")
    whole = "half the band" if isinstance(measurement.bound, tuple) else "the bound"
    return Markup("missed by {}\u00d7 {}").format(_times(-left), whole)


def _times(factor: float) -> Markup:
    whole_digits = len(str(int(factor))) if factor < 10_000 else 2
    return number(factor, max(2, whole_digits))


def share_left(measurement: Measurement) -> float:
    """The margin as the filled share of a bar, from 0 to 100."""
    if not measurement.holds:
        return 0.0
    return 100 * min(max(measurement.margin, 0.0), 1.0)


def duration(seconds: float) -> str:
    """``0.34 s``, ``12 s``, ``3 min 20 s``."""
    seconds = float(seconds)
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def moment(iso: str) -> str:
    """``2026-03-01 09:30 UTC`` from an ISO date; what is not one stays as it was recorded."""
    try:
        return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M %Z}".rstrip()
    except ValueError:
        return iso
