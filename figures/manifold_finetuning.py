"""Fine-tuning on the manifold of rank r beside LoRA: losses by step, and at the end."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import (
    ADAMW,
    CONTRAST,
    FACTOR_MUON,
    LORA_MUON,
    RIEMANN_LORA,
    RIEMANN_LORA_ADAPTIVE,
    RIEMANNION,
    Ink,
    legible,
)
from figures.panels import panels

CLAIM = "riemannlora.finetune"
OURS = "Riemannion"
INKS = {
    OURS: RIEMANNION,
    "RiemannLoRA, Adam": RIEMANN_LORA_ADAPTIVE,
    "RiemannLoRA, SGD": RIEMANN_LORA,
    "AdamW": ADAMW,
    "RSLoRA": Ink(ADAMW.colour, ":", "D"),
    "Muon": FACTOR_MUON,
    "LoRA-Muon": LORA_MUON,
    "AdamW, optimal start": Ink("#882255", "-.", "^"),
}
# By the names of the other figures.
NAMES = {
    "RiemannLoRA, Adam": "RiemannLoRA, adaptive",
    "RiemannLoRA, SGD": "RiemannLoRA",
    "Muon": "Muon on each factor",
}
# Of the way down from the start: above it lie the first steps.
SHOWN = 0.5


def draw(sources: Sources) -> Drawing:
    """Loss against step, one line a contestant; and losses at the end over Riemannion's."""
    check = sources.check(CLAIM)
    drawing, (curves, excess) = panels(2, height=3.0, ratios=(1.4, 1))
    _curves(curves, check)
    _excess(excess, check)
    return drawing


def _names(check: Recording) -> list[str]:
    return [str(name) for name in check["contestants"]]


def _curves(axes: Axes, check: Recording) -> None:
    steps = np.concatenate([[0], check["steps"]])
    start, names = float(check["start"]), _names(check)
    for name, band in zip(names, check["bands"], strict=True):
        # Before the first step all are the pretrained model.
        ink, (mean, low, high) = INKS[name], np.vstack([np.full((1, 3), start), band]).T
        axes.fill_between(steps, low, high, color=ink.colour, alpha=0.15, linewidth=0,
                          label=f"interval of {name}")  # fmt: skip
        axes.plot(steps, mean, color=ink.colour, linestyle=ink.dashes, marker=ink.marker,
                  markersize=2.8, markevery=2, linewidth=1.2, label=name)  # fmt: skip
    axes.set_xlim(0, steps[-1])
    least = float(check["bands"][..., 1].min())
    axes.set_ylim(least - 0.03 * (start - least), least + SHOWN * (start - least))
    axes.set_xlabel("step")
    axes.set_ylabel("validation loss (nats)")
    axes.set_title("Fine-tuning, each at its best rate")


def _excess(axes: Axes, check: Recording) -> None:
    """The names beside the rows are the legend of both panels."""
    names = _names(check)
    rows = np.arange(len(names))[::-1]
    for row, name, (mean, low, high) in zip(rows, names, check["excess"], strict=True):
        ink = INKS[name]
        axes.hlines(row, low, high, color=ink.colour, linewidth=1.6, label=f"{name} interval")
        axes.plot([mean], [row], color=ink.colour, marker=ink.marker, markersize=5,
                  linestyle=ink.dashes, label=name)  # fmt: skip
    axes.axvline(0, color=CONTRAST, linewidth=0.8, zorder=0, label="_no difference")
    axes.set_yticks(rows, [NAMES.get(name, name) for name in names])
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_color(legible(INKS[name].colour))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("loss over Riemannion's (nats)")
    axes.set_title("At the end")


FIGURE = Figure(
    name="manifold-finetuning",
    title="Fine-tuning on the manifold of rank r",
    caption="Left: validation loss against step while adapters of rank 8 of a pretrained language "
    "model are trained on another language, each optimiser at its best learning rate by one "
    "protocol; Riemannion and RiemannLoRA from the locally optimal start, LoRA's optimisers from "
    "B = 0, and AdamW from both. Lines are means over seeds, bands their 95% intervals; the first "
    "steps lie above. Right: the loss at the end over Riemannion's, paired by seed, with 95% "
    "intervals; colours and markers are those of both panels.",
    claims=(CLAIM,),
    draw=draw,
)
