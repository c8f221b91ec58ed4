"""With coupled l2 the factors balance and the spectrum shrinks to its optimum."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import CONTRAST, INK, MUTED, SPECTRAL, ordered_colours
from figures.panels import Array, label_right, panels, seeds_and_median

CLAIM = "usg.l2-convergence"
CONTROL = "decoupled decay"


def draw(sources: Sources) -> Drawing:
    """Imbalance on the left, spectrum on the right, the control in grey."""
    coupled, decoupled = sources.check(CLAIM), sources.control(CLAIM, CONTROL)
    drawing, (left, right) = panels(2, height=2.75)
    _imbalance(left, coupled, decoupled)
    _spectrum(right, coupled, decoupled)
    return drawing


def _imbalance(axes: Axes, coupled: Recording, decoupled: Recording) -> None:
    axes.set_yscale("log")
    axes.set_xlim(0, coupled["times"][-1])
    heights = []
    for arrays, colour, dashes, label in (
        (decoupled, CONTRAST, "--", "decoupled decay"),
        (coupled, SPECTRAL.colour, "-", "coupled"),
    ):
        values = np.where(arrays["imbalance"] > 0, arrays["imbalance"], np.nan)
        seeds_and_median(axes, arrays["times"], values, colour, label, dashes)
        heights.append(_last_finite(np.fmax.reduce(values, axis=0)))
    label_right(axes, heights, ["decoupled\n(control)", r"coupled $\ell_2$"],
                [MUTED, SPECTRAL.colour])  # fmt: skip
    axes.set_title("Balance of the factors")
    axes.set_xlabel(r"flow time $t$")
    axes.set_ylabel(r"imbalance $\|B^\mathrm{T}B - AA^\mathrm{T}\|_F$")


def _last_finite(values: Array) -> float:
    return float(values[np.isfinite(values)][-1])


def _spectrum(axes: Axes, coupled: Recording, decoupled: Recording) -> None:
    times, targets, shrunk = coupled["times"], coupled["targets"], coupled["shrunk_targets"]
    colours = ordered_colours(len(targets))
    axes.set_xlim(0, times[-1])
    for mode in range(decoupled["singular_values"].shape[2]):
        median = np.median(decoupled["singular_values"][:, :, mode], axis=0)
        axes.plot(decoupled["times"], median, color=CONTRAST, linewidth=1, linestyle="--",
                  label="decoupled decay")  # fmt: skip
    for mode, (target, colour) in enumerate(zip(shrunk, colours, strict=True)):
        axes.axhline(target, color=INK, linewidth=0.7, linestyle=":", label="shrunk target")
        seeds_and_median(axes, times, coupled["singular_values"][:, :, mode], colour,
                         f"s_{mode + 1}")  # fmt: skip
    axes.set_ylim(0, None)
    label_right(axes, shrunk, [rf"$({target:g} - \lambda)_+$" for target in targets], colours)
    axes.set_title("Spectrum and the shrunk targets")
    axes.set_xlabel(r"flow time $t$")
    axes.set_ylabel(r"singular values $s_i(t)$")


FIGURE = Figure(
    name="l2",
    title="Balance and spectrum under l2 regularisation",
    caption="Left: imbalance of the two factors against flow time on a logarithmic axis under "
    "spectral gradient flow with coupled l2 regularisation (solid) and with decoupled weight "
    "decay, the control (dashed grey). Right: singular values; thin lines are seeds, bold lines "
    "medians. Coupled l2 is predicted to end on the shrunk targets (dotted), decoupled decay "
    "(dashed grey) is not.",
    claims=(CLAIM,),
    draw=draw,
)
