"""Arrival times against targets: opposite orders under the two flows, as predicted."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import COLUMN_WIDTH, GRADIENT, MUTED, SPECTRAL, Ink, legible
from figures.panels import median_arrival, one_two_five, panels, plain_log_ticks

SPECTRAL_CLAIM, GRADIENT_CLAIM = "usg.smallest-first", "usg.gf-largest-first"


def draw(sources: Sources) -> Drawing:
    """Measured and predicted arrival times of both flows on one logarithmic axis."""
    drawing, (axes,) = panels(1, width=COLUMN_WIDTH, height=2.7)
    axes.set_yscale("log")
    _flow(axes, sources.check(GRADIENT_CLAIM), GRADIENT, "gradient flow", above=True)
    _flow(axes, sources.check(SPECTRAL_CLAIM), SPECTRAL, "spectral gradient flow", above=False)
    plain_log_ticks(axes.yaxis, one_two_five(*axes.get_ylim()), at_most=9)
    axes.set_xlabel(r"target singular value $\sigma_i$")
    axes.set_ylabel(r"arrival time $t$ at $0.9\,\sigma_i$")
    axes.set_title("When each mode arrives")
    axes.annotate(
        "lines: predicted\nopen marks: median of seeds", (0.985, 0.98), xycoords="axes fraction",
        ha="right", va="top", color=MUTED, fontsize=7.5, linespacing=0.9,
    )  # fmt: skip
    return drawing


def _flow(axes: Axes, arrays: Recording, ink: Ink, name: str, above: bool) -> None:
    targets, arrivals = arrays["targets"], arrays["arrival_times"]
    predicted = arrays["predicted_arrivals"]
    order = np.argsort(targets)
    axes.plot(
        targets[order], predicted[order], color=ink.colour, linestyle=ink.dashes, linewidth=1.3,
        label=f"{name} predicted",
    )  # fmt: skip
    width = 0.03 * float(np.ptp(targets)) if len(targets) > 1 else 0.1
    sideways = np.linspace(-width, width, len(arrivals))  # so that no seed hides another
    alpha = min(0.5, 15 / len(arrivals))
    for shift, seed in zip(sideways, arrivals, strict=True):
        axes.plot(targets + shift, seed, ink.marker, markersize=2.2, color=ink.colour, alpha=alpha,
                  markeredgewidth=0, label=f"{name} seeds", zorder=3)  # fmt: skip
    axes.plot(
        targets, median_arrival(arrivals), ink.marker, markersize=6.5, color="white",
        markeredgecolor=ink.colour, markeredgewidth=1.2, label=f"{name} median", zorder=5,
    )  # fmt: skip
    second = order[min(1, len(order) - 1)]
    axes.annotate(
        name, (targets[second], predicted[second]), xytext=(10, 7 if above else -9),
        textcoords="offset points", ha="left", va="bottom" if above else "top",
        color=legible(ink.colour), fontsize=9,
    )  # fmt: skip


FIGURE = Figure(
    name="arrivals",
    title="Arrival times of the modes, predicted and measured",
    caption="Time at which a mode reaches nine tenths of its target against the target, on a "
    "logarithmic time axis. Lines are the predictions, small marks every seed, open marks the "
    "median over seeds. Circles and the solid line are spectral gradient flow, predicted to take "
    "longer for larger targets; squares and the dashed line are gradient flow, predicted to take "
    "longer for smaller ones.",
    claims=(SPECTRAL_CLAIM, GRADIENT_CLAIM),
    draw=draw,
    wide=False,
)
