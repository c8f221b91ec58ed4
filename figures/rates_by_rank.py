"""Loss against learning rate by rank: LoRA-Muon beside dense Muon, and its rivals."""

from __future__ import annotations

from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Sources
from figures.loss_curves import loss_panels

CLAIM = "lora-muon.lr-transfer-rank"
RIVALS = ("Muon on each factor", "Spectron", "AdamW")


def draw(sources: Sources) -> Drawing:
    """One panel a contestant, one curve a rank."""
    check = sources.check(CLAIM)
    rows = {"LoRA-Muon": check}
    rows |= {name: check.within(name) for name in RIVALS}
    return loss_panels(rows, [f"$r = {rank}$" if rank else "dense" for rank in check["ranks"]])


FIGURE = Figure(
    name="rates-by-rank",
    title="Learning rates by rank",
    caption="Validation loss after training against learning rate, on a logarithmic axis, by rank. "
    "Points are seeds, lines their means, which end where a run diverged; a diamond is the best "
    "rate, the bar through it its 95% interval. From the left LoRA-Muon, Muon on each factor and "
    "Spectron, each beside dense Muon, and AdamW on the factors beside AdamW on the matrix.",
    claims=(CLAIM,),
    draw=draw,
)
