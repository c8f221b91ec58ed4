"""Singular values of Riemannion's direction: their law, and where they leave the claimed band."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Sources
from figures.palette import INK, MUTED, SHADE, Ink, legible, ordered_colours
from figures.panels import Array, guide, members, panels, plain_log_ticks, seeds_and_median

CLAIM = "riemannlora.riemannion-spectrum"
BAND = (0.9, 1.1)
MARKERS = "osD^vP"
LARGEST, SMALLEST = Ink("#D55E00", "-", "^"), Ink("#0072B2", "--", "v")


def pair_of(c: Array) -> tuple[Array, Array]:
    """The two singular values of each c."""
    root = np.sqrt(4 - 3 * c**2)
    return (root + c) / 2, (root - c) / 2


def draw(sources: Sources) -> Drawing:
    """By c, at random points by size, and by the step of a run."""
    drawing, (left, middle, right) = panels(3, height=2.9, share_y=True, ratios=(1.5, 1, 1))
    for axes in (left, middle, right):
        axes.axhspan(*BAND, color=SHADE, zorder=0)
    _by_c(left, sources)
    _by_size(middle, sources)
    _by_step(right, sources)
    left.set_ylim(0, 1.2)
    return drawing


def _by_c(axes: Axes, sources: Sources) -> None:
    check = sources.check(CLAIM)
    curve = np.linspace(0, 1, 401)
    upper, lower = pair_of(curve)
    guide(axes, curve, upper, "law 1")
    guide(axes, curve, lower, "law 2")
    colours = ordered_colours(len(check["shares"]))
    for number, (share, c, values) in enumerate(
        zip(check["shares"], check["c"], check["values"], strict=True)
    ):
        r = c.shape[-1]
        # Neither branch knows its c: the larger ones in the law's order, the smaller from the end.
        order = np.argsort(-pair_of(c)[0], axis=-1)
        x = np.concatenate([np.take_along_axis(c, order, -1), c[..., ::-1]], axis=-1)
        axes.plot(
            x.ravel(), np.concatenate([values[..., :r], values[..., r:]], -1).ravel(),
            MARKERS[number % len(MARKERS)], color=colours[number], markersize=3.2, alpha=0.6,
            markeredgewidth=0, label=f"{share:g}", zorder=3,
        )  # fmt: skip
    end = float(curve[np.argmax(lower < BAND[0])])
    axes.axvline(end, color=MUTED, linewidth=0.8, linestyle=":", label="_end")
    axes.annotate(
        "0.1765",
        (end, 0),
        xytext=(-3, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=MUTED,
    )
    axes.annotate(
        "the claimed band", (0.62, 1.0), ha="center", va="center", fontsize=8, color=MUTED
    )
    axes.annotate(
        r"$\frac{1}{2}(\sqrt{4 - 3 c^2} - c)$", (0.62, pair_of(np.array(0.62))[1]),
        xytext=(6, 3), textcoords="offset points", fontsize=8.5, color=INK,
    )  # fmt: skip
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[2:], labels[2:], title=r"$U^{\top}\!G\,V$ times", loc="lower left",
        title_fontsize=8, borderpad=0, handletextpad=0.3, labelspacing=0.25,
        bbox_to_anchor=(0.2, 0.02),
    )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_title("By the part that is not tangent")
    axes.set_xlabel(r"$c$, singular values of $\mathrm{Ortho}(M) - P(\mathrm{Ortho}(M))$")
    axes.set_ylabel(r"singular values of $P(\mathrm{Ortho}(M))$")


def _by_size(axes: Axes, sources: Sources) -> None:
    check = sources.check(CLAIM)
    sizes, values = check["sizes"], check["by_size"]
    axes.set_xscale("log", base=2)
    for ink, extreme, name in (
        (LARGEST, values.max(-1), "largest"), (SMALLEST, values.min(-1), "smallest")
    ):  # fmt: skip
        members(axes, sizes, extreme, ink, name)
        axes.annotate(
            name, (sizes[2], float(np.median(extreme[2]))), fontsize=8,
            color=legible(ink.colour),
            xytext=(9, 2 if name == "largest" else -12), textcoords="offset points",
        )  # fmt: skip
    plain_log_ticks(axes.xaxis, sizes, at_most=4)
    axes.set_title("At random points")
    axes.set_xlabel("size $m = n$")


def _by_step(axes: Axes, sources: Sources) -> None:
    run = sources.check(CLAIM)["run"]
    steps = np.arange(1, run.shape[1] + 1)
    for ink, extreme, name in (
        (LARGEST, run.max(-1), "largest"), (SMALLEST, run.min(-1), "smallest")
    ):  # fmt: skip
        seeds_and_median(axes, steps, extreme, ink.colour, name, ink.dashes)
    axes.set_xlim(0, steps[-1] + 1)
    axes.set_title("In a run")
    axes.set_xlabel("step")


FIGURE = Figure(
    name="riemannion-spectrum",
    title="Singular values of Riemannion's direction",
    caption="Left: singular values of the direction P(Ortho(M)) against c, the singular values of "
    "the part of Ortho(M) that is not tangent, for momenta M = P(G) of Gaussian G at uniform X, "
    "40 x 30 with rank 4, in which the block of G along X was multiplied by 0.1 to 30; dashed the "
    "exact law. The band that was claimed, (0.9, 1.1), is grey; it holds where no c exceeds "
    "0.1765. Middle: the largest and the smallest singular value at random points by size, without "
    "that factor, one point a draw and lines through medians. Right: the same at every step of "
    "Riemannion on a quadratic, 40 x 30, from a locally optimal start; seeds thin, medians bold.",
    claims=(CLAIM,),
    draw=draw,
)
