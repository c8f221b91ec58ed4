"""What a step does to the product in another gauge: nothing, but for round-off and for damping."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import (
    FACTOR_MUON,
    INK,
    LORA_MUON,
    LORA_MUON_VARIANT,
    MUTED,
    SIGNS,
    SPECTRON,
    Ink,
)
from figures.panels import Array, guide, label_right, members, panels

GAUGE, DAMPING = "lora-muon.gauge", "lora-muon.gauge-damping"
CONTROLS = {"Spectron": SPECTRON, "Muon on each factor": FACTOR_MUON, "signs": SIGNS}
NUMERICS = {"absolute damping": LORA_MUON_VARIANT, "exact numerics": Ink(MUTED, ":", "D")}
DTYPES = ("float64", "float32")


def draw(sources: Sources) -> Drawing:
    """Differences of the product in float64 and float32, and beside them the damped numerics."""
    drawing, (double, single, damped) = panels(3, height=2.75, ratios=(1, 1, 1))
    for axes, dtype in zip((double, single), DTYPES, strict=True):
        _differences(axes, sources, dtype)
    limits = [axes.get_ylim() for axes in (double, single)]
    for axes in (double, single):
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    single.tick_params(labelleft=False)
    double.set_ylabel(r"difference of $W$ after a step, relative to $\|W\|_F$")
    _name(single, sources)
    _damping(damped, sources)
    return drawing


def _differences(axes: Axes, sources: Sources, dtype: str) -> None:
    check = sources.check(GAUGE)
    places = _gauges(axes, check)
    axes.set_yscale("log")
    name = f"difference, {dtype}"
    for control, ink in CONTROLS.items():
        members(axes, places, sources.control(GAUGE, control)[name], ink, control)
    members(axes, places, check[name], LORA_MUON, "LoRA-Muon")
    guide(axes, places, check[f"round-off, {dtype}"], "u times condition")
    axes.plot(places, check[f"bound, {dtype}"], color=MUTED, linewidth=0.9, linestyle=":",
              label="bound")  # fmt: skip
    axes.set_title(f"Another gauge, {dtype}")


def _name(axes: Axes, sources: Sources) -> None:
    check = sources.check(GAUGE)
    name = f"difference, {DTYPES[1]}"
    rows = {"LoRA-Muon": (float(np.median(check[name][-1])), LORA_MUON.colour)}
    for control, ink in CONTROLS.items():
        rows[control] = float(np.median(sources.control(GAUGE, control)[name][-1])), ink.colour
    rows[r"$u\,\kappa(C)$"] = float(check[f"round-off, {DTYPES[1]}"][-1]), INK
    rows["bound"] = float(check[f"bound, {DTYPES[1]}"][-1]), MUTED
    label_right(
        axes,
        [height for height, _ in rows.values()],
        list(rows),
        [colour for _, colour in rows.values()],
    )


def _damping(axes: Axes, sources: Sources) -> None:
    check = sources.check(DAMPING)
    places = _gauges(axes, check)
    axes.set_yscale("log")
    rows = {"relative damping": (check, LORA_MUON)}
    rows |= {name: (sources.control(DAMPING, name), ink) for name, ink in NUMERICS.items()}
    for name, (recording, ink) in rows.items():
        members(axes, places, recording["share"], ink, name)
    for place, level, band in zip(places, check["level"], check["band"], strict=True):
        if not np.isnan(level):
            axes.plot([place, place], band, color=INK, linewidth=0.9, label="band")
            axes.plot([place], [level], "_", color=INK, markersize=7, label="level")
    axes.set_title("Damped roots, float64")
    axes.set_ylabel("difference, as a share of the step")
    heights = [float(np.median(recording["share"][-1])) for recording, _ in rows.values()]
    label_right(axes, heights, [name.partition(" ")[0] for name in rows],
                [ink.colour for _, ink in rows.values()])  # fmt: skip


def _gauges(axes: Axes, recording: Recording) -> Array:
    """The gauges side by side, a decade of the condition each; those of condition 1 to the left."""
    places = np.arange(len(recording["gauge"]), dtype=float)
    axes.set_xticks(places, [_short(str(name)) for name in recording["gauge"]], fontsize=7.5)
    axes.set_xlim(-0.4, places[-1] + 0.4)
    axes.set_xlabel(r"$C$: $cI$, orthogonal, or $\kappa(C)$")
    return places


def _short(name: str) -> str:
    if name.startswith("c = "):
        return rf"${name.removeprefix('c = ')}I$"
    return "$Q$" if name == "orthogonal" else name.removeprefix("condition ")


FIGURE = Figure(
    name="gauge-drift",
    title="What one step does to the product in another gauge",
    caption="Left and middle: relative difference of W after one step from (BC, C^-1 A) and from "
    "(B, A), on logarithmic axes, in float64 and float32, for C = 9 I, 1000 I, orthogonal, and of "
    "condition 10, 100, 1000; one point per member, lines through medians. LoRA-Muon stays near "
    "the unit roundoff u times the condition (dashed) and below the claim's bound (dotted); "
    "Spectron, Muon on each factor and descent along signs, the controls, do not. Right: the "
    "difference as a share of the step when the inverse root is damped, relative to the Gram "
    "matrix as published or absolutely, and when it is exact; bars are the claimed levels and a "
    "factor of three about them.",
    claims=(GAUGE, DAMPING),
    draw=draw,
)
