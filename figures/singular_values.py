"""Singular values under the two flows, from the same kind of random LoRA initialisation."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import INK, ordered_colours
from figures.panels import Array, label_right, median_arrival, panels, seeds_and_median

CLAIM = "usg.smallest-first"


def draw(sources: Sources) -> Drawing:
    """Spectral gradient flow on the left, gradient flow on the right."""
    spectral, gradient = sources.check(CLAIM), sources.control(CLAIM, "gradient flow")
    drawing, (left, right) = panels(2, height=2.75, share_y=True)
    _flow(left, spectral, "Spectral gradient flow")
    _flow(right, gradient, "Gradient flow")
    left.set_ylabel(r"singular values $s_i(t)$")
    targets = spectral["targets"]
    label_right(
        right, targets, [rf"$\sigma_{i + 1} = {target:g}$" for i, target in enumerate(targets)],
        ordered_colours(len(targets)),
    )  # fmt: skip
    return drawing


def _flow(axes: Axes, arrays: Recording, name: str) -> None:
    times, values, targets = arrays["times"], arrays["singular_values"], arrays["targets"]
    colours = ordered_colours(len(targets))
    axes.set_xlim(0, times[-1])
    axes.set_ylim(0, 1.08 * targets.max())
    for mode, (target, colour) in enumerate(zip(targets, colours, strict=True)):
        axes.axhline(target, color=colour, linewidth=0.7, linestyle="--", label="_target")
        seeds_and_median(axes, times, values[:, :, mode], colour, f"s_{mode + 1}")
    arrivals = median_arrival(arrays["arrival_times"])
    places = np.argsort(np.argsort(arrivals)) + 1
    for place, arrival, target, colour in zip(places, arrivals, targets, colours, strict=True):
        if np.isfinite(arrival):
            _arrival(axes, arrival, 0.9 * target, int(place), colour)
    axes.set_title(f"{name}: {order_of_arrival(arrivals, targets)}")
    axes.set_xlabel(r"flow time $t$")


def order_of_arrival(arrivals: Array, targets: Array) -> str:
    """What the measured arrivals say, whatever the theorem does."""
    ascending = arrivals[np.argsort(targets)]
    if not np.isfinite(ascending).all():
        return "not all arrive"
    if (np.diff(ascending) > 0).all():
        return "smallest first"
    return "largest first" if (np.diff(ascending) < 0).all() else "no one order"


def _arrival(axes: Axes, time: float, height: float, place: int, colour: str) -> None:
    axes.plot(
        [time], [height], "o", markersize=9, color="white", markeredgecolor=colour,
        markeredgewidth=1.1, zorder=5, label=f"arrival {place}",
    )  # fmt: skip
    axes.annotate(
        str(place), (time, height), xytext=(0, -0.4), textcoords="offset points", zorder=6,
        ha="center", va="center_baseline", fontsize=7, color=INK,
    )  # fmt: skip


FIGURE = Figure(
    name="singular-values",
    title="Singular values under spectral gradient flow and gradient flow",
    caption="Singular values of the product against flow time under spectral gradient flow (left) "
    "and gradient flow (right), from a random LoRA initialisation. Thin lines are seeds, bold "
    "lines their median, dashed lines the targets. Numbered circles mark the median arrival at "
    "nine tenths of a target, in order of arrival; the prediction is smallest first on the left "
    "and largest first on the right.",
    claims=(CLAIM,),
    draw=draw,
)
