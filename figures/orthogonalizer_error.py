"""How far from one orthogonalisers leave singular values, by step; and where the quintic stays."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from figures.figure import Figure, Sources
from figures.palette import INK, MUTED, Ink
from figures.panels import guide, label_right, panels

CLAIM = "low-rank.orthogonaliser-table"
QUINTIC = "Keller Jordan's quintic"
INKS = {
    "cubic": Ink("#555555", "-", "o"),
    "quintic 15/8": Ink("#009E73", "-.", "^"),
    "quintic (2, -3/2, 1/2)": Ink("#56B4E9", "-", "v"),
    QUINTIC: Ink("#D55E00", "-", "s"),
    "CANS cubic": Ink("#CC79A7", "--", "D"),
    "Polar Express": Ink("#0072B2", "-", "P"),
    "Polar Express with cushion and safety": Ink("#332288", ":", "x"),
}
SHORT = {
    "quintic 15/8": r"quintic $(\frac{15}{8}, -\frac{10}{8}, \frac{3}{8})$",
    "quintic (2, -3/2, 1/2)": r"quintic $(2, -\frac{3}{2}, \frac{1}{2})$",
    "Polar Express with cushion and safety": "the same, with cushion",
}
FLOOR = 1e-14  # below it there is rounding alone


def draw(sources: Sources) -> Drawing:
    """Worst errors by step on the left, the range of Keller Jordan's quintic on the right."""
    drawing, (left, right) = panels(2, height=2.9, ratios=(1.5, 1))
    _errors(left, sources)
    _range(right, sources)
    return drawing


def _errors(axes: Axes, sources: Sources) -> None:
    check = sources.check(CLAIM)
    steps, rows = check["steps"], dict(zip(check["methods"], check["worst"], strict=True))
    limit = check["limit"]
    axes.set_yscale("log")
    axes.set_ylim(FLOOR, 3)
    axes.set_xlim(0.6, steps[-1] + 0.4)
    plateau = float(np.abs(1 - limit).max())
    guide(axes, np.array(axes.get_xlim()), np.full(2, plateau), "plateau")
    for name, ink in INKS.items():
        # Up to the first that is rounding, which is drawn at the floor.
        count = np.count_nonzero(rows[name] > FLOOR) + 1
        axes.plot(
            steps[:count], np.maximum(rows[name][:count], FLOOR), clip_on=False, color=ink.colour,
            linestyle=ink.dashes, marker=ink.marker, markersize=3.6, linewidth=1.2,
            label=SHORT.get(name, name),
        )  # fmt: skip
    axes.annotate(
        f"plateau {plateau:.3f}", (steps[-1] + 0.4, plateau), ha="right",
        va="top", xytext=(0, -2), textcoords="offset points", fontsize=8, color=INK,
    )  # fmt: skip
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[1:], labels[1:], loc="lower left", borderpad=0, handlelength=2.6,
        labelspacing=0.35,
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(r"Worst error on $[10^{-3}, 1]$")
    axes.set_xlabel("steps $k$")
    axes.set_ylabel(r"$\max_s\, |1 - \phi_k(s)|$")


def _range(axes: Axes, sources: Sources) -> None:
    check = sources.check(CLAIM)
    ends, limit, ink = check["range"], check["limit"], INKS[QUINTIC]
    steps = np.arange(len(ends))
    axes.set_xlim(0, steps[-1])
    axes.fill_between(steps, *ends.T, color=ink.colour, alpha=0.15, linewidth=0)
    for number in (0, 1):
        axes.plot(steps, ends[:, number], color=ink.colour, marker=ink.marker, markersize=3.2,
                  linewidth=1.2, label=f"end {number}", clip_on=False)  # fmt: skip
    for number, end in enumerate(limit):
        guide(axes, steps[[0, -1]], np.full(2, end), f"limit {number}")
    axes.axhline(1, color=MUTED, linewidth=0.7, label="_one", zorder=0)
    axes.set_ylim(0, 1.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("Range left by Keller Jordan's quintic")
    axes.set_xlabel("steps $k$")
    axes.set_ylabel(r"$\phi_k(s)$, $s \in [10^{-3}, 1]$")
    texts = [f"{end:.4f}" for end in limit]
    label_right(axes, list(limit), texts, [INK, INK])


FIGURE = Figure(
    name="orthogonalizer-error",
    title="How far from one each orthogonaliser leaves singular values",
    caption="Left: the largest distance from one of what k steps make of singular values between "
    "0.001 and 1, on a logarithmic axis, for every method; Polar Express is shown without and with "
    "the cushion and the safety factor of its code. Lines end where there is rounding alone. "
    "Keller Jordan's quintic stays at its plateau (dashed). Right: the least and the largest of "
    "what that quintic makes of the same singular values, shaded in between, and the limits "
    "(dashed), between which it stays for ever.",
    claims=(CLAIM,),
    draw=draw,
)
