"""RiemannLoRA and Riemannion: LoRA on the manifold of matrices of fixed rank.

Bogachev, Aletov, Molozhavenko, Bobkov, Soboleva, Alanov, Rakhuba, RiemannLoRA: A Unified Riemannian
Framework for Ambiguity-Free LoRA Optimization, arXiv 2507.12142; its second version is LoRA meets
Riemannion.
"""

from claims.riemannlora import (
    descent,
    first_step,
    fixed_rank,
    gauge,
    one_backward,
    optimal_start,
    riemannion,
    symmetries,
)

CLAIMS = (
    *fixed_rank.CLAIMS,
    *gauge.CLAIMS,
    *symmetries.CLAIMS,
    *descent.CLAIMS,
    *optimal_start.CLAIMS,
    *one_backward.CLAIMS,
    *first_step.CLAIMS,
    *riemannion.CLAIMS,
)
