"""All active modes grow at one rate, up to a deviation that falls with the square of beta."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import CONTRAST, MUTED, SHADE, SPECTRAL, ordered_colours
from figures.panels import (
    guide,
    label_right,
    panels,
    plain_log_ticks,
    seed_points,
    seeds_and_median,
    slope_text,
)

CLAIM = "usg.equal-rate"


def draw(sources: Sources) -> Drawing:
    """Growth against time on the left, deviation against beta on the right."""
    drawing, (left, right) = panels(2, height=2.75, ratios=(1.25, 1))
    _growth(left, sources.check(CLAIM), sources.control(CLAIM, "gradient flow"))
    _deviation(right, sources.check(CLAIM))
    return drawing


def _growth(axes: Axes, spectral: Recording, gradient: Recording) -> None:
    times, roots, window = spectral["times"], spectral["sqrt_mode_values"], spectral["window"]
    targets = spectral["targets"]
    axes.set_xlim(0, times[-1])
    axes.set_ylim(0, 1.1 * np.sqrt(targets.max()))
    axes.axvspan(*window, color=SHADE, linewidth=0, label="window")
    for mode in range(len(targets)):  # the control, in the lightest ink: a contrast, no more
        median = np.median(gradient["sqrt_mode_values"][:, :, mode], axis=0)
        axes.plot(
            gradient["times"], median, color=CONTRAST, linewidth=0.8, linestyle=":",
            label="gradient flow",
        )  # fmt: skip
    colours = ordered_colours(len(targets))
    for mode, colour in enumerate(colours):
        seeds_and_median(axes, times, roots[:, :, mode], colour, f"mode {mode + 1}")
    inside = (times >= window[0]) & (times <= window[1])
    # The guide is moved to the left of the modes, which would hide it.
    offset = float(np.median(roots[:, inside] - times[inside, None])) + 0.06 * times[-1]
    ends = np.array([0.0, 0.62 * np.sqrt(targets.max())])
    guide(axes, ends, ends + offset, "unit rate")
    middle = float(np.mean(window))
    axes.annotate(
        "measured\nhere", (middle, 0.985), xycoords=("data", "axes fraction"), ha="center",
        va="top", color=MUTED, fontsize=7.5, linespacing=0.85,
    )  # fmt: skip
    axes.annotate(
        "unit rate", (ends[1], ends[1] + offset), xytext=(1, 2), textcoords="offset points",
        ha="right", va="bottom", fontsize=8,
    )  # fmt: skip
    axes.set_title(r"Growth of the modes, $\beta = 0.01$")
    axes.set_xlabel(r"flow time $t$")
    axes.set_ylabel(r"$\sqrt{d_i(t)}$")
    _name_control(axes, gradient)
    texts = [rf"$\sqrt{{{target:g}}}$" for target in targets]
    label_right(axes, np.sqrt(targets), texts, colours)


def _name_control(axes: Axes, gradient: Recording) -> None:
    """To the left of the control's fastest mode, where the spectral modes have long passed."""
    medians = np.median(gradient["sqrt_mode_values"], axis=0)
    height = 0.17 * axes.get_ylim()[1]
    above = (medians >= height).any(axis=1)
    if above.any():
        axes.annotate("gradient flow", (gradient["times"][above.argmax()], height), ha="right",
                      xytext=(-5, 0), textcoords="offset points", va="center", color=MUTED,
                      fontsize=8)  # fmt: skip


def _deviation(axes: Axes, arrays: Recording) -> None:
    betas, deviation = arrays["betas"], arrays["max_deviation"]
    slope, interval = arrays.number("slope"), arrays["slope_interval"]
    median = np.median(deviation, axis=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = np.array([betas.min() / 1.35, betas.max() * 1.35])
    anchor = np.exp(np.mean(np.log(median) - 2 * np.log(betas)))
    guide(axes, ends, anchor * ends**2, "slope 2")
    seed_points(axes, betas, deviation, SPECTRAL)
    plain_log_ticks(axes.xaxis, betas)
    axes.annotate("slope 2", (ends[1], anchor * ends[1] ** 2), xytext=(-12, 2), fontsize=8,
                  textcoords="offset points", ha="right", va="center")  # fmt: skip
    axes.annotate(f"fitted {slope_text(slope, interval)}", (0.97, 0.04), ha="right",
                  xycoords="axes fraction", fontsize=8.5, color=SPECTRAL.colour)  # fmt: skip
    axes.set_title(r"Deviation from unit rate")
    axes.set_xlabel(r"smoothing $\beta$")
    axes.set_ylabel(r"largest $|\,\mathrm{d}\sqrt{d_i}/\mathrm{d}t - 1\,|$ in the window")


FIGURE = Figure(
    name="equal-rate",
    title="The growth rate of active modes under spectral gradient flow",
    caption="Left: the square root of each mode value against flow time under spectral gradient "
    "flow with beta = 0.01; thin lines are seeds, bold lines medians, labelled by their targets. "
    "The dashed line has the unit rate predicted for every mode below its target; the shaded "
    "window is where the rate is measured, and the dotted grey lines are gradient flow. Right: "
    "the largest deviation from unit rate in the window against beta on logarithmic axes, one "
    "point per seed, with the fitted slope, its interval and a guide of slope 2.",
    claims=(CLAIM,),
    draw=draw,
)
