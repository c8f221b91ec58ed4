"""The spectral norm of a tensor, from below: the higher-order power method with many restarts."""

from __future__ import annotations

import torch
from torch import Tensor

from geometry.errors import require_finite, require_positive, require_positive_int
from geometry.scaling import compute_dtype, power_of_two_factors
from geometry.unfolding import require_tensors, unfold


def spectral_norm_from_below(
    X: Tensor,
    order: int | None = None,
    *,
    restarts: int = 100,
    iterations: int = 300,
    tolerance: float = 1e-13,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A lower bound on ||X||_sigma = max <X, x_1 o ... o x_d> over unit vectors.

    To find it is NP-hard from order 3 on. Each start ascends monotonically by one mode after the
    other, x_k <- X contracted with the other vectors, normalised, to a point that no single vector
    can improve; the best of all is returned. That is a value of the maximised function, so never
    above the norm beyond round-off, and how far below it may be is not known. Of (8, 8, 8) one
    Gaussian start in eight or so finds the best.

    Args:
        X: (..., n_1, ..., n_d), finite; half precisions compute in float32.
        order: d; None is all dimensions.
        restarts: Gaussian starts of every tensor, beside the one from the largest singular vectors
            of the single-mode unfoldings.
        iterations: most sweeps over the modes; they end once none gained ``tolerance``, relative.
        generator: of the starts, on the CPU; None is seed 0.

    Returns:
        (...) in the computing dtype.

    Raises:
        ValueError: as `geometry.tensor.require_tensors`; entries that are not finite; numbers out
            of range.

    Reference:
        De Lathauwer, De Moor, Vandewalle, On the best rank-1 and rank-(R_1, ..., R_N)
        approximation of higher-order tensors, SIAM J. Matrix Anal. Appl. 21, 2000.
    """
    order = require_tensors("X", X, order)
    require_finite("X", X)
    for name, number in (("restarts", restarts), ("iterations", iterations)):
        require_positive_int(name, number)
    require_positive("tolerance", tolerance)
    batch, shape = X.shape[:-order], X.shape[-order:]
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    X = X.to(compute_dtype(X.dtype)).reshape(-1, *shape)
    # Squares are taken on the way; the norm is homogeneous.
    lift, factor = (x.unflatten(-1, (1,) * (order - 1)) for x in power_of_two_factors(X.flatten(2)))
    X = X * lift * factor
    single = [unfold(X, (mode,), order) for mode in range(order)]
    vectors = []
    for mode, size in enumerate(shape):
        drawn = torch.randn(
            len(X), size, restarts, generator=generator, dtype=torch.float64
        ).to(X)  # fmt: skip
        leading = torch.linalg.svd(single[mode], full_matrices=False).U[..., :1]
        vectors.append(_unit(torch.cat([leading, drawn], -1)))
    value = X.new_zeros(len(X), restarts + 1)
    for _ in range(iterations):
        before = value
        for mode in range(order):
            others = [vectors[k] for k in range(order) if k != mode]
            moved = single[mode] @ _products(others)
            value = torch.linalg.vector_norm(moved, dim=-2)
            vectors[mode] = _unit(moved)
        if bool((value - before <= tolerance * value).all()):
            break
    return (value.amax(-1) / lift.flatten() / factor.flatten()).reshape(batch)


def _unit(vectors: Tensor) -> Tensor:
    """Columns (B, n, R) of norm one; zero stays zero."""
    return torch.nn.functional.normalize(vectors, dim=-2, eps=torch.finfo(vectors.dtype).tiny)


def _products(vectors: list[Tensor]) -> Tensor:
    """Column by column the outer product of (B, n, R) each, in C order: (B, prod n, R)."""
    result = vectors[0]
    for other in vectors[1:]:
        result = (result[:, :, None] * other[:, None]).flatten(1, 2)
    return result
