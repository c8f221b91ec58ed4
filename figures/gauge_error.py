"""How far a run in another gauge ends, by the gauge's condition number, for every optimiser."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, NullLocator

from figures.figure import Figure, Sources
from figures.palette import (
    ADAMW,
    FACTOR_MUON,
    LORA_MUON,
    LORA_RITE,
    LORA_RITE_CORE,
    MUTED,
    RIEMANN_LORA,
    RIEMANN_LORA_ADAPTIVE,
    RIEMANNION,
    SCALED_GD,
    SGD,
    SPECTRON,
    Ink,
)
from figures.panels import Array, guide, panels

CLAIM = "riemannlora.gauge"
CONTROLS = ("Adam", "gradient descent", "Muon on each factor")
INKS: dict[str, Ink] = {
    "Adam": ADAMW,
    "gradient descent": SGD,
    "Muon on each factor": FACTOR_MUON,
    "Spectron": SPECTRON,
    "ScaledGD": SCALED_GD,
    "LoRA-Muon": LORA_MUON,
    "LoRA-RITE": LORA_RITE,
    "LoRA-RITE's core": LORA_RITE_CORE,
    "RiemannLoRA": RIEMANN_LORA,
    "RiemannLoRA, adaptive": RIEMANN_LORA_ADAPTIVE,
    "Riemannion": RIEMANNION,
}
DTYPES = ("float64", "float32")
# Decades between neighbours of a group, so that none hides another.
APART = 0.04
GROUPS = (tuple(INKS)[:4], tuple(INKS)[4:])


def draw(sources: Sources) -> Drawing:
    """Differences of the products by condition, in float64 and in float32."""
    drawing, (double, single) = panels(2, height=3.1, share_y=True)
    for axes, dtype in zip((double, single), DTYPES, strict=True):
        _differences(axes, sources, dtype)
    double.set_ylim(1e-16, 8.0)
    double.set_ylabel("difference of $BA$ after 20 steps, relative")
    single.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=7.5, handlelength=2.6)
    return drawing


def _differences(axes: Axes, sources: Sources, dtype: str) -> None:
    check = sources.check(CLAIM)
    conditions = check["conditions"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    for name, values in _recorded(sources, dtype):
        ink, x = INKS[name], conditions * 10.0 ** _offset(name)
        shown = np.where(values == 0, np.nan, values)
        axes.vlines(x, shown.min(1), shown.max(1), color=ink.colour, linewidth=0.9, alpha=0.5)
        axes.plot(x, np.median(shown, axis=1), color=ink.colour, linestyle=ink.dashes,
                  marker=ink.marker, markersize=3.6, linewidth=0.8, label=name)  # fmt: skip
    guide(axes, conditions, check[f"round-off, {dtype}"], r"$u\,\kappa$")
    axes.plot(conditions, check[f"bound, {dtype}"].max(0), color=MUTED, linewidth=0.9,
              linestyle=":", label="bound of the claim")  # fmt: skip
    axes.xaxis.set_major_locator(LogLocator(numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(dtype)
    axes.set_xlabel(r"condition $\kappa$ of the gauge")


def _recorded(sources: Sources, dtype: str) -> Iterator[tuple[str, Array]]:
    """(conditions, seeds) of every optimiser, in the order of the legend."""
    parts = [sources.check(CLAIM), *(sources.control(CLAIM, name) for name in CONTROLS)]
    found = {
        str(name): values
        for part in parts
        for name, values in zip(part["optimizers"], part[f"difference, {dtype}"], strict=True)
    }
    yield from ((name, found[name]) for name in INKS)


def _offset(name: str) -> float:
    group = next(group for group in GROUPS if name in group)
    return APART * (group.index(name) - (len(group) - 1) / 2)


FIGURE = Figure(
    name="gauge-error",
    title="How far a run in another gauge ends, for every optimiser",
    caption="Relative difference of the products after 20 steps from (BC, C^-1 A) and from (B, A), "
    "by the condition number of C, on logarithmic axes, in float64 (left) and in float32 (right); "
    "medians over the seeds, bars from the least to the largest; a run that overflows counts as 1. "
    "At condition 1, C is a rotation. Adam, gradient descent, Muon on each factor and Spectron end "
    "elsewhere in another gauge, the second and third not in a rotated one. RiemannLoRA, "
    "Riemannion, LoRA-Muon, LoRA-RITE and its core differ by round-off: unit roundoff u times the "
    "condition is dashed, the bound on the paper's optimisers dotted. ScaledGD, which divides by "
    "Gram matrices, loses the square of the condition; so does LoRA-Muon at 1e6 in float32, where "
    "it drops directions.",
    claims=(CLAIM,),
    draw=draw,
)
