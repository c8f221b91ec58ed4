"""Loss against learning rate by width and depth: LoRA-Muon beside AdamW."""

from __future__ import annotations

from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Sources
from figures.loss_curves import loss_panels

CLAIM = "lora-muon.lr-transfer-width-depth"


def draw(sources: Sources) -> Drawing:
    """One panel a contestant, one curve an architecture."""
    check = sources.check(CLAIM)
    sizes = zip(check["widths"], check["depths"], strict=True)
    rows = {"LoRA-Muon": check, "AdamW": sources.control(CLAIM, "AdamW")}
    return loss_panels(rows, [f"{width} wide, {depth} deep" for width, depth in sizes])


FIGURE = Figure(
    name="rates-by-size",
    title="Learning rates by width and depth",
    caption="Validation loss after training against learning rate, on a logarithmic axis, by width "
    "and depth of a transformer with low-rank layers. Points are seeds, lines their means, which "
    "end where a run diverged; a diamond is the best rate, the bar through it its 95% interval. "
    "Left LoRA-Muon, right AdamW on the factors, the control.",
    claims=(CLAIM,),
    draw=draw,
)
