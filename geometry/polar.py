"""Polar factors: exact, smoothed, and by every iteration of the orthogonaliser table."""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
from torch import Tensor

from geometry.certified_polar import certified_polar_factor
from geometry.error_bound import cast_bound, gram_route_bound, svd_route_bound
from geometry.errors import (
    require_finite,
    require_matrices,
    require_nonnegative,
    require_positive,
    require_share,
)
from geometry.names import unknown_name
from geometry.newton_schulz import newton_schulz
from geometry.orthogonalizers import orthogonalizer_named
from geometry.scaling import compute_dtype, power_of_two_factors, power_of_two_normalize
from geometry.smoothing import Smoothing, beta_tensor, smoothed_inverse_root, smoothing_named

__all__ = ["msign", "orthogonalize", "smoothed_inverse_root", "smoothed_msign"]

Route = Literal["auto", "gram", "svd"]
ROUTES = ("auto", "gram", "svd")


def msign(G: Tensor, *, rank_cutoff: float | None = None) -> Tensor:
    """Exact polar factor U V^T of G = U S V^T, by SVD.

    Singular directions with s_i <= rank_cutoff * s_1 are dropped, so the result is a partial
    isometry and msign(0) = 0. Each matrix is first scaled by an exact power of two: msign(2^j G)
    has the bits of msign(G) as long as 2^j G is exact.

    Args:
        G: (..., m, n), finite. float16 and bfloat16 compute in float32 and are cast back.
        rank_cutoff: relative cut-off in [0, 1); by default max(m, n) * eps of the dtype in which
            the SVD is computed, the level below which rounding makes directions arbitrary.

    Returns:
        (..., m, n), dtype and device of G.

    Raises:
        ValueError: not a floating (..., m, n) tensor, NaN or infinite entries, cut-off not
            in [0, 1).

    Reference:
        Higham, Functions of Matrices, chapter 8; the LMO of the spectral norm up to its sign.
    """
    require_matrices("G", G)
    require_finite("G", G)
    if rank_cutoff is not None:
        require_share("rank_cutoff", rank_cutoff)
    X = power_of_two_normalize(G.to(compute_dtype(G.dtype)))
    return _by_svd(X, rank_cutoff).to(G.dtype)


def _by_svd(X: Tensor, rank_cutoff: float | None = None) -> Tensor:
    """`msign` of X that is finite and has been scaled."""
    if rank_cutoff is None:
        rank_cutoff = max(X.shape[-2:]) * torch.finfo(X.dtype).eps
    wide = X.shape[-2] < X.shape[-1]
    # LAPACK's driver takes four times as long on the transpose of a thin matrix.
    U, s, Vh = torch.linalg.svd(X.mT if wide else X, full_matrices=False)
    kept = (s > rank_cutoff * s[..., :1]).to(s.dtype)
    factor: Tensor = (U * kept.unsqueeze(-2)) @ Vh
    return factor.mT if wide else factor


@overload
def smoothed_msign(
    G: Tensor,
    beta: float | Tensor,
    *,
    smoothing: str = ...,
    route: Route = ...,
    tolerance: float | None = ...,
    return_error_bound: Literal[False] = ...,
) -> Tensor: ...
@overload
def smoothed_msign(
    G: Tensor,
    beta: float | Tensor,
    *,
    smoothing: str = ...,
    route: Route = ...,
    tolerance: float | None = ...,
    return_error_bound: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def smoothed_msign(
    G: Tensor,
    beta: float | Tensor,
    *,
    smoothing: str = "sqrt",
    route: Route = "auto",
    tolerance: float | None = None,
    return_error_bound: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Smoothed polar factor T_beta(G) = U f(S) V^T of G = U S V^T.

    f(s) = s / sqrt(s^2 + beta^2) for "sqrt", so T_beta(G) = G (G^T G + beta^2 I)^(-1/2), and
    f(s) = tanh(s / beta) for "tanh". beta = 0 is the exact polar factor `msign(G)`.

    The Gram route needs one eigh of the smaller Gram matrix, the SVD route one SVD of G. With
    eps = beta / ||G|| and u the unit roundoff, their errors are of order u / eps^2 and u / eps;
    `geometry.error_bound` derives the bounds with their constants, in which the certain upper
    bound ||G||_F stands for ||G||. route="auto" takes, matrix by matrix, Gram where its bound is
    <= tolerance and SVD elsewhere, so a batch gets what its slices would get.

    Cost: with an explicit route and no bound, only shapes and beta are checked, nothing is scaled
    and a device is never waited for: G must be finite, and ||G||^2 must not overflow (in the Gram
    route). "auto" and the bound check finiteness and scale each matrix by an exact power of two.

    Args:
        G: (..., m, n). float16 and bfloat16 compute in float32 and are cast back.
        beta: smoothing scale >= 0, or a tensor of scales > 0 that broadcasts to the batch shape
            (checking a tensor waits for its device).
        smoothing: a name in `geometry.smoothing.SMOOTHINGS`.
        route: "auto", "gram" or "svd".
        tolerance: largest acceptable Gram bound in the Frobenius norm for route="auto"; by default
            the square root of the computing dtype's eps.
        return_error_bound: also return the a-priori bound of the route taken.

    Returns:
        T: (..., m, n), dtype and device of G; with return_error_bound, also a tensor of the batch
        shape that bounds ||T - exact||_F, in the computing dtype. At beta = 0 it is inf: the polar
        factor is discontinuous at rank-deficient matrices, so no a-priori bound exists.

    Raises:
        ValueError: not a floating (..., m, n) tensor, negative or NaN beta, unknown smoothing or
            route, tolerance <= 0; for "auto" or a bound, NaN or infinite entries.
    """
    require_matrices("G", G)
    declared = smoothing_named(smoothing)
    if route not in ROUTES:
        raise unknown_name("route", route, ROUTES)
    if tolerance is not None:
        require_positive("tolerance", tolerance)
    if not isinstance(beta, Tensor):
        require_nonnegative("beta", beta)
        if beta == 0:
            T = msign(G)
            bound = G.new_full(G.shape[:-2], math.inf, dtype=compute_dtype(G.dtype))
            return (T, bound) if return_error_bound else T
    X = G.to(compute_dtype(G.dtype))
    if route == "auto" or return_error_bound:
        if tolerance is None:
            tolerance = torch.finfo(X.dtype).eps ** 0.5
        require_finite("G", G)
        T, bound = _bounded_smoothed_msign(X, beta, declared, route, tolerance, G.dtype)
        T = T.to(G.dtype)
        return (T, bound) if return_error_bound else T
    if route == "gram":
        return _gram_route(X, beta, declared).to(G.dtype)
    return _svd_route(X, beta_tensor(beta, X), declared).to(G.dtype)


def _gram_route(X: Tensor, beta: float | Tensor, smoothing: Smoothing) -> Tensor:
    """G f(G^T G), or f(G G^T) G when that Gram matrix is the smaller one."""
    if X.shape[-2] >= X.shape[-1]:
        return X @ smoothed_inverse_root(X.mT @ X, beta, smoothing.name)
    return smoothed_inverse_root(X @ X.mT, beta, smoothing.name) @ X


def _svd_route(X: Tensor, beta: Tensor, smoothing: Smoothing) -> Tensor:
    """U f(S) V^T, with beta of shape () or (..., 1)."""
    U, s, Vh = torch.linalg.svd(X, full_matrices=False)
    T: Tensor = (U * smoothing.on_singular_values(s, beta).unsqueeze(-2)) @ Vh
    return T


def _bounded_smoothed_msign(
    X: Tensor,
    beta: float | Tensor,
    smoothing: Smoothing,
    route: Route,
    tolerance: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Scale, bound, choose the route of each matrix, compute; `dtype` is that of the result."""
    m, n = X.shape[-2:]
    batch = X.shape[:-2]
    info = torch.finfo(X.dtype)
    lift, factor = power_of_two_factors(X)
    scales = beta_tensor(beta, X).unsqueeze(-1) * lift * factor
    # The clamp keeps beta > 0 and finite after scaling; the bounds count its effect.
    scales = scales.clamp(info.tiny, info.max / 16).expand(*batch, 1, 1).reshape(-1)
    X = (X * lift * factor).reshape(-1, m, n)

    x = torch.linalg.matrix_norm(X) / scales
    gram_bound = gram_route_bound(x, m, n, smoothing.gram_sensitivity)
    svd_bound = svd_route_bound(x, m, n)
    if route == "auto":
        use_gram = gram_bound <= tolerance
    else:
        use_gram = torch.full_like(x, route == "gram", dtype=torch.bool)

    T = torch.empty_like(X)
    if bool(use_gram.any()):
        T[use_gram] = _gram_route(X[use_gram], scales[use_gram], smoothing)
    if not bool(use_gram.all()):
        by_svd = ~use_gram
        T[by_svd] = _svd_route(X[by_svd], scales[by_svd].unsqueeze(-1), smoothing)
    bound = torch.where(use_gram, gram_bound, svd_bound) + cast_bound(x, m, n, dtype)
    return T.reshape(*batch, m, n), bound.reshape(batch)


def orthogonalize(
    G: Tensor, method: str = "polar_express", steps: int | None = None, **parameters: float
) -> Tensor:
    """Polar factor of G by any method of `geometry.orthogonalizers.ORTHOGONALIZERS`.

    "svd" is exact (`msign`), and so is "certified": by products where their residual shows that
    they have an SVD's backward error, by SVD elsewhere, which are matrices with singular values of
    1e-3 ||G||_F or less. Of many matrices of 8 x 10 it takes less than half the time; of 3 x 10 as
    long. The others normalise by the Frobenius norm (0 stays 0) and compose
    odd polynomials on the singular values, with all matrix products in G's dtype; how close the
    result is depends on method, steps and the smallest s_i / ||G||_F.

    Args:
        G: (..., m, n), finite, any floating dtype.
        method: "svd", "certified", "cubic", "quintic", "quintic_steep", "muon", "polar_express",
            "cans" or "lora_muon".
        steps: number of polynomials; None is the method's own default, 5, and 8 for "lora_muon".
            The exact ones have none and ignore it. "polar_express" and "cans" derive their
            composition for exactly this many steps. "lora_muon" is a table of 8: fewer take its
            beginning, which has not converged, and more are an error.
        parameters: "polar_express": lower_bound=1e-3, cushion=0.02, safety=1.01; "cans":
            lower_bound=1e-3; see `geometry.minimax`.

    Returns:
        (..., m, n), dtype and device of G.

    Raises:
        ValueError: not a finite floating (..., m, n) tensor; unknown method or parameter, or one
            out of range; steps not a positive int or beyond a finite table.
    """
    declared = orthogonalizer_named(method)
    polynomials = declared.polynomials(steps, **parameters)
    require_matrices("G", G)
    require_finite("G", G)
    if declared.coefficients is not None:
        return newton_schulz(G, polynomials)
    X = power_of_two_normalize(G.to(compute_dtype(G.dtype)))
    return _EXACT[method](X).to(G.dtype)


def orthogonalize_scaled(
    X: Tensor, method: str = "svd", steps: int | None = None, **parameters: float
) -> Tensor:
    """`orthogonalize` of matrices that are finite and of a common size, which is not looked at.

    Args:
        X: (..., m, n) in float32 or float64, entries far within the exponent range.
        method, steps, parameters: as for `orthogonalize`.

    Returns:
        (..., m, n), dtype and device of X.

    Raises:
        ValueError: as for `orthogonalize`, of method, steps and parameters.
    """
    declared = orthogonalizer_named(method)
    polynomials = declared.polynomials(steps, **parameters)
    return _EXACT[method](X) if declared.coefficients is None else newton_schulz(X, polynomials)


def _certified(X: Tensor) -> Tensor:
    """`msign` of X that is finite and has been scaled."""
    wide = X.shape[-2] <= X.shape[-1]
    factor, certified = certified_polar_factor(X if wide else X.mT)
    factor = factor if wide else factor.mT
    if not bool(certified.all()):
        factor[~certified] = _by_svd(X[~certified])
    return factor


_EXACT = {"svd": _by_svd, "certified": _certified}
