"""How much of a matrix sketches keep, by rank and by power iterations, beside the best share."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.figure import Figure, Sources
from figures.palette import (
    COLUMNS,
    CONTRAST,
    GAUSSIAN,
    GAUSSIAN_POWER,
    INK,
    MUTED,
    WEIGHTED_COLUMNS,
    Ink,
)
from figures.panels import Array, label_right, members, panels, plain_log_ticks

CLAIM, NOISE = "low-rank.alignment", "white noise"
INKS = {
    "uniform columns": COLUMNS,
    "norm-weighted columns": WEIGHTED_COLUMNS,
    "Gaussian": GAUSSIAN,
    "Gaussian, h = 1": GAUSSIAN_POWER,
}
NAMES = {
    "uniform columns": "columns",
    "norm-weighted columns": "norm-weighted",
    "Gaussian": "Gaussian",
    "Gaussian, h = 1": "Gaussian, $h = 1$",
}
OVERSAMPLED = (GAUSSIAN, Ink("#882255", "-", "v"))


def draw(sources: Sources) -> Drawing:
    """Shares by rank on the left, at rank 64 by power iterations on the right."""
    drawing, (left, right) = panels(2, height=2.9, share_y=True)
    _by_rank(left, sources)
    _by_power(right, sources)
    left.set_ylim(0, 1.03)
    return drawing


def _best(axes: Axes, x: Array, y: Array, label: str, colour: str = INK) -> None:
    axes.plot(x, y, color=colour, linewidth=0.9, linestyle="--", label=label, zorder=2.5)


def _noise(axes: Axes, x: Array, values: Array, ink: Ink, name: str) -> None:
    """A control's medians, muted."""
    axes.plot(
        x, np.median(values, axis=-1), color=CONTRAST, linestyle=ink.dashes, marker=ink.marker,
        markersize=2.6, linewidth=0.8, label=f"{name}, {NOISE}", zorder=1.5,
    )  # fmt: skip


def _by_rank(axes: Axes, sources: Sources) -> None:
    check, noise = sources.check(CLAIM), sources.control(CLAIM, NOISE)
    ranks = check["ranks"]
    axes.set_xscale("log")
    axes.set_xlim(ranks[0] / 1.15, ranks[-1] * 1.15)
    _best(axes, ranks, check["best_by_rank"], "best")
    _best(axes, ranks, noise["best_by_rank"], f"best, {NOISE}", CONTRAST)
    for number, (name, ink) in enumerate(INKS.items()):
        _noise(axes, ranks, noise["by_rank"][:, number], ink, name)
        members(axes, ranks, check["by_rank"][:, number], ink, name, 3.0)
    plain_log_ticks(axes.xaxis, ranks, at_most=7)
    best = next(line for line in axes.lines if line.get_label() == "best")
    marked = [
        Line2D([], [], color=ink.colour, linestyle=ink.dashes, marker=ink.marker, markersize=3.0,
               linewidth=1.0)
        for ink in INKS.values()
    ]  # fmt: skip
    axes.legend(
        [best, *marked], ["best of rank $r$", *(NAMES[name] for name in INKS)],
        loc="upper left", borderpad=0, handlelength=2.4, labelspacing=0.3,
    )  # fmt: skip
    middle = len(ranks) // 2
    axes.annotate(
        "white noise", (ranks[middle], float(noise["best_by_rank"][middle])), color=MUTED,
        fontsize=8, xytext=(16, -22), textcoords="offset points", ha="left", va="top",
    )  # fmt: skip
    axes.set_title("By rank")
    axes.set_xlabel("rank $r$")
    axes.set_ylabel(r"alignment $\rho = \|Q^\top M\|_*\,/\,\|M\|_*$")


def _by_power(axes: Axes, sources: Sources) -> None:
    check, noise = sources.check(CLAIM), sources.control(CLAIM, NOISE)
    powers = check["powers"]
    ends = np.array([powers[0] - 0.2, powers[-1] + 0.2])
    axes.set_xlim(*ends)
    rows: list[tuple[float, str, str]] = []
    for number, (p, ink) in enumerate(zip(check["oversampling"], OVERSAMPLED, strict=True)):
        name = f"p = {p}"
        for recording, of, colour in ((check, "best", INK), (noise, f"best, {NOISE}", CONTRAST)):
            level = np.full(2, recording["best_by_power"][number])
            _best(axes, ends, level, f"{of}, {name}", colour)
        _noise(axes, powers, noise["by_power"][:, number], ink, name)
        members(axes, powers, check["by_power"][:, number], ink, name, 3.0)
        height = float(check["best_by_power"][number])
        rows.append((height, f"${name}$", ink.colour))
    heights = [height for height, *_ in rows] + [float(noise["best_by_power"].mean())]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("By power iterations, $r = 64$")
    axes.set_xlabel("power iterations $h$")
    axes.set_ylim(0, 1.03)
    label_right(axes, heights, [*(text for _, text, _ in rows), "white\nnoise"],
                [*(colour for *_, colour in rows), MUTED])  # fmt: skip


FIGURE = Figure(
    name="alignment",
    title="What sketches keep of a matrix",
    caption="The share of the nuclear norm that a sketch keeps, of matrices 256 x 384 with "
    "singular values 1/j, by rank on a logarithmic axis (left) and for Gaussian vectors at rank "
    "64, without and with ten more vectors, by power iterations (right). One point a draw, lines "
    "through medians; the best share, that of the leading singular values, is dashed. In grey the "
    "same of white noise, the control, whose singular values do not decay.",
    claims=(CLAIM,),
    draw=draw,
)
