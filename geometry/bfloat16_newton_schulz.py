"""The Newton-Schulz iteration of torch.optim.Muon: bfloat16, with its order of operations."""

from __future__ import annotations

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7
STEPS = 5

# Up to 16^3 multiplications torch has another kernel on the CPU, which sums in another order, and
# it counts those of a whole batch.
ONE_BY_ONE = 16


def bfloat16_newton_schulz(
    G: Tensor,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    steps: int = STEPS,
    eps: float = EPS,
) -> Tensor:
    """A rough polar factor of G, every matrix with the bits that torch.optim.Muon gives it.

    X <- G / max(||G||_F, eps), then `steps` times X <- a X + (b A + c A^2) X with A = X X^T of the
    smaller side, each of the two sums rounded once. With the default coefficients the singular
    values end scattered about 1, see "muon" in `geometry.orthogonalizers`; in bfloat16 they are
    further perturbed by about a hundredth, so the result is not orthogonally equivariant.

    `geometry.newton_schulz` takes the same polynomials in the dtype of its input and with a safe
    norm; this one is for comparisons with the optimiser that people run.

    Args:
        G: (..., m, n), any floating dtype. Not checked: NaN gives NaN, and a norm that overflows
            gives 0, as in torch.
        coefficients: (a, b, c).
        steps: how many.
        eps: smallest divisor; 0 stays 0.

    Returns:
        (..., m, n) in bfloat16, whatever G's dtype; for m > n a transposed view. G is left alone.

    Bits: on the CPU a matrix of a batch has the bits that it has alone. Where the smaller side is
        above 16 the batch is multiplied in one call; smaller matrices are taken one by one, .1 to
        .2 ms each, for torch's choice of kernel goes by the size of the batch.

    Reference:
        Jordan et al., Muon, 2024; torch/optim/_muon.py of torch 2.13.
    """
    m, n = G.shape[-2:]
    X = G.to(torch.bfloat16).reshape(-1, m, n)
    if len(X) == 0:
        return X.reshape(G.shape)
    if m > n:
        X = X.mT
    X = X / torch.linalg.vector_norm(X, dim=(-2, -1), keepdim=True).clamp(min=eps)
    if X.device.type == "cpu" and min(m, n) <= ONE_BY_ONE:
        X = torch.stack([_iterated(matrix, coefficients, steps) for matrix in X])
    else:
        X = _iterated(X, coefficients, steps)
    if m > n:
        X = X.mT
    return X.reshape(G.shape)


def _iterated(X: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """X of shape (m, n) or (k, m, n), m <= n."""
    a, b, c = coefficients
    fused = torch.addmm if X.ndim == 2 else torch.baddbmm
    for _ in range(steps):
        A = X @ X.mT
        B = fused(A, A, A, beta=b, alpha=c)
        X = fused(X, B, X, beta=a)
    return X
