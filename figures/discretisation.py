"""Spectral gradient descent follows the flow to first order in the step, down to a loss floor."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import INK, MUTED, SPECTRAL, legible, ordered_colours
from figures.panels import (
    Array,
    guide,
    label_right,
    one_two_five,
    panels,
    plain_log_ticks,
    seed_points,
    slope_text,
)

CLAIM = "usg.specgd-tracks-flow"
MARKERS = "osD^v<>pP"


def draw(sources: Sources) -> Drawing:
    """Trajectories, distance to the flow and loss, side by side."""
    arrays = sources.check(CLAIM)
    drawing, (left, middle, right) = panels(3, height=2.5, ratios=(1.3, 1, 1))
    _trajectories(left, arrays)
    _distance(middle, arrays)
    _loss(right, arrays)
    return drawing


def _trajectories(axes: Axes, arrays: Recording) -> None:
    times, flow = arrays["trajectory_times"], arrays["specgf_sqrt_mode_values"]
    axes.set_xlim(0, times[-1])
    axes.set_ylim(0, 1.12 * float(np.nanmax(flow)))
    _flow_and_descents(axes, arrays, markers=False)
    _key(axes, arrays["drawn_steps"])
    # The cycle around a target is a hundredth of the axis: a lens in the corner that stays empty.
    lens = axes.inset_axes((0.5, 0.04, 0.49, 0.3))
    _flow_and_descents(lens, arrays, markers=True)
    mode = flow[:, flow.shape[1] // 2]
    arrival = float(times[int(np.argmax(mode >= mode[-1] * (1 - 1e-3)))])
    size = float(np.median(arrays["drawn_steps"]))
    lens.set_xlim(arrival - 1.5 * size, arrival + 7 * size)
    lens.set_ylim(mode[-1] - 1.4 * size, mode[-1] + 1.4 * size)
    lens.set(xticks=[], yticks=[])
    lens.spines[["top", "right"]].set_visible(True)
    axes.indicate_inset_zoom(lens, edgecolor=MUTED, linewidth=0.5, alpha=1)
    axes.set_title("Descent and flow")
    axes.set_xlabel(r"flow time $t = \eta\,\times$ steps")
    axes.set_ylabel(r"$\sqrt{d_i(t)}$")


def _flow_and_descents(axes: Axes, arrays: Recording, markers: bool) -> None:
    times, steps = arrays["trajectory_times"], arrays["drawn_steps"]
    for mode in arrays["specgf_sqrt_mode_values"].T:
        axes.plot(times, mode, color=INK, linewidth=0.9, label="flow", zorder=4)
    for index, (colour, marker) in enumerate(_inks(steps)):
        descent = arrays["specgd_sqrt_mode_values"][index]
        taken = ~np.isnan(descent).all(axis=1)
        for mode in descent[taken].T:
            axes.plot(
                times[taken], mode, color=colour, linewidth=0.8, zorder=3,
                label=f"eta {steps[index]:g}", marker=marker if markers else "",
                markersize=3.6 * float(steps[index] / steps.max()),
            )  # fmt: skip


def _inks(steps: Array) -> list[tuple[str, str]]:
    """Colour and marker of each step size: the finer, the darker."""
    ranks = np.argsort(np.argsort(steps))
    colours = ordered_colours(len(steps))
    return [(colours[rank], MARKERS[rank % len(MARKERS)]) for rank in ranks]


def _key(axes: Axes, steps: Array) -> None:
    rows = [
        (rf"$\eta = {step:g}$", colour, marker)
        for step, (colour, marker) in zip(steps, _inks(steps), strict=True)
    ]
    for row, (text, colour, marker) in enumerate([*rows, ("flow", INK, "")]):
        height = 0.95 - 0.085 * row
        axes.plot([0.03, 0.09], [height, height], color=colour, linewidth=0.9, marker=marker,
                  markersize=3.2, markevery=(1, 2), transform=axes.transAxes,
                  label="_key")  # fmt: skip
        axes.annotate(text, (0.12, height), xycoords="axes fraction", va="center_baseline",
                      color=legible(colour), fontsize=8)  # fmt: skip


def _distance(axes: Axes, arrays: Recording) -> None:
    steps, distance = arrays["step_sizes"], arrays["distance_to_flow"]
    slope, interval = arrays.number("slope"), arrays["slope_interval"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    median = np.median(distance, axis=1)
    level = float(np.mean(np.log(median) - slope * np.log(steps)))
    ends = np.array([steps.min() / 1.3, steps.max() * 1.3])
    guide(axes, ends, np.exp(level + slope * np.log(ends)), "fit")
    seed_points(axes, steps, distance, SPECTRAL)
    plain_log_ticks(axes.xaxis, steps, at_most=3)
    plain_log_ticks(axes.yaxis, one_two_five(*axes.get_ylim()), at_most=6)
    axes.annotate(slope_text(slope, interval), (0.98, 0.04), xycoords="axes fraction",
                  ha="right", fontsize=8, color=SPECTRAL.colour)  # fmt: skip
    axes.set_title("Distance to the flow")
    axes.set_xlabel(r"step $\eta$")
    axes.set_ylabel("largest distance to the flow")


def _loss(axes: Axes, arrays: Recording) -> None:
    times, loss, bound = arrays["loss_times"], arrays["loss"], arrays.number("loss_bound")
    axes.set_yscale("log")
    axes.set_xlim(times.min(), times.max())
    for seed in loss:
        axes.plot(times, seed, color=SPECTRAL.colour, linewidth=0.5, alpha=0.35, label="_seed")
    axes.plot(times, np.median(loss, axis=0), color=SPECTRAL.colour, linewidth=1.2, label="median")
    guide(axes, np.array([times.min(), times.max()]), np.array([bound, bound]), "bound")
    axes.set_title("Loss and its bound")
    axes.set_xlabel(r"flow time $t$")
    axes.set_ylabel(r"loss $L$")
    label_right(axes, [bound], ["bound"], [INK])


FIGURE = Figure(
    name="discretisation",
    title="Spectral gradient descent beside spectral gradient flow",
    caption="Left: square roots of the mode values of spectral gradient descent for several steps "
    "eta, and of the flow (dark line), from one start. The corner magnifies the arrival of one "
    "mode. Middle: largest distance to the flow against eta on logarithmic axes, one point per "
    "seed, with the fitted slope and its interval. Right: loss of descent against time for every "
    "seed; the dashed line is the predicted bound on the limit cycle that it ends in.",
    claims=(CLAIM,),
    draw=draw,
)
