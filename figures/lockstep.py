"""The optimisers beside the flow: with the exact polar factor in step, by Newton–Schulz not."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import CASES, INK, Ink, legible
from figures.panels import Array, guide, label_right, panels

CLAIM = "usg.lockstep"
RUNS: dict[str, tuple[Ink, str]] = {
    "specgd": (CASES[0], "SpecGD"),
    "newton_schulz": (CASES[1], "Newton–Schulz"),
    "momentum": (CASES[2], "with momentum"),
}
DRAWN = ("specgd", "newton_schulz")


def draw(sources: Sources) -> Drawing:
    """Growth of the modes, and the distance to the flow from LoRA's and from aligned starts."""
    arrays = sources.check(CLAIM)
    drawing, (left, middle, right) = panels(3, height=2.5, ratios=(1.3, 1, 1))
    _modes(left, arrays)
    for axes, drawn in ((middle, _from_lora), (right, _from_aligned)):
        axes.set_yscale("log")
        axes.set_xlim(0, arrays["times"][-1])
        drawn(axes, arrays)
        axes.set_xlabel(r"flow time $t = \eta\,\times$ steps")
    limits = [axes.get_ylim() for axes in (middle, right)]
    lowest = float(min(arrays[f"{name}_distance"][:, 1:].min() for name in RUNS))
    for axes in (middle, right):
        axes.set_ylim(max(lowest, 1e-3), max(high for _, high in limits))
    middle.set_ylabel(r"largest $|\sqrt{d_i} - \sqrt{d_i}_{\,\mathrm{flow}}|$")
    right.tick_params(labelleft=False)
    _name(right, arrays)
    return drawing


def _modes(axes: Axes, arrays: Recording) -> None:
    times, flow = arrays["times"], arrays["specgf_sqrt_mode_values"]
    for name in DRAWN:
        ink, _ = RUNS[name]
        for mode in arrays[f"{name}_sqrt_mode_values"].T:
            axes.plot(times, mode, color=ink.colour, linestyle=ink.dashes, linewidth=1.1,
                      label=name)  # fmt: skip
    for mode in flow.T:
        axes.plot(times, mode, color=INK, linewidth=0.7, label="flow")
    axes.set_xlim(0, times[-1])
    axes.set_ylim(0, 1.12 * float(np.nanmax(flow)))
    rows = [(text, ink) for ink, text in (RUNS[name] for name in DRAWN)]
    for row, (text, ink) in enumerate([("SpecGF", Ink(INK, "-", "")), *rows]):
        height = 0.95 - 0.085 * row
        axes.plot([0.03, 0.1], [height, height], color=ink.colour, linestyle=ink.dashes,
                  linewidth=1.1, transform=axes.transAxes, label="_key")  # fmt: skip
        axes.annotate(text, (0.13, height), xycoords="axes fraction", va="center_baseline",
                      color=legible(ink.colour), fontsize=8)  # fmt: skip
    axes.set_title("Optimisers and flow")
    axes.set_xlabel(r"flow time $t = \eta\,\times$ steps")
    axes.set_ylabel(r"$\sqrt{d_i(t)}$")


def _from_lora(axes: Axes, arrays: Recording) -> None:
    for name, (ink, _) in RUNS.items():
        distance = arrays[f"{name}_distance"]
        for seed in distance:
            axes.plot(arrays["times"], _shown(seed), color=ink.colour, linewidth=0.4, alpha=0.25,
                      label="_seed")  # fmt: skip
        axes.plot(arrays["times"], _shown(np.median(distance, axis=0)), color=ink.colour,
                  linestyle=ink.dashes, linewidth=1.0, label=name)  # fmt: skip
    axes.set_title("Distance, LoRA starts")


def _from_aligned(axes: Axes, arrays: Recording) -> None:
    for name, (ink, _) in RUNS.items():
        axes.plot(arrays["times"], _shown(arrays[f"{name}_aligned_distance"]), color=ink.colour,
                  linestyle=ink.dashes, linewidth=1.0, label=name)  # fmt: skip
    guide(axes, arrays["times"], arrays["aligned_bound"], "bound")
    axes.set_title("Distance, aligned start")


def _name(axes: Axes, arrays: Recording) -> None:
    late = slice(-len(arrays["times"]) // 5, None)
    heights = [float(np.median(arrays[f"{name}_aligned_distance"][late])) for name in RUNS]
    label_right(
        axes,
        [*heights, float(arrays["aligned_bound"][-1])],
        [*(text for _, text in RUNS.values()), "bound"],
        [*(ink.colour for ink, _ in RUNS.values()), INK],
    )


def _shown(distance: Array) -> Array:
    """Without zeros, which a logarithmic axis has no place for."""
    return np.where(distance == 0, np.nan, distance)


FIGURE = Figure(
    name="lockstep",
    title="The optimisers in lockstep with the flow",
    caption="Left: square roots of the mode values of SpecGF (dark line), of SpecGD and of Muon "
    "with five Newton-Schulz steps and no momentum, from one LoRA start, as optimisers; steps are "
    "drawn in flow time. Middle: largest distance of a mode from the flow on a logarithmic axis, "
    "every seed and the medians, also for Muon with its default momentum. Right: the same from a "
    "balanced aligned start, where the distance of SpecGD has a bound (dashed).",
    claims=(CLAIM,),
    draw=draw,
)
