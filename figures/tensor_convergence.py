"""Tensorion, Muon on the flattened tensor and AdamW on three tasks: held-out losses by step."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import ADAMW, FACTOR_MUON, TENSORION, TENSORION_OFFLINE
from figures.panels import panels

CLAIM = "tensorion.convergence"
INKS = {
    "Tensorion": TENSORION,
    "Tensorion, offline": TENSORION_OFFLINE,
    "Muon, flattened": FACTOR_MUON,
    "AdamW": ADAMW,
}
LOSSES = {
    "tensor regression": "square error of predictions",
    "tensor completion": "square error at unseen entries",
    "convolutions": "validation loss (nats)",
}


def draw(sources: Sources) -> Drawing:
    """One panel a task, one line a contestant at its best rate."""
    check = sources.check(CLAIM)
    tasks = [str(task) for task in check["tasks"]]
    drawing, axes = panels(len(tasks), height=2.7)
    for place, task in zip(axes, tasks, strict=True):
        _curves(place, check, task)
    # Below all panels: curves cross everywhere within them.
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawing


def _curves(axes: Axes, check: Recording, task: str) -> None:
    steps, rates = check[f"steps, {task}"], check[f"best rates, {task}"]
    names = [str(name) for name in check["contestants"]]
    axes.set_yscale("log")
    for name, band, rate in zip(names, check[f"bands, {task}"], rates, strict=True):
        ink, (mean, low, high) = INKS[name], band.T
        axes.fill_between(steps, low, high, color=ink.colour, alpha=0.18, linewidth=0,
                          label=f"_interval of {name} at {rate:g}")  # fmt: skip
        axes.plot(steps, mean, color=ink.colour, linestyle=ink.dashes, marker=ink.marker,
                  markersize=2.6, markevery=4, linewidth=1.2, clip_on=False,
                  label=name)  # fmt: skip
    axes.set_xlim(0, steps[-1])
    axes.set_title(task.capitalize())
    axes.set_xlabel("step")
    axes.set_ylabel(LOSSES[task])


FIGURE = Figure(
    name="tensor-convergence",
    title="Tensorion beside Muon on the flattened tensor and AdamW",
    caption="Held-out loss against step, on a logarithmic axis, of Tensorion, unfoldings chosen "
    "online and offline, Muon on the flattened tensor and AdamW, each at its best learning rate by "
    "one protocol: regression for a tensor of order 4, completion of a tensor of order 3 by a "
    "Tucker model, and a convolutional network on handwritten digits. Lines are geometric means "
    "over seeds, bands their 95% intervals.",
    claims=(CLAIM,),
    draw=draw,
)
