"""What points of the unit ball of a tensor norm are worth, and between what the norm lies."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Sources
from figures.palette import CONTRAST, INK, MUTED, Ink
from figures.panels import Array, panels

VALUES, BOUNDS = "tensorion.lmo-optimal", "tensorion.norm-bounds"
BALL = {
    "single unfoldings": Ink("#009E73", "-.", "^"),
    "max-norm ball, its best": Ink("#D55E00", "--", "s"),
    "extreme points, best drawn": Ink("#5E3C99", ":", "D"),
}
NORMS = {
    "norm": (r"$N$", Ink("#0072B2", "-", "o")),
    "least": (r"$\min_\tau \|X_\tau\|_2$", Ink("#009E73", "-.", "^")),
    "largest": (r"$\max_\tau \|X_\tau\|_2$", Ink("#D55E00", "--", "s")),
}
HILL = 0.62  # height of a histogram, in rows


def draw(sources: Sources) -> Drawing:
    """Values of linear functions over the ball on the left, norms of tensors on the right."""
    drawing, (left, right) = panels(2, height=3.3, ratios=(1.15, 1))
    _values(left, sources)
    _norms(right, sources)
    return drawing


def _rows(axes: Axes, shapes: Array) -> Array:
    """Shapes from top to bottom."""
    rows = np.arange(len(shapes))[::-1]
    axes.set_yticks(rows, [str(shape).replace(" x ", "×") for shape in shapes])
    axes.tick_params(axis="y", length=0)
    for row in rows:
        axes.axhline(row, color="#dddddd", linewidth=0.6, zorder=0, label="_row")
    return rows


def _points(axes: Axes, row: float, values: Array, ink: Ink, label: str) -> None:
    """Members along a row, and their median as a tick."""
    shown = values[~np.isnan(values)]
    axes.plot(
        shown, np.full(len(shown), row), ink.marker, color=ink.colour, markersize=3.4,
        alpha=0.4, markeredgewidth=0, label=label, zorder=3,
    )  # fmt: skip


def _values(axes: Axes, sources: Sources) -> None:
    check = sources.check(VALUES)
    rows = _rows(axes, check["shapes"])
    edges = check["edges"]
    middles = (edges[1:] + edges[:-1]) / 2
    for number, row in enumerate(rows):
        counts = check["extremes"][number]
        hill = row + HILL * counts / counts.max()
        axes.fill_between(middles, row, hill, color=CONTRAST, alpha=0.45, linewidth=0)
        axes.plot(middles, hill, color=MUTED, linewidth=0.8, label="hill", zorder=1)
        found = (
            check["unfoldings"][number].ravel(),
            check["max_norm"][number],
            check["best_extremes"][number],
        )
        for place, ((label, ink), values) in enumerate(zip(BALL.items(), found, strict=True)):
            _points(axes, row - 0.1 - 0.13 * place, values, ink, label)
    axes.axvline(1, color=INK, linewidth=0.9, linestyle="--", label="optimum", zorder=2)
    axes.set_xlim(-1.02, 1.06)
    axes.set_ylim(-1.35, len(rows) - 0.25)
    handles = [next(line for line in axes.lines if line.get_label() == name) for name in BALL]
    axes.legend(
        handles, [*BALL], loc="lower left", borderpad=0, handletextpad=0.2, labelspacing=0.3
    )
    axes.annotate(
        "random extreme points", (-0.98, rows[0] + 0.52), fontsize=8, color=MUTED, va="bottom"
    )
    axes.annotate(
        "$S$", (1, 1), xycoords=("data", "axes fraction"), xytext=(-3, -1), va="top", ha="right",
        textcoords="offset points", fontsize=9,
    )  # fmt: skip
    axes.set_title(r"Points of the unit ball of $N$")
    axes.set_xlabel(r"$\langle G, X\rangle\,/\,N^*(G)$")
    axes.set_ylabel("shape of $G$")


def _norms(axes: Axes, sources: Sources) -> None:
    check = sources.check(BOUNDS)
    rows = _rows(axes, check["shapes"])
    for number, row in enumerate(rows):
        for place, (name, (label, ink)) in enumerate(NORMS.items()):
            values = check[name][number] / check["sigma"][number]
            height = row + 0.22 * (1 - place)
            _points(axes, height, values, ink, f"{label} members")
            axes.plot(
                [float(np.median(values))], [height], "|", color=ink.colour, markersize=9 + place,
                markeredgewidth=1.6, label=label, zorder=4,
            )  # fmt: skip
    axes.axvline(1, color=INK, linewidth=0.9, linestyle="--", label="optimum", zorder=2)
    axes.set_ylim(-1.3, len(rows) - 0.5)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.99), high)
    handles = [
        next(line for line in axes.lines if line.get_label() == f"{label} members")
        for label, _ in NORMS.values()
    ]
    axes.legend(
        handles, [label for label, _ in NORMS.values()], loc="lower right",
        borderpad=0, handletextpad=0.2, ncols=3, columnspacing=1.0,
    )  # fmt: skip
    axes.set_title(r"Norms of Gaussian tensors over $\|X\|_\sigma$")
    axes.set_xlabel(r"norm $/\ \|X\|_\sigma$")


FIGURE = Figure(
    name="tensor-norms",
    title="A norm of tensors: what its ball holds, and between what it lies",
    caption="Left: what points of the unit ball of N, reconstructed from descriptions of the "
    "paper, are worth for a Gaussian G, as a share of the best, which the step S attains (dashed). "
    "Grey: random extreme points; marks: polar factors of single unfoldings, the best point of the "
    "max-norm ball, and the best extreme point that was drawn, one mark a seed. Right: N and the "
    "least and largest spectral norm of an unfolding, of Gaussian tensors, over the tensor's "
    "spectral norm, which is known from below; one mark a seed, medians as ticks.",
    claims=(VALUES, BOUNDS),
    draw=draw,
)
