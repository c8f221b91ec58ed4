"""LoRA-Muon, with Spectron and LoRA-RITE, which it compares to.

Cesista, Crowson, Simal, Biderman 2026, LoRA-Muon: Spectral Steepest Descent on the Low-Rank
Manifold, arXiv 2606.12921; Janson, Oyallon, Belilovsky 2026, Stabilizing Native Low-Rank LLM
Pretraining, arXiv 2602.12429; Yen et al. 2024, LoRA Done RITE, arXiv 2410.20625.
"""

from claims.lora_muon import (
    compute_matched,
    gauges,
    rescaling,
    rivals,
    scales,
    split_problem,
    step_time,
    transfer,
    two_forms,
)

CLAIMS = (
    *split_problem.CLAIMS,
    *gauges.CLAIMS,
    *two_forms.CLAIMS,
    *scales.CLAIMS,
    *rivals.CLAIMS,
    *rescaling.CLAIMS,
    *transfer.CLAIMS,
    *compute_matched.CLAIMS,
    *step_time.CLAIMS,
)
