"""How much of a gradient is tangent where, and how much of that a first step brings."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Sources
from figures.palette import CONTRAST, INK, MUTED, Ink, legible
from figures.panels import Array, guide, label_right, members, panels, seeds_and_median

OPTIMUM, GAIN, PAIRS = "riemannlora.loi-optimal", "riemannlora.loi-gain", "top-r pairing"
ASCENT, START, PAIRED = "#0072B2", Ink("#0072B2", "-", "o"), Ink("#D55E00", "-.", "s")
ROUNDS = 4


def draw(sources: Sources) -> Drawing:
    """Ascent from random points on the left, first steps by the size of the start on the right."""
    drawing, (left, right) = panels(2, height=2.9, share_y=True)
    left.set_ylim(0, 1.08)
    _ascent(left, sources)
    _first_step(right, sources)
    return drawing


def _level(axes: Axes, height: float, label: str, colour: str = INK) -> None:
    ends = np.array(axes.get_xlim())
    axes.plot(ends, np.full(2, height), color=colour, linewidth=0.9, linestyle="--", label=label,
              zorder=2.5)  # fmt: skip


def _ascent(axes: Axes, sources: Sources) -> None:
    check = sources.check(OPTIMUM)
    climbed: Array = check["ascent"][:, : ROUNDS + 1]
    rounds = np.arange(climbed.shape[1])
    axes.set_xlim(-1.6, rounds[-1] + 0.2)
    _level(axes, 1.0, "optimum")
    counts, edges = np.histogram(check["random"], bins=24)
    axes.stairs(
        -0.35 - counts / counts.max(), edges, baseline=-0.35, orientation="horizontal", fill=True,
        color=CONTRAST, label="uniform", zorder=2,
    )  # fmt: skip
    expected = float(check["expected"])
    axes.plot([-1.45, 0], [expected] * 2, color=INK, linewidth=0.9, linestyle=":", label="expected")
    seeds_and_median(axes, rounds, climbed, ASCENT, "ascent")
    pairs = float(np.median(check["pairs"]))
    _level(axes, pairs, "pairs", PAIRED.colour)
    axes.set_xticks([-0.85, *rounds], ["uniform", *map(str, rounds)])
    axes.set_title("What is tangent")
    axes.set_xlabel("rounds of alternating ascent")
    axes.set_ylabel(r"share of $\sigma_1^2 + \dots + \sigma_{2r}^2$")
    axes.annotate(
        r"pairs: $U_{1..r}$ with $V_{1..r}$", (rounds[-1], pairs), ha="right", va="top", fontsize=8,
        color=legible(PAIRED.colour), xytext=(0, -3), textcoords="offset points",
    )  # fmt: skip
    axes.annotate(
        r"LOI: $U_{1..r}$ with $V_{r+1..2r}$", (rounds[-1], 1.0), ha="right", va="bottom",
        fontsize=8, color=INK, xytext=(0, 1), textcoords="offset points",
    )  # fmt: skip
    axes.annotate(
        r"$1 - (1 - \frac{r}{m})(1 - \frac{r}{n})$", (-1.45, expected), va="top", ha="left",
        fontsize=8, color=MUTED, xytext=(0, -14), textcoords="offset points",
    )  # fmt: skip


def _first_step(axes: Axes, sources: Sources) -> None:
    check, control = sources.check(GAIN), sources.control(GAIN, PAIRS)
    axes.set_xscale("log")
    axes.set_xlim(check["finer"][0], check["finer"][-1])
    guide(axes, check["finer"], check["law"], "law")
    for recorded, ink, name in ((control, PAIRED, PAIRS), (check, START, "LOI")):
        members(axes, recorded["ratios"], recorded["gains"], ink, name, 3.0)
        # The levels say where the medians are.
        axes.lines[-1].set_linewidth(0)
    pairs = float(np.median(control["gains"]))
    _level(axes, pairs, "pairs", PAIRED.colour)
    axes.set_title("What a first step brings")
    axes.set_xlabel(r"size of the start over the step, $\alpha / (\eta \sigma_1)$")
    label_right(
        axes, [float(check["law"][-1]), pairs], ["LOI", "pairs"],
        [START.colour, PAIRED.colour],
    )  # fmt: skip


FIGURE = Figure(
    name="locally-optimal-start",
    title="The locally optimal start",
    caption="Left: the share of the largest possible norm of the tangent part of Gaussian "
    "gradients, 40 x 30 with rank 4, that uniform subspaces have (grey, with the expected mean), "
    "and that alternating ascent from such subspaces reaches, one thin line a seed, the median "
    "bold; dashed the start by the leading and the next singular vectors, and by r leading pairs. "
    "Right: the share that one step of gradient descent brings to first order, by the size of the "
    "start; one point a seed, dashed the closed form; from r leading pairs it is the same at every "
    "size.",
    claims=(OPTIMUM, GAIN),
    draw=draw,
)
