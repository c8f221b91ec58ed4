"""Smoothed signs of singular values, declared as data, and the filter of a Gram matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from geometry.errors import require_positive, require_square
from geometry.names import unknown_name
from geometry.scaling import compute_dtype

ScalarFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Smoothing:
    """An odd, increasing, 1/beta-Lipschitz replacement for sign with values in (-1, 1).

    All functions act elementwise on (values, beta), with beta > 0 a tensor that broadcasts.

    Attributes:
        name: the name that selects it.
        on_singular_values: s -> f(s), for s >= 0.
        on_gram_eigenvalues: lambda = s^2 -> f(s) / s, with its limit 1 / beta at 0.
        slope: s -> f'(s).
        potential: s -> the integral of f from 0 to s.
        gram_sensitivity: sup over s of (1 - f(s) / s) / s at beta = 1, rounded up. It bounds the
            error that the Gram matrix adds; see `geometry.error_bound`.
        reference: where it comes from.
    """

    name: str
    on_singular_values: ScalarFunction
    on_gram_eigenvalues: ScalarFunction
    slope: ScalarFunction
    potential: ScalarFunction
    gram_sensitivity: float
    reference: str


def _sqrt_sign(s: Tensor, beta: Tensor) -> Tensor:
    return s / torch.hypot(s, beta)


def _sqrt_filter(eigenvalues: Tensor, beta: Tensor) -> Tensor:
    # hypot, not sqrt(lambda + beta^2): beta^2 underflows for a beta that is still normal.
    return torch.hypot(eigenvalues.sqrt(), beta).reciprocal()


def _sqrt_slope(s: Tensor, beta: Tensor) -> Tensor:
    p = torch.hypot(s, beta)
    return (beta / p).square() / p


def _sqrt_potential(s: Tensor, beta: Tensor) -> Tensor:
    # sqrt(s^2 + beta^2) - beta without its cancellation.
    return s * (s / (torch.hypot(s, beta) + beta))


def _tanh_sign(s: Tensor, beta: Tensor) -> Tensor:
    return torch.tanh(s / beta)


def _tanh_filter(eigenvalues: Tensor, beta: Tensor) -> Tensor:
    s = eigenvalues.sqrt()
    return torch.where(s > 0, torch.tanh(s / beta) / s, beta.reciprocal())


def _tanh_slope(s: Tensor, beta: Tensor) -> Tensor:
    return torch.cosh((s / beta).clamp(max=300.0)).square().reciprocal() / beta


def _tanh_potential(s: Tensor, beta: Tensor) -> Tensor:
    z = s.abs() / beta
    # Two forms of log cosh: the first does not cancel near 0, the second does not overflow.
    near_zero = torch.log1p(2 * torch.sinh(z.clamp(max=1.0) / 2).square())
    far = z + torch.log1p(torch.exp(-2 * z)) - math.log(2.0)
    return beta * torch.where(z < 1, near_zero, far)


SMOOTHINGS: Mapping[str, Smoothing] = MappingProxyType(
    {
        "sqrt": Smoothing(
            name="sqrt",
            on_singular_values=_sqrt_sign,
            on_gram_eigenvalues=_sqrt_filter,
            slope=_sqrt_slope,
            potential=_sqrt_potential,
            gram_sensitivity=0.3003,
            reference="gradient of the pseudo-Huber sum (sqrt(s_i^2 + beta^2) - beta); "
            "a form of the smoothed orthogonalisation of Kang et al., arXiv 2602.06385",
        ),
        "tanh": Smoothing(
            name="tanh",
            on_singular_values=_tanh_sign,
            on_gram_eigenvalues=_tanh_filter,
            slope=_tanh_slope,
            potential=_tanh_potential,
            gram_sensitivity=0.2650,
            reference="gradient of the spectral function beta sum log cosh(s_i / beta); "
            "Lewis, The convex analysis of unitarily invariant matrix functions, 1995",
        ),
    }
)


def smoothing_named(name: str) -> Smoothing:
    """Look a smoothing up by name; an unknown name is a ValueError."""
    try:
        return SMOOTHINGS[name]
    except KeyError:
        raise unknown_name("smoothing", name, SMOOTHINGS) from None


def smoothed_inverse_root(gram: Tensor, beta: float | Tensor, smoothing: str = "sqrt") -> Tensor:
    """f(S) for a symmetric positive semidefinite batch S: (S + beta^2 I)^(-1/2) for "sqrt".

    With S = G^T G, `G @ smoothed_inverse_root(S, beta)` is the smoothed polar factor of G. For
    "tanh", f(lambda) = tanh(sqrt(lambda) / beta) / sqrt(lambda). Eigenvalues that rounding made
    negative count as 0, which is the nearest positive semidefinite matrix.

    Args:
        gram: (..., r, r), symmetric; only the lower triangle is read. Half precisions compute in
            float32 and are cast back.
        beta: smoothing scale > 0, or a tensor of them that broadcasts to the batch shape.
        smoothing: a name in `SMOOTHINGS`.

    Returns:
        (..., r, r), symmetric up to rounding.

    Raises:
        ValueError: wrong shape or dtype, beta <= 0, unknown smoothing. Non-finite input is not
            looked for (a hot path): LAPACK raises `torch.linalg.LinAlgError`, CUDA returns NaN.
    """
    require_square("gram", gram)
    S = gram.to(compute_dtype(gram.dtype))
    scale = beta_tensor(beta, S)
    eigenvalues, V = torch.linalg.eigh(S)
    filtered = smoothing_named(smoothing).on_gram_eigenvalues(eigenvalues.clamp_min(0), scale)
    root: Tensor = (V * filtered.unsqueeze(-2)) @ V.mT
    return root.to(gram.dtype)


def beta_tensor(beta: float | Tensor, G: Tensor) -> Tensor:
    """beta in G's dtype, ready to broadcast against per-matrix vectors: shape () or (..., 1).

    Raises:
        ValueError: beta is not a positive normal number of G's dtype (NaN, 0, inf, or so small
            that it would underflow), or a tensor that does not broadcast to G's batch shape.
    """
    info = torch.finfo(G.dtype)
    if not isinstance(beta, Tensor):
        require_positive("beta", beta)
        if not info.tiny <= beta <= info.max:
            raise ValueError(
                f"beta must lie in the normal range [{info.tiny:.3g}, {info.max:.3g}] "
                f"of {G.dtype}, got {beta}"
            )
        # new_full fills on the device: no copy from the host, no wait.
        return G.new_full((), beta)
    scales = beta.to(G)
    if not bool(((scales >= info.tiny) & (scales <= info.max)).all()):
        raise ValueError(
            f"every beta must be finite, > 0 and a normal number of {G.dtype}, got {beta}"
        )
    batch = G.shape[:-2]
    try:
        scales.expand(batch)
    except RuntimeError:
        raise ValueError(
            f"beta must broadcast to the batch shape {tuple(batch)}, got shape {tuple(beta.shape)}"
        ) from None
    return scales.unsqueeze(-1)
