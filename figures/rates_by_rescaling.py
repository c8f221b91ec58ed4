"""Loss against learning rate by the size of the factors: LoRA-Muon beside its rivals."""

from __future__ import annotations

from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Sources
from figures.loss_curves import loss_panels

CLAIM = "lora-muon.best-rate-rescaling"
CONTROLS = ("Muon on each factor", "AdamW")


def draw(sources: Sources) -> Drawing:
    """One panel a contestant, one curve a rescaling."""
    check = sources.check(CLAIM)
    rows = {"LoRA-Muon": check, "Spectron": check.within("Spectron")}
    rows |= {name: sources.control(CLAIM, name) for name in CONTROLS}
    return loss_panels(rows, [f"$c = {c:g}$" for c in check["rescalings"]])


FIGURE = Figure(
    name="rates-by-rescaling",
    title="Learning rates by the size of the factors",
    caption="Validation loss after training against learning rate, on a logarithmic axis, from the "
    "factors (cB, A/c), by c. Points are seeds, lines their means, which end where a run diverged; "
    "a diamond is the best rate, the bar through it its 95% interval. From the left LoRA-Muon, "
    "whose curves are claimed to coincide, Spectron, and the controls, Muon on each factor and "
    "AdamW.",
    claims=(CLAIM,),
    draw=draw,
)
