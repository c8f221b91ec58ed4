"""The velocity of SpecGF as a peer's user would write it: dense target, two small eigensolves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def velocity(
    B: Any, A: Any, target: Any, beta: float, eigh: Callable[..., Any], stack: Callable[..., Any]
) -> tuple[Any, Any]:
    """(dB/dt, dA/dt) for NumPy, torch and JAX arrays alike, any leading batch dimensions.

    G (G^T G + beta^2)^(-1/2), both r x r Gram matrices in one eigensolve; the residual B A - Y is
    never formed.
    """
    G_B = B @ (A @ A.mT) - target @ A.mT
    G_A = (B.mT @ B) @ A - B.mT @ target
    values, vectors = eigh(stack([G_B.mT @ G_B, G_A @ G_A.mT]))
    # Eigenvalues are nonnegative but for round-off, far below beta^2.
    root = (vectors * ((values + beta**2) ** -0.5)[..., None, :]) @ vectors.mT
    return -(G_B @ root[0]), -(root[1] @ G_A)
