"""The few marks that all figures share: panels, seeds under a median, labels, guides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from figures.palette import FULL_WIDTH, INK, Ink, legible

Array = NDArray[Any]


def panels(
    columns: int,
    width: float = FULL_WIDTH,
    height: float = 2.5,
    share_y: bool = False,
    ratios: Sequence[float] | None = None,
) -> tuple[Drawing, list[Axes]]:
    """A drawing ``width`` x ``height`` inches with ``columns`` axes side by side."""
    drawing = Drawing(figsize=(width, height))
    grid = drawing.subplots(1, columns, squeeze=False, sharey=share_y, width_ratios=ratios)
    return drawing, list(grid[0])


def halo(width: float = 2.0) -> list[matplotlib.patheffects.AbstractPathEffect]:
    """A white outline, so that a label stays readable across lines."""
    return [matplotlib.patheffects.withStroke(linewidth=width, foreground="white")]


def seeds_and_median(
    axes: Axes, times: Array, values: Array, colour: str, label: str, dashes: str = "-"
) -> None:
    """Every seed of ``values`` (S, T) thin, their median bold. A time some seed lacks has none."""
    for seed in values:
        axes.plot(
            times, seed, color=colour, linewidth=0.5, alpha=0.3, linestyle=dashes, label="_seed"
        )
    axes.plot(times, np.median(values, axis=0), color=colour, linestyle=dashes, label=label)


def median_arrival(arrivals: Array) -> Array:
    """Medians over seeds (S, k) -> (k,); a mode that did not arrive counts as infinitely late."""
    return np.median(np.where(np.isnan(arrivals), np.inf, arrivals), axis=0)


def spread_apart(
    positions: Sequence[float], gap: float, within: tuple[float, float] = (-math.inf, math.inf)
) -> list[float]:
    """The nearest positions, in the same order, that are at least ``gap`` apart.

    None is pushed out of ``within``, unless there are too many for it: then they go on past its
    upper end.
    """
    order = np.argsort(positions, kind="stable")
    # Blocks of labels that touch move as one, centred on what they belong to.
    blocks: list[list[float]] = []
    for index in order:
        blocks.append([float(positions[index])])
        while len(blocks) > 1 and _apart(blocks[-2], blocks[-1], gap, within) < gap:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    placed = [
        _low(block, gap, within) + gap * step for block in blocks for step in range(len(block))
    ]
    result = [0.0] * len(placed)
    for index, position in zip(order, placed, strict=True):
        result[int(index)] = position
    return result


def _low(block: list[float], gap: float, within: tuple[float, float]) -> float:
    length = gap * (len(block) - 1)
    centred = sum(block) / len(block) - length / 2
    return max(within[0], min(centred, within[1] - length))


def _apart(
    below: list[float], above: list[float], gap: float, within: tuple[float, float]
) -> float:
    return _low(above, gap, within) - _low(below, gap, within) - gap * (len(below) - 1)


def label_right(
    axes: Axes, heights: Sequence[float] | Array, texts: Sequence[str], colours: Sequence[str]
) -> None:
    """Labels just outside the right edge, at ``heights`` in data units, moved apart if they touch.

    All of them stay beside the panel. Call it last: it freezes the y limits that it measures.
    """
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    edge = axes.get_xlim()[1]
    transform = axes.transScale + axes.transLimits
    shares = [float(transform.transform((edge, height))[1]) for height in heights]
    for share, text, colour in zip(
        spread_apart(shares, 0.065, (0.0, 1.0)), texts, colours, strict=True
    ):
        axes.annotate(
            text, (1.0, share), xycoords="axes fraction", xytext=(3, 0),
            textcoords="offset points", va="center", ha="left", color=legible(colour),
            fontsize=8.5, linespacing=0.85,
        )  # fmt: skip


def guide(axes: Axes, x: Array, y: Array, label: str) -> None:
    """A prediction: thin, dark and broken, behind the marks and in front of the lines."""
    axes.plot(x, y, color=INK, linewidth=0.9, linestyle="--", label=label, zorder=2.5)


def seed_points(axes: Axes, positions: Array, values: Array, ink: Ink) -> None:
    """Every seed of ``values`` (N, S) as a point over its position, and the median as a bar."""
    for position, seeds in zip(positions, values, strict=True):
        axes.plot(
            np.full(len(seeds), position), seeds, ink.marker, markersize=3.4, alpha=0.45,
            color=ink.colour, markeredgewidth=0, label="seeds", zorder=3,
        )  # fmt: skip
    axes.plot(
        positions, np.median(values, axis=1), "_", markersize=12, markeredgewidth=1.5,
        color=ink.colour, label="median", zorder=3,
    )  # fmt: skip


def members(
    axes: Axes, positions: Array, values: Array, ink: Ink, label: str, size: float = 3.4
) -> None:
    """Every member of ``values`` (N, S) as a point over its position; a line through the medians.

    A zero, which a logarithmic axis has no place for, is left out.
    """
    shown = np.where(values == 0, np.nan, values)
    alpha = min(0.45, max(0.12, 8 / values.shape[1]))  # many members still show where most are
    for position, row in zip(positions, shown, strict=True):
        axes.plot(
            np.full(len(row), position), row, ink.marker, markersize=size, alpha=alpha,
            color=ink.colour, markeredgewidth=0, label=f"{label} members", zorder=3,
        )  # fmt: skip
    axes.plot(
        positions, np.median(shown, axis=1), color=ink.colour, linestyle=ink.dashes,
        linewidth=size / 3.1, label=label, zorder=3,
    )  # fmt: skip


def plain_log_ticks(axis: Axis, ticks: Array, at_most: int = 4) -> None:
    """Plain numbers at some of ``ticks``; matplotlib's own choice collides on short log axes."""
    every = -(-len(ticks) // at_most)
    axis.set_major_locator(FixedLocator(list(np.sort(ticks)[::-every][::-1])))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def one_two_five(low: float, high: float) -> Array:
    """The numbers 1, 2 and 5 times a power of ten between ``low`` and ``high``."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    numbers = np.sort(np.outer(powers, (1, 2, 5)).ravel())
    return numbers[(numbers >= low) & (numbers <= high)]


def slope_text(slope: float, interval: Array) -> str:
    """``slope 1.98 [1.95, 2.01]``: a fit is never stated without its interval."""
    digits = _digits(interval)
    return f"slope {slope:.{digits}f}  [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def short_slope(slope: float, interval: Array) -> str:
    """``−0.18(2)`` where the farther end of ``interval`` is 0.02 away, for labels without room."""
    digits = _digits(interval)
    away = float(np.max(np.abs(interval - slope)))
    # Adding zero leaves no negative zero.
    shown = f"{round(slope, digits) + 0.0:.{digits}f}".replace("-", "−")
    return f"{shown}({math.ceil(round(away * 10**digits, 3))})"


def _digits(interval: Array) -> int:
    width = float(interval[1] - interval[0])
    return min(6, max(2, -math.floor(math.log10(width)))) if width > 0 else 6
