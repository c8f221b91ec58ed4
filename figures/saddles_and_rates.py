"""How long a saddle holds the flow, and how fast the optimum draws it in."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import case, ordered_colours
from figures.panels import Array, guide, label_right, panels

ESCAPE, RATE = "usg.saddle-escape", "usg.local-rate"
MARKERS = "sov^D"  # by the smoothing


def draw(sources: Sources) -> Drawing:
    """Escape times on the left, decay of the gradient on the right."""
    drawing, (left, right) = panels(2, height=2.7)
    _escape(left, sources.check(ESCAPE))
    _decay(right, sources.check(RATE))
    return drawing


def _escape(axes: Axes, arrays: Recording) -> None:
    offsets, predicted = arrays["log_inverse_offset"], arrays["predicted_slope"]
    ends = np.array([offsets.min(), offsets.max()])
    heights, texts, colours = [], [], []
    smoothings, curvatures = np.unique(arrays["beta"]), np.unique(np.abs(arrays["curvature"]))
    shades = ordered_colours(len(curvatures))
    for index, (times, slope) in enumerate(zip(arrays["escape_times"], predicted, strict=True)):
        beta, curvature = arrays["beta"][index], abs(arrays["curvature"][index])
        colour = shades[int(np.searchsorted(curvatures, curvature))]
        marker = MARKERS[int(np.searchsorted(smoothings, beta)) % len(MARKERS)]
        level = float(np.median(times - slope * offsets))
        guide(axes, ends, level + slope * ends, f"predicted {index}")
        axes.plot(offsets, times, marker, color=colour, label=f"escape {index}", zorder=5)
        heights.append(level + slope * ends[1])
        texts.append(rf"$\beta = {beta:g},\ |\lambda| = {curvature:g}$")
        colours.append(colour)
    axes.margins(y=0.08)
    axes.set_title(r"Escape from a saddle: $(\beta/|\lambda|)\,\ln(1/\epsilon)$")
    axes.set_xlabel(r"$\ln(1/\epsilon)$ for an offset $\epsilon$ from the saddle")
    axes.set_ylabel(r"escape time $t$")
    label_right(axes, heights, texts, colours)


def _decay(axes: Axes, arrays: Recording) -> None:
    axes.set_yscale("log")
    cases = zip(arrays["beta"], arrays["predicted_rate"], arrays["measured_rate"], strict=True)
    for index, (beta, predicted, measured) in enumerate(cases):
        ink = case(index)
        times, norms = arrays["times"][index], arrays["gradient_norms"][index]
        guide(axes, times / beta, _exponential(times, norms, predicted), f"predicted {index}")
        # Evenly spaced marks, staggered between the cases so that none hides another.
        every = max(1, len(times) // 12)
        label = rf"$\beta = {beta:g}$:  rate {measured:.5g}  ({predicted:.5g})"
        axes.plot(
            times / beta, norms, color=ink.colour, linewidth=0, marker=ink.marker,
            markersize=4.2, markevery=(index * every // 3, every), label=label, zorder=5,
        )  # fmt: skip
    marks = [line for line in axes.lines if line.get_linewidth() == 0]
    axes.legend(
        handles=marks, loc="lower left", handletextpad=0.1, borderpad=0, labelspacing=0.3,
        title="measured  (predicted)", title_fontsize=8, alignment="left",
    )  # fmt: skip
    axes.set_ylim(bottom=0.1 * float(arrays["gradient_norms"][arrays["gradient_norms"] > 0].min()))
    axes.set_title("Decay near an optimum")
    axes.set_xlabel(r"flow time in units of the smoothing, $t/\beta$")
    axes.set_ylabel(r"gradient norm $\|\nabla L\|_F$")


def _exponential(times: Array, norms: Array, rate: float) -> Array:
    """The decay at ``rate`` through the median of the norms well above the integrator's floor."""
    high = norms > 1e-6 * norms[0]
    level = float(np.median(np.log(norms[high]) + rate * times[high]))
    return np.exp(level - rate * times)


FIGURE = Figure(
    name="saddles-and-rates",
    title="Escape from a saddle and decay near an optimum",
    caption="Left: time that spectral gradient flow takes to leave a saddle against the logarithm "
    "of the inverse offset from it, for several smoothings beta (markers) and curvatures lambda "
    "(colours); dashed lines have the predicted slopes beta over the absolute value of lambda. "
    "Right: gradient norm near an optimum on a logarithmic axis against flow time in units of "
    "beta, down to round-off; dashed lines decay at the predicted rates, and the key states "
    "measured and predicted rates per unit flow time.",
    claims=(ESCAPE, RATE),
    draw=draw,
)
