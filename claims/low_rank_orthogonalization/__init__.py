"""Low-rank orthogonalisation, with the convergence of Muon by inexact polar factors.

He, Deng, Lu, Low-rank Orthogonalization for Large-scale Matrix Optimization, arXiv 2509.11983;
Choudhury et al. 2026, Muon with Nesterov Momentum: Heavy-Tailed Noise and (Randomized) Inexact
Polar Decomposition, arXiv 2605.06884; Peng, Wang, Yu 2026, Convergence of Practical Muon with
Finite Newton-Schulz Iterations and Nesterov Momentum, arXiv 2609.39595.
"""

from claims.low_rank_orthogonalization import (
    alignment,
    cost,
    descent,
    descent_rate,
    heavy_tails,
    momentum_lemma,
    nesterov,
    orthogonalizers,
    parity,
    practical,
    pretraining,
    robustness,
    sketches,
)

CLAIMS = (
    *sketches.CLAIMS,
    *alignment.CLAIMS,
    *robustness.CLAIMS,
    *descent.CLAIMS,
    *descent_rate.CLAIMS,
    *momentum_lemma.CLAIMS,
    *heavy_tails.CLAIMS,
    *nesterov.CLAIMS,
    *parity.CLAIMS,
    *practical.CLAIMS,
    *orthogonalizers.CLAIMS,
    *cost.CLAIMS,
    *pretraining.CLAIMS,
)
