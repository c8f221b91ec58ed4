"""How a learning rate is adjusted to the shape of a matrix: the table of the literature."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from geometry.names import unknown_name


@dataclass(frozen=True)
class RateAdjustment:
    """The rate of an m x n matrix is lr * ratio(m, n).

    Attributes:
        name: the name that selects it.
        ratio: of the numbers of rows m (outputs of a layer) and of columns n (inputs).
        source: the paper or text that defines it.
    """

    name: str
    ratio: Callable[[int, int], float]
    source: str


_DECLARED = (
    RateAdjustment(
        "original",
        lambda m, n: math.sqrt(max(1, m / n)),
        "Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon",
    ),
    RateAdjustment(
        "match_rms_adamw",
        lambda m, n: 0.2 * math.sqrt(max(m, n)),
        "Liu et al., Muon is Scalable for LLM Training, arXiv 2502.16982",
    ),
    RateAdjustment(
        "spectral",
        lambda m, n: math.sqrt(m / n),
        "Bernstein and Newhouse, Modular Duality in Deep Learning, arXiv 2410.21265",
    ),
    RateAdjustment(
        "unadjusted",
        lambda m, n: 1.0,
        "the singular values of an update are lr itself: SpecGD, Kang et al., arXiv 2602.06385",
    ),
)

RATE_ADJUSTMENTS: Mapping[str, RateAdjustment] = MappingProxyType({a.name: a for a in _DECLARED})


def rate_adjustment_named(name: str | None) -> RateAdjustment:
    """Look an adjustment up by name; None is "original", as in torch; unknown: a ValueError."""
    try:
        return RATE_ADJUSTMENTS["original" if name is None else name]
    except KeyError:
        raise unknown_name("adjust_lr_fn", name or "", RATE_ADJUSTMENTS) from None
