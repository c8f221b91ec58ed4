"""Sketches: orthonormal bases of a part of the range, and the polar factor within it.

The low-rank polar factor of M is Q msign(Q^T M) = msign(Q Q^T M), Q an orthonormal basis that a
sketch of M spans. Directions that a sketch does not determine, because columns were drawn twice or
the rank of M is exceeded, are left out, never filled up with arbitrary ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from geometry.errors import (
    require_finite,
    require_matrices,
    require_nonnegative_int,
    require_positive_int,
    require_share,
)
from geometry.names import unknown_name
from geometry.polar import orthogonalize_scaled
from geometry.scaling import compute_dtype, power_of_two_factors, scaled_product

Factors = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Sketch:
    """One way to draw l vectors of the range of an m x n matrix.

    Attributes:
        name: the name that selects it.
        draws: (n, l) -> the shape of the uniform numbers that it takes for one matrix.
        columns: (M (..., m, n), uniforms, l, its ``power_of_two_factors``) -> Y (..., m, l).
        source: the paper that defines it.
    """

    name: str
    draws: Callable[[int, int], tuple[int, ...]]
    columns: Callable[[Tensor, Tensor, int, Factors], Tensor]
    source: str


def _chosen(M: Tensor, indices: Tensor, factors: Factors) -> Tensor:
    """The columns of first second M at indices (..., l)."""
    first, second = factors
    return M.gather(-1, indices.unsqueeze(-2).expand(*M.shape[:-1], -1)) * first * second


def _uniform_columns(M: Tensor, uniforms: Tensor, count: int, factors: Factors) -> Tensor:
    # The places of the least of n numbers: without replacement, each set as likely as any other.
    return _chosen(M, uniforms.topk(count, largest=False).indices, factors)


def _weighted_columns(M: Tensor, uniforms: Tensor, count: int, factors: Factors) -> Tensor:
    first, second = factors
    squares = (M * first).mul_(second).square_().sum(-2, dtype=torch.float64)
    total = squares.sum(-1, keepdim=True)
    ends = squares.cumsum(-1)
    ends = ends / torch.where(total > 0, ends[..., -1:], 1.0)
    # To the right of equal ends: a column of norm 0 is never drawn.
    indices = torch.searchsorted(ends, uniforms.double().contiguous(), right=True)
    indices = indices.clamp(max=M.shape[-1] - 1)
    probabilities = squares.gather(-1, indices) / torch.where(total > 0, total, 1.0)
    scale = torch.where(probabilities > 0, (count * probabilities).rsqrt(), 0.0)
    return _chosen(M, indices, factors) * scale.unsqueeze(-2).to(M.dtype)


def _gaussian_sketch(M: Tensor, uniforms: Tensor, count: int, factors: Factors) -> Tensor:
    return scaled_product(M, torch.special.ndtri(uniforms).to(M.dtype), factors)


_DECLARED = (
    Sketch(
        "columns",
        lambda n, count: (n,),
        _uniform_columns,
        "l columns drawn uniformly without replacement: He, Deng, Lu, arXiv 2509.11983",
    ),
    Sketch(
        "weighted",
        lambda n, count: (count,),
        _weighted_columns,
        "columns drawn by squared norm, with replacement, over sqrt(l p_j): Frieze, Kannan, "
        "Vempala, J. ACM 51, 2004",
    ),
    Sketch(
        "gaussian",
        lambda n, count: (n, count),
        _gaussian_sketch,
        "M Omega, Omega standard normal: Halko, Martinsson, Tropp, SIAM Review 53, 2011",
    ),
)

SKETCHES: Mapping[str, Sketch] = MappingProxyType({s.name: s for s in _DECLARED})


def sketch_named(method: str) -> Sketch:
    """Look a sketch up by name; an unknown name is a ValueError."""
    try:
        return SKETCHES[method]
    except KeyError:
        raise unknown_name("sketch", method, SKETCHES) from None


def require_sketch_sizes(
    m: int, n: int, rank: int, oversampling: int = 0, power_iterations: int = 0
) -> None:
    """Raise ValueError unless m x n matrices have rank + oversampling vectors to be drawn."""
    require_positive_int("rank", rank)
    for name, value in (("oversampling", oversampling), ("power_iterations", power_iterations)):
        require_nonnegative_int(name, value)
    if rank + oversampling > min(m, n):
        raise ValueError(
            f"rank + oversampling must be at most min(m, n) = {min(m, n)} for {m} x {n} matrices, "
            f"got {rank} + {oversampling}; at full rank there is nothing to sketch: use msign"
        )


def orthonormal_basis(Y: Tensor, rank_cutoff: float | None = None) -> Tensor:
    """An orthonormal basis of the columns of Y, by QR; what they do not span is zero columns.

    QR leaves a column to rounding where it depends on those before it. Matrices in which no
    singular value lies below the cut-off take Q as it is. The others take the left singular
    vectors of R above the cut-off, and zeros for the rest.

    Args:
        Y: (..., m, l), m >= l, float32 or float64, finite.
        rank_cutoff: relative to the largest singular value, in [0, 1); by default
            m * eps of the dtype.

    Returns:
        (..., m, l): Q with Q^T Q diagonal, of ones and then zeros.

    Raises:
        ValueError: not a floating (..., m, l) with m >= l, cut-off not in [0, 1).
    """
    require_matrices("Y", Y)
    if Y.shape[-2] < Y.shape[-1]:
        raise ValueError(f"Y must have shape (..., m, l) with m >= l, got shape {tuple(Y.shape)}")
    if rank_cutoff is None:
        rank_cutoff = Y.shape[-2] * torch.finfo(Y.dtype).eps
    else:
        require_share("rank_cutoff", rank_cutoff)
    Q, R = torch.linalg.qr(Y)
    deficient = _may_lie_below(rank_cutoff, R)
    if bool(deficient.any()):
        U, s, _ = torch.linalg.svd(R[deficient])
        kept = (s > rank_cutoff * s[..., :1]).to(s.dtype)
        Q[deficient] = Q[deficient] @ (U * kept.unsqueeze(-2))
    return Q


def _may_lie_below(cutoff: float, R: Tensor) -> Tensor:
    """Of triangular R (..., l, l), whether its least singular value may lie below the cut-off.

    Of R with ||R||_F = 1 the least is at least |det R| (l - 1)^((l-1)/2): the others multiply to no
    more than their root mean square to the power l - 1. That tells where l is small. 1 / ||R^-1||_F
    is at most the least, ||R||_F at least the largest, and (sum s^4)^(1/4), which takes a product,
    is nearer to both. The diagonal alone does not tell: the least singular value can be far below
    all of it.
    """
    l = R.shape[-1]  # noqa: E741
    diagonal, length = R.diagonal(dim1=-2, dim2=-1), torch.linalg.matrix_norm(R)
    determinant = (diagonal / length.unsqueeze(-1)).prod(-1).abs_()
    # Twice, for what the determinant was rounded by. NaN, of a zero matrix, is not larger.
    above = determinant > 2 * cutoff * math.exp(-(l - 1) / 2 * math.log(max(1, l - 1)))
    if bool(above.all()):
        return ~above
    identity = torch.eye(R.shape[-1], dtype=R.dtype, device=R.device).expand_as(R)
    inverse = torch.linalg.solve_triangular(R, identity, upper=True)
    least, largest = torch.linalg.matrix_norm(inverse).reciprocal(), length
    # A singular R has an inverse of infinities or NaN, which are not larger.
    below = ~(above | (least > cutoff * largest))
    if bool(below.any()):
        least, largest = (torch.linalg.matrix_norm(X.mT @ X).sqrt() for X in (inverse, R))
        below &= ~(least.reciprocal() > cutoff * largest)
    return below


def range_basis(
    M: Tensor,
    rank: int,
    method: str = "gaussian",
    *,
    oversampling: int = 0,
    power_iterations: int = 0,
    generator: torch.Generator | None = None,
    uniforms: Tensor | None = None,
    rank_cutoff: float | None = None,
) -> Tensor:
    """An orthonormal basis of l = rank + oversampling vectors drawn from the range of M.

    With h power iterations it spans (M M^T)^h Y of the drawn Y, and every product by M or M^T is
    made orthonormal before the next: without that, what is smaller than u^(1 / (2 h + 1)) of the
    largest singular value is lost to rounding.

    Args:
        M: (..., m, n), finite. float16 and bfloat16 compute in float32; every matrix is scaled by
            a power of two first, so nothing overflows on the way.
        rank, oversampling: at least 1 and 0, together at most min(m, n).
        method: "columns", "weighted" or "gaussian"; see ``SKETCHES``.
        power_iterations: h >= 0.
        generator: what is drawn from, on its own device, in float64; or instead
        uniforms: numbers in (0, 1), float64, ``sketch_named(method).draws(n, l)`` behind dimensions
            that broadcast to the batch, on M's device.
        rank_cutoff: as in ``orthonormal_basis``; by default max(m, n) * eps.

    Returns:
        (..., m, l) in the computing dtype; zero columns, the last of all, where the sketch has less
        than l dimensions.

    Raises:
        ValueError: no finite floating (..., m, n); sizes out of their ranges; an unknown method;
            not exactly one of generator and uniforms; uniforms of another shape or beyond (0, 1).

    Reference:
        Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithms 4.1 and 4.4.
    """
    require_matrices("M", M)
    require_finite("M", M)
    m, n = M.shape[-2:]
    require_sketch_sizes(m, n, rank, oversampling, power_iterations)
    sketch, count = sketch_named(method), rank + oversampling
    drawn = _drawn(sketch, M, count, generator, uniforms)
    X = M.to(compute_dtype(M.dtype))
    return _basis(X, power_of_two_factors(X), sketch, drawn, count, power_iterations, rank_cutoff)


def _basis(
    X: Tensor,
    factors: Factors,
    sketch: Sketch,
    drawn: Tensor,
    count: int,
    power_iterations: int,
    rank_cutoff: float | None,
) -> Tensor:
    m, n = X.shape[-2:]
    if rank_cutoff is None:
        rank_cutoff = max(m, n) * torch.finfo(X.dtype).eps
    Q = orthonormal_basis(sketch.columns(X, drawn, count, factors), rank_cutoff)
    for _ in range(power_iterations):
        for side in (X.mT, X):
            Q = orthonormal_basis(scaled_product(side, Q, factors), rank_cutoff)
    return Q


def _drawn(
    sketch: Sketch,
    M: Tensor,
    count: int,
    generator: torch.Generator | None,
    uniforms: Tensor | None,
) -> Tensor:
    batch, shape = M.shape[:-2], sketch.draws(M.shape[-1], count)
    if generator is not None and uniforms is None:
        drawn = torch.rand(
            *batch, *shape, generator=generator, device=generator.device, dtype=torch.float64
        )
        # torch.rand may give 0, of which the normal quantile is infinite.
        return drawn.clamp_(min=2.0**-54).to(M.device)
    if uniforms is not None and generator is None:
        try:
            drawn = uniforms.expand(*batch, *shape)
        except RuntimeError:
            raise ValueError(
                f"uniforms of sketch {sketch.name!r} must broadcast to {(*batch, *shape)}, "
                f"got shape {tuple(uniforms.shape)}"
            ) from None
        if not uniforms.numel():
            return drawn
        least, most = (float(end) for end in uniforms.aminmax())
        if not 0 < least <= most < 1:
            raise ValueError(f"uniforms must lie in (0, 1), got {least} to {most}")
        return drawn
    given = "neither" if generator is None else "both"
    raise ValueError(f"one of generator and uniforms is expected, got {given}")


def projected_msign(
    Q: Tensor, M: Tensor, method: str = "svd", steps: int | None = None, **parameters: float
) -> Tensor:
    """Q O(Q^T M): for the exact polar factor O = msign it is msign(Q Q^T M).

    Args:
        Q: (..., m, l), orthonormal or zero columns.
        M: (..., m, n), in Q's dtype, finite, of any scale.
        method, steps, parameters: of O, as for `geometry.polar.orthogonalize`.

    Returns:
        (..., m, n).
    """
    return _projected(Q, M, power_of_two_factors(M), method, steps, **parameters)


def _projected(
    Q: Tensor, X: Tensor, factors: Factors, method: str, steps: int | None, **parameters: float
) -> Tensor:
    inner = scaled_product(X.mT, Q, factors).mT
    return Q @ orthogonalize_scaled(inner, method, steps, **parameters)


def low_rank_msign(
    M: Tensor,
    rank: int,
    method: str = "gaussian",
    *,
    oversampling: int = 0,
    power_iterations: int = 0,
    orthogonalizer: str = "svd",
    steps: int | None = None,
    generator: torch.Generator | None = None,
    uniforms: Tensor | None = None,
    rank_cutoff: float | None = None,
) -> Tensor:
    """The polar factor of M within a sketched part of its range, Q msign(Q^T M).

    A tall M is transposed before and after: columns are drawn from the larger dimension, and Q has
    the rows of the smaller. All singular values are 1 or 0, l = rank + oversampling of them 1 at
    most; <M, O> is the nuclear norm of Q^T M. Where rank(M) <= l it is msign(M).

    Args:
        M, rank, method, oversampling, power_iterations, generator, rank_cutoff: as for
            ``range_basis``.
        orthogonalizer, steps: what orthogonalises Q^T M, a name in
            `geometry.orthogonalizers.ORTHOGONALIZERS`, in the computing dtype.
        uniforms: as for ``range_basis``, with n the larger dimension.

    Returns:
        (..., m, n), dtype and device of M.

    Raises:
        ValueError: as ``range_basis`` and `geometry.polar.orthogonalize`.

    Reference:
        He, Deng, Lu, arXiv 2509.11983.
    """
    require_matrices("M", M)
    tall = M.shape[-2] > M.shape[-1]
    wide = M.mT if tall else M
    require_finite("M", wide)
    m, n = wide.shape[-2:]
    require_sketch_sizes(m, n, rank, oversampling, power_iterations)
    sketch, count = sketch_named(method), rank + oversampling
    drawn = _drawn(sketch, wide, count, generator, uniforms)
    X = wide.to(compute_dtype(M.dtype))
    # Once for both: they take most of the time where matrices are small.
    factors = power_of_two_factors(X)
    Q = _basis(X, factors, sketch, drawn, count, power_iterations, rank_cutoff)
    factor = _projected(Q, X, factors, orthogonalizer, steps)
    return (factor.mT if tall else factor).to(M.dtype)
