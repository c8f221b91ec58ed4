"""Gradients of low-rank Muon by the length of the run, under noise of three tails."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from figures.figure import Figure, Recording, Sources
from figures.palette import COLUMNS, GAUSSIAN, INK, SGD, WHOLE, Ink
from figures.panels import guide, label_right, one_two_five, panels, short_slope

RATE, NESTEROV = "low-rank.heavy-tail-rate", "nesterov.rate"
ORDERS = (2.0, 1.5, 1.2)
LOOK_AHEAD = Ink("#882255", "-.", "v")
# As recorded, how it is drawn, how it is named.
LINES = (
    (RATE, "full", WHOLE, "full"),
    (RATE, "Gaussian, r = 3", GAUSSIAN, "Gaussian"),
    (RATE, "columns, r = 3", COLUMNS, "columns"),
    (NESTEROV, "Nesterov, randomised", LOOK_AHEAD, "Nesterov"),
)


def draw(sources: Sources) -> Drawing:
    """One panel an order a, of finite moments up to it."""
    drawing, axes = panels(len(ORDERS), height=3.1)
    for panel, order in zip(axes, ORDERS, strict=True):
        _panel(panel, sources, order)
    axes[0].set_ylabel(r"mean of $\|\nabla f(X_k)\|_F$ over the run")
    return drawing


def _panel(axes: Axes, sources: Sources, order: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    heights: dict[str, float] = {}
    inks: dict[str, str] = {}
    ends: list[float] = []
    bounds: list[float] = []
    starts: list[float] = []
    highest = 0.0
    for claim, name, ink, text in LINES:
        recording = sources.check(claim)
        place = _place(recording, name, order)
        if place is None:
            continue
        steps, mean = recording["horizons"], recording["means"][place]
        _line(axes, recording, place, ink, name)
        bound = recording["bounds"][place]
        axes.plot(steps, bound, color=ink.colour, linewidth=0.8, label=f"_bound of {name}")
        label = f"{text} {_slope(recording, place)}"
        heights[label], inks[label] = float(mean[-1]), ink.colour
        ends += [float(steps[0]), float(steps[-1])]
        bounds.append(float(bound[-1]))
        highest = max(highest, float(mean[0]))
    control = sources.control(RATE, "SGD")
    place = _place(control, "SGD at 1/L", order)
    if place is not None:
        _line(axes, control, place, SGD, "SGD")
        label = f"SGD {_slope(control, place)}"
        heights[label], inks[label] = float(control["means"][place][-1]), SGD.colour
        starts.append(float(control["horizons"][0]))
    recording = sources.check(RATE)
    exponent = float(recording["exponents"][list(recording["orders"]).index(order)])
    span = np.array([min(ends), max(ends)])
    guide(axes, span, 1.6 * highest * (span / span[0]) ** -exponent, "theory")
    theory = f"theory −{exponent:.3g}"
    heights[theory] = float(1.6 * highest * (span[1] / span[0]) ** -exponent)
    heights["bounds"] = float(np.exp(np.mean(np.log(bounds))))
    inks[theory] = inks["bounds"] = INK
    axes.set_xlim(min([*starts, span[0]]) / 1.3, span[1] * 1.3)
    _ticks(axes)
    axes.set_title(f"moments up to $a = {order:g}$")
    axes.set_xlabel("steps $K$")
    label_right(axes, list(heights.values()), list(heights), [inks[text] for text in heights])


def _place(recording: Recording, name: str, order: float) -> tuple[int, int] | None:
    """Where a method's runs are, None where there are none."""
    names, orders = list(recording["methods"]), list(recording["orders"])
    if name not in names or order not in orders:
        return None
    place = names.index(name), orders.index(order)
    return place if np.isfinite(recording["means"][place]).all() else None


def _line(axes: Axes, recording: Recording, place: tuple[int, int], ink: Ink, name: str) -> None:
    steps, mean = recording["horizons"], recording["means"][place]
    low, high = recording["intervals"][place].T
    axes.vlines(steps, low, high, color=ink.colour, linewidth=1.0, label=f"_{name} interval")
    axes.plot(steps, mean, color=ink.colour, linestyle=ink.dashes, marker=ink.marker,
              markersize=3.6, label=name)  # fmt: skip


def _slope(recording: Recording, place: tuple[int, int]) -> str:
    slope, *interval = recording["slopes"][place]
    return short_slope(float(slope), np.array(interval))


def _ticks(axes: Axes) -> None:
    low, high = (round(np.log2(end)) for end in axes.get_xlim())
    powers = [k for k in range(low, high + 1) if k % 2 == 0]
    axes.xaxis.set_major_locator(FixedLocator([2.0**k for k in powers]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"$2^{{{round(np.log2(x))}}}$"))
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(FixedLocator(list(one_two_five(low, high)[::2])))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


FIGURE = Figure(
    name="heavy-tail-rates",
    title="Gradients under heavy-tailed noise, by the length of the run",
    caption="Mean Frobenius norm of the exact gradient over a run of K steps, on logarithmic axes, "
    "under symmetric Pareto noise with moments up to a = 2, 1.5 and 1.2 (tail index 2.2, 1.55, "
    "1.25): full-rank Muon, Gaussian sketches and columns of rank 3, and Nesterov momentum with a "
    "randomised Newton-Schulz polar factor; means over seeds with 95% bootstrap intervals, and "
    "their slopes beside, in brackets how far the interval reaches in units of the last digit. "
    "Dashed: the guaranteed exponent (a - 1)/(3a - 2). Thin lines above, in the colours of the "
    "methods: their bounds, with the explicit constants that the claims derive. SGD at rate 1/L, "
    "in the middle, does not fall.",
    claims=(RATE, NESTEROV),
    draw=draw,
)
