"""Low-rank orthogonalization, with the Nesterov momentum of Muon and its rates.

He, Deng, Lu 2025, Low-rank Orthogonalization for Large-scale Matrix Optimization, arXiv 2509.11983;
Choudhury et al. 2026, Muon with Nesterov Momentum: Heavy-Tailed Noise and (Randomized) Inexact
Polar Decomposition, arXiv 2605.06884; Peng, Wang, Yu, Convergence of Practical Muon.
"""

from claims.low_rank_orthogonalization import descent, descent_rate, practical

CLAIMS = (*descent.CLAIMS, *descent_rate.CLAIMS, *practical.CLAIMS)
