"""What depends on scale: Spectron's step on the factors', the first steps from zero on no rate."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.figure import Figure, Sources
from figures.palette import INK, LORA_MUON, MUTED, SPECTRON, Dashes, Ink, ordered_colours
from figures.panels import guide, label_right, members, panels

SCALE, KICK = "spectron.not-invariant", "lora-muon.zero-init-kick"
STARTS: dict[str, tuple[Dashes, str]] = {
    "zero start": ("-", "o"),
    "absolute damping": (":", "s"),
    "Gaussian start": ("--", "^"),
}


def draw(sources: Sources) -> Drawing:
    """The step by the scale of the factors on the left, the first steps from zero on the right."""
    drawing, (left, right) = panels(2, height=2.75)
    _scales(left, sources)
    _kick(right, sources)
    return drawing


def _scales(axes: Axes, sources: Sources) -> None:
    spectron, lora_muon = sources.check(SCALE), sources.control(SCALE, "LoRA-Muon")
    scales = spectron["scales"]
    axes.set_xscale("log")
    ends = np.array([scales.min() / 1.4, scales.max() * 1.4])
    axes.set_xlim(*ends)
    guide(axes, ends, np.ones(2), "limit")
    rows = (("Spectron", spectron, SPECTRON), ("LoRA-Muon", lora_muon, LORA_MUON))
    for name, recording, ink in rows:
        members(axes, recording["scales"], recording["sizes"], ink, name)
    axes.set_ylim(0, 1.1)
    axes.set_xticks(scales, [_fraction(scale) for scale in scales])
    axes.minorticks_off()
    axes.annotate(r"limit as $c \to 0$ and $c \to \infty$", (0.5, 1.0), ha="center", va="bottom",
                  xycoords=("axes fraction", "data"), xytext=(0, 1), fontsize=8, color=INK,
                  textcoords="offset points")  # fmt: skip
    axes.set_title("One step from factors of another scale")
    axes.set_xlabel(r"scale $c$ of the factors $(cB, A/c)$")
    axes.set_ylabel(r"$\|dW\|_2\,/\,\eta$")
    label_right(axes, [float(np.median(recording["sizes"][-1])) for _, recording, _ in rows],
                [name for name, _, _ in rows], [ink.colour for _, _, ink in rows])  # fmt: skip


def _fraction(scale: float) -> str:
    return f"{scale:g}" if scale >= 1 else f"1/{1 / scale:.0f}"


def _kick(axes: Axes, sources: Sources) -> None:
    starts = {"zero start": sources.check(KICK)}
    starts |= {name: sources.control(KICK, name) for name in STARTS if name not in starts}
    axes.set_yscale("log")
    heights: list[float] = []
    texts: list[str] = []
    inks: list[str] = []
    for start, recording in starts.items():
        rates, shares = recording["rates"], recording["shares"]
        steps = np.arange(1, shares.shape[1] + 1)
        colours = ordered_colours(len(rates))
        for index, rate in enumerate(rates):
            ink = Ink(colours[index], *STARTS[start])
            # The larger beneath the smaller: lines that coincide all show.
            size = 3.2 + 1.7 * (len(rates) - 1 - index)
            members(axes, steps, shares[index], ink, f"{start}, eta = {rate:g}", size)
        ends = np.median(shares[:, -1], axis=1)
        if np.ptp(ends) < 0.01 * ends.max():
            heights.append(float(ends[0]))
            texts.append(r"every $\eta$")
            inks.append(INK)
        else:
            heights += list(ends)
            texts += [rf"$\eta = {rate:g}$" for rate in rates]
            inks += colours
    axes.set_xlim(0.7, steps[-1] + 0.3)
    low, high = axes.get_ylim()
    axes.set_ylim(low / 20, high * 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(
        handles=[
            Line2D([], [], color=MUTED, linestyle=dashes, marker=marker, markersize=3.4,
                   linewidth=1.1, label=start)
            for start, (dashes, marker) in STARTS.items()
        ],
        loc="lower left", ncols=2, handlelength=2.2, columnspacing=1, borderpad=0,
        handletextpad=0.5, labelspacing=0.3,
    )  # fmt: skip
    axes.set_title(r"Moves of $A$ in the first steps")
    axes.set_xlabel("step")
    axes.set_ylabel(r"$\|dA\|_F\,/\,\|A\|_F$")
    label_right(axes, heights, texts, inks)


FIGURE = Figure(
    name="scale-dependence",
    title="What the size of a step depends on",
    caption="Left: spectral norm of one step in W over the learning rate, from the factors "
    "(cB, A/c), by c on a logarithmic axis: Spectron's grows towards its limit of one (dashed) on "
    "either side, LoRA-Muon's, the control, is the same at every c. Right: Frobenius norm of the "
    "step of A over that of A, in the first steps, on a logarithmic axis, for three learning "
    "rates: from B = 0 without damping (solid) the rates coincide, and the second step is as "
    "large as A itself; from a Gaussian start (dashed) and with an absolute damping (dotted), "
    "the controls, it is in proportion to the rate. A does not move in the first step from zero, "
    "for which a logarithmic axis has no place. One point per member, lines through medians.",
    claims=(KICK, SCALE),
    draw=draw,
)
