"""A language model trained by low-rank Muon, Muon and AdamW: losses by rate, and by rank."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from figures.figure import Figure, Recording, Sources
from figures.loss_curves import loss_curve
from figures.palette import ADAMW, COLUMNS, GAUSSIAN_POWER, INK, ordered_colours
from figures.panels import guide, label_right, panels

CLAIM = "low-rank.pretraining"
MUON, RIVAL, GAUSSIAN = "Muon", "AdamW", ", Gaussian, h = 1"
# Nats above the least loss of the worst curve.
SHOWN = 0.25


def draw(sources: Sources) -> Drawing:
    """Loss against rate, one curve a contestant; and what the low-rank ones lose over Muon."""
    check = sources.check(CLAIM)
    drawing, (curves, excess) = panels(2, height=2.9, ratios=(1.35, 1))
    _curves(curves, check)
    _excess(excess, check)
    return drawing


def _names(check: Recording) -> list[str]:
    return [str(name) for name in check["names"]]


def _curves(axes: Axes, check: Recording) -> None:
    names = _names(check)
    shown = [name for name in names if GAUSSIAN not in name]
    ordered = [MUON, *reversed([name for name in shown if name not in (MUON, RIVAL)])]
    colours = dict(zip(ordered, ordered_colours(len(ordered)), strict=True))
    colours[RIVAL] = ADAMW.colour
    axes.set_xscale("log")
    heights = []
    for name in shown:
        line = names.index(name)
        dashes = ADAMW.dashes if name == RIVAL else "-"
        loss_curve(axes, check, line, name, colours[name], dashes)
        heights.append(float(np.nanmin(check["losses"][line].mean(1))))
    low, high = min(heights), max(heights) + SHOWN
    axes.set_ylim(low - 0.08 * (high - low), high)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation loss (nats)")
    axes.set_title("Loss by learning rate")
    texts = [name if name in (MUON, RIVAL) else f"$l = {name}$" for name in shown]
    label_right(axes, heights, texts, [colours[name] for name in shown])


def _excess(axes: Axes, check: Recording) -> None:
    names, shares = _names(check), check["shares"]
    # The reference has no excess over itself.
    rows = dict(zip(names[1:], check["excess"], strict=True))
    columns = [name for name in names if name not in (MUON, RIVAL) and GAUSSIAN not in name]
    share_of = dict(zip(columns, shares, strict=True))
    gaussian = [name for name in columns if name + GAUSSIAN in rows]
    ends = np.array([shares.min() / 1.35, shares.max() * 1.35])
    axes.set_xscale("log", base=2)
    axes.set_xlim(*ends)
    drawn_lines: list[Line2D] = []
    for ink, label, drawn, suffix in (
        (COLUMNS, "columns", columns, ""),
        (GAUSSIAN_POWER, "Gaussian, $h = 1$", gaussian, GAUSSIAN),
    ):
        if not drawn:
            continue
        x = np.array([share_of[name] for name in drawn])
        mean, low, high = np.array([rows[name + suffix] for name in drawn]).T
        axes.vlines(x, low, high, color=ink.colour, linewidth=1.4, label=f"{label} interval")
        drawn_lines += axes.plot(x, mean, color=ink.colour, linestyle=ink.dashes,
                                 marker=ink.marker, markersize=4.5, label=label)  # fmt: skip
    mean, low, high = rows[RIVAL]
    axes.fill_between(ends, low, high, color=ADAMW.colour, alpha=0.15, linewidth=0,
                      label="AdamW interval")  # fmt: skip
    axes.plot(ends, np.full(2, mean), color=ADAMW.colour, linestyle=ADAMW.dashes, linewidth=1.1,
              label=RIVAL)  # fmt: skip
    guide(axes, ends, np.zeros(2), MUON)
    axes.set_xticks(shares, [f"${name}$" for name in columns])
    axes.minorticks_off()
    axes.set_xlabel("rank $l$ of the sketch")
    axes.set_ylabel("loss over Muon's (nats)")
    axes.set_title("What is lost, by rank")
    axes.legend(handles=drawn_lines, loc="upper right")
    label_right(axes, [float(mean), 0.0], [RIVAL, MUON], [ADAMW.colour, INK])


FIGURE = Figure(
    name="sketched-pretraining",
    title="A language model trained within sketches of the momentum",
    caption="Left: validation loss after training against learning rate, on a logarithmic axis, "
    "for Muon, low-rank Muon with l columns of the m, and AdamW, all tuned alike. Points are "
    "seeds, lines their means; a diamond is the best rate, the bar through it its 95% interval. "
    "Right: the loss over that of Muon, each at its best rate, paired by seed, with 95% intervals: "
    "columns drawn uniformly, and a Gaussian sketch with one power iteration; AdamW as a band. "
    "The statement that low-rank Muon does as well asks for 0.",
    claims=(CLAIM,),
    draw=draw,
)
