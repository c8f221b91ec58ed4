"""RiemannLoRA and Riemannion: LoRA on the manifold of matrices of fixed rank.

Bogachev, Aletov, Molozhavenko, Bobkov, Soboleva, Alanov, Rakhuba, RiemannLoRA: A Unified Riemannian
Framework for Ambiguity-Free LoRA Optimization, arXiv 2507.12142; its second version is LoRA meets
Riemannion.
"""

from claims.riemannlora import first_step, fixed_rank, one_backward, optimal_start, riemannion

CLAIMS = (
    *fixed_rank.CLAIMS,
    *optimal_start.CLAIMS,
    *one_backward.CLAIMS,
    *first_step.CLAIMS,
    *riemannion.CLAIMS,
)
