"""Conserved and dissipated quantities of the flows, as functions of the factors.

All take factors B (..., m, r) and A (..., r, n), in ambient or reduced coordinates alike.
"""

from __future__ import annotations

import torch
from torch import Tensor


def imbalance(B: Tensor, A: Tensor) -> Tensor:
    """B^T B - A A^T, (..., r, r): conserved by gradient flow, driven to 0 by coupled l2."""
    return B.mT @ B - A @ A.mT


def dissipation(gradient: Tensor, velocity: Tensor) -> Tensor:
    """-dL/dt = -<gradient, velocity>, over the last two axes."""
    return -(gradient * velocity).sum((-2, -1))


def smoothed_dissipation(G_B: Tensor, G_A: Tensor, beta: float) -> Tensor:
    """sum_k s_k^2 / sqrt(s_k^2 + beta^2) over the singular values of both gradients, (...).

    With beta = 0 it is the sum of both nuclear norms.

    It is -dL/dt of SpecGF with the square-root smoothing: <G, T_beta(G)> = sum_k s_k phi(s_k).
    """
    total = []
    for gradient in (G_B, G_A):
        s = torch.linalg.svdvals(gradient)
        share = s / torch.hypot(s, s.new_tensor(beta)).clamp_min(torch.finfo(s.dtype).tiny)
        total.append((s * share).sum(-1))
    return total[0] + total[1]


def imbalance_identity(
    B: Tensor,
    A: Tensor,
    velocity_B: Tensor,
    velocity_A: Tensor,
    G_B: Tensor,
    G_A: Tensor,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """The two sides, (..., r, r), of B^T dB/dt P_B = P_A dA/dt A^T.

    P_B = (G_B^T G_B + beta^2)^(1/2) and P_A = (G_A G_A^T + beta^2)^(1/2). SpecGF satisfies it: both
    sides are -B^T G_B = -G_A A^T = -B^T E A^T. For gradient flow the weights are absent, and the
    same two terms give the conservation of B^T B - A A^T.
    """
    left = B.mT @ velocity_B @ _symmetric_root(_shifted(G_B.mT @ G_B, beta))
    right = _symmetric_root(_shifted(G_A @ G_A.mT, beta)) @ velocity_A @ A.mT
    return left, right


def _shifted(gram: Tensor, beta: float) -> Tensor:
    return gram + beta**2 * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def _symmetric_root(gram: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(gram)
    return (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.mT
