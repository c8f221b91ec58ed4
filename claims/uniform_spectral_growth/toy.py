"""The toy problem of the paper and the values its claims share.

Kang, Yun, Shin, Cho, Yun 2026, Uniform Spectral Growth and Convergence of Muon in LoRA-Style
Matrix Factorization, arXiv 2602.06385. The paper writes the product the other way round; B is the
m x r left factor throughout.
"""

from __future__ import annotations

from flows import MatrixFactorization

PAPER = "usg"
REFERENCE = "arXiv 2602.06385"
SINGULAR_VALUES = (5.0, 4.0, 3.0, 2.0, 1.0)
GAMMA = 1e-3
ARRIVED = 0.9


def toy(seed: int, *, l2: float = 0.0, rank: int = 5) -> MatrixFactorization:
    """60 x 70, singular values 5, 4, 3, 2, 1, factors of rank 5."""
    return MatrixFactorization.planted(
        m=60, n=70, singular_values=SINGULAR_VALUES, rank=rank, seed=seed, l2=l2
    )
