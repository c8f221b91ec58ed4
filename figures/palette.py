"""Colours, widths and line styles: safe for colour-blind readers, and distinguishable in grey.

Ordered things (modes, step sizes) take steps of viridis, whose lightness rises steadily; the two
flows take Okabe and Ito's blue and vermilion and also differ by line style and marker. So do the
optimisers, each of which looks the same in every figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.colors import to_hex, to_rgb

COLUMN_WIDTH = 3.35  # inches: one column of a two-column paper
FULL_WIDTH = 6.9  # inches: both columns

INK = "#222222"  # predictions, targets, guides
MUTED = "#6b6b6b"  # what a figure only leans on: shaded windows' labels, remarks
CONTRAST = "#a3a3a3"  # a control drawn beside its check
SHADE = "#ececec"  # the measuring window

Dashes = Literal["-", "--", ":", "-."]


@dataclass(frozen=True)
class Ink:
    """How one of a few things that share an axis is drawn."""

    colour: str
    dashes: Dashes
    marker: str


SPECTRAL = Ink("#0072B2", "-", "o")
GRADIENT = Ink("#D55E00", "--", "s")
LORA_MUON = Ink("#0072B2", "-", "o")
SPECTRON = Ink("#D55E00", "--", "s")
FACTOR_MUON = Ink("#009E73", "-.", "^")
LORA_RITE = Ink("#CC79A7", "--", "v")
SIGNS = Ink("#882255", ":", "D")
EXACT_MUON = Ink("#117755", "-", "v")
ADAMW = Ink("#A6561D", "--", "s")
SGD = Ink("#5E3C99", ":", "D")
LORA_MUON_VARIANT = Ink("#5593C4", "--", "d")
PROJECTED = Ink("#332288", "-.", "p")
LORA_RITE_CORE = Ink("#7A4069", ":", ">")
SCALED_GD = Ink("#8A8D00", "-.", "<")
RIEMANN_LORA = Ink("#111111", "-", "P")
RIEMANN_LORA_ADAPTIVE = Ink("#7F7F7F", "--", "X")
RIEMANNION = Ink("#C1121F", "-", "h")
TENSORION = Ink("#332288", "-", "o")
TENSORION_OFFLINE = Ink("#6699CC", ":", "v")
COLUMNS = Ink("#0072B2", "-", "o")
WEIGHTED_COLUMNS = Ink("#D55E00", ":", "s")
GAUSSIAN = Ink("#009E73", "-.", "^")
GAUSSIAN_POWER = Ink("#332288", "-", "D")
WHOLE = Ink("#555555", "-", "o")
CASES = (Ink("#0072B2", "-", "o"), Ink("#D55E00", "--", "s"), Ink("#009E73", "-.", "^"))


def ordered_colours(count: int) -> list[str]:
    """``count`` steps of viridis from dark to light; the yellow end, too light on paper, is cut."""
    if count < 1:
        raise ValueError(f"count must be at least 1; given {count}")
    viridis = matplotlib.colormaps["viridis"]
    span = 0.8
    return [to_hex(viridis(span * step / max(count - 1, 1))) for step in range(count)]


def case(index: int) -> Ink:
    """The ink of the ``index``-th case; past the third, colours return with other markers."""
    ink = CASES[index % len(CASES)]
    lap = index // len(CASES)
    return ink if lap == 0 else Ink(ink.colour, ink.dashes, "Dv<>pP*X"[(index - 3) % 8])


def legible(colour: str) -> str:
    """``colour``, darkened as far as words in it need on white paper, a contrast of 4.5 to 1."""
    red, green, blue = to_rgb(colour)
    shares = np.linspace(1, 0, 51)
    shades = (to_hex((share * red, share * green, share * blue)) for share in shares)
    return next(shade for shade in shades if 1.05 / (luminance(shade) + 0.05) >= 4.5)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2), 0 for black and 1 for white: what is left of it in grey."""
    channels = [int(to_hex(colour)[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    red, green, blue = linear
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
