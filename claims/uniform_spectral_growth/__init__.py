"""Uniform Spectral Growth and Convergence of Muon in LoRA-Style Matrix Factorization.

Kang, Yun, Shin, Cho, Yun 2026, arXiv 2602.06385.
"""

from claims.uniform_spectral_growth import (
    classes,
    closed_form_claims,
    conservation,
    convergence,
    discrete,
    excess_rank,
    finetuning,
    growth,
    landscape,
    lockstep,
    order,
    order_limit,
)

CLAIMS = (
    *closed_form_claims.CLAIMS,
    *growth.CLAIMS,
    *order.CLAIMS,
    *order_limit.CLAIMS,
    *conservation.CLAIMS,
    *landscape.CLAIMS,
    *convergence.CLAIMS,
    *discrete.CLAIMS,
    *lockstep.CLAIMS,
    *excess_rank.CLAIMS,
    *classes.CLAIMS,
    *finetuning.CLAIMS,
)
