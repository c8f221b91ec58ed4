"""What LoRA-Muon's step loses to round-off in Gram form and in QR form, by condition."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, NullLocator

from figures.figure import Figure, Sources
from figures.palette import CASES, INK, MUTED
from figures.panels import label_right, members, panels

CLAIM = "lora-muon.qr-equals-gram"
FORMS = {
    "QR form": (CASES[0], "QR form"),
    "root of the factor": (CASES[2], "factor's root"),
    "root of the Gram matrix": (CASES[1], "Gram's root"),
}
ROUND_OFF = {"float64": 2.0**-53, "float32": 2.0**-24}


def draw(sources: Sources) -> Drawing:
    """Errors of a step by the condition of the factors, in float64 and in float32."""
    drawing, axes = panels(2, height=2.75, share_y=True)
    for panel, dtype in zip(axes, ROUND_OFF, strict=True):
        _errors(panel, sources, dtype)
    axes[0].set_ylabel(r"error of a step in $W$, relative")
    _name(axes[1], sources)
    return drawing


def _errors(axes: Axes, sources: Sources, dtype: str) -> None:
    arrays, u = sources.check(CLAIM), ROUND_OFF[dtype]
    conditions = arrays[f"condition, {dtype}"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    for name, (ink, _) in FORMS.items():
        members(axes, conditions, arrays[f"{name}, {dtype}"], ink, name)
    ends = np.array([conditions.min() / 1.5, conditions.max() * 1.5])
    axes.plot(ends, u * ends, color=INK, linewidth=0.9, linestyle="--", label="u condition",
              zorder=2.5)  # fmt: skip
    square = np.array([ends[0], min(ends[1], u**-0.5)])
    axes.plot(square, u * square**2, color=MUTED, linewidth=0.9, linestyle=":",
              label="u condition^2", zorder=2.5)  # fmt: skip
    axes.set_xlim(*ends)
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(dtype)
    axes.set_xlabel(r"condition $\kappa$ of the factors")


def _name(axes: Axes, sources: Sources) -> None:
    arrays, (_, dtype) = sources.check(CLAIM), ROUND_OFF
    rows = {
        text: (float(np.median(arrays[f"{name}, {dtype}"][-1])), ink.colour)
        for name, (ink, text) in FORMS.items()
    }
    last = float(arrays[f"condition, {dtype}"][-1])
    rows[r"$u\,\kappa$"] = ROUND_OFF[dtype] * last, INK
    rows[r"$u\,\kappa^2$"] = min(ROUND_OFF[dtype] * last**2, 1.0), MUTED
    label_right(
        axes,
        [height for height, _ in rows.values()],
        list(rows),
        [colour for _, colour in rows.values()],
    )


FIGURE = Figure(
    name="gram-and-qr",
    title="What a step loses to round-off, in Gram form and in QR form",
    caption="Relative error of the move of W in one step of LoRA-Muon, by the condition of the "
    "factors, on logarithmic axes, in float64 (left) and float32 (right): in QR form, in Gram form "
    "with the root taken of the factor, and with the root taken of its Gram matrix. One point per "
    "member, lines through medians. The unit roundoff u times the condition is dashed, u times its "
    "square dotted.",
    claims=(CLAIM,),
    draw=draw,
)
