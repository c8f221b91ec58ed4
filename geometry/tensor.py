"""The norm of tensors that Tensorion descends in: its dual, its LMO, the choice of an unfolding.

The norm N has for its unit ball the convex hull of the union over tau of {||X_tau||_2 <= 1}, X_tau
the unfolding with the modes tau as rows: N(X) = min { sum_tau ||(Y_tau)_tau||_2 : sum_tau Y_tau = X
}. Its dual is N*(G) = max_tau ||G_tau||_*, a maximum over the hull being one over what it is the
hull of, and its linear minimisation oracle (LMO) -S, S the polar factor of the unfolding that has
the maximum, folded back.

Reconstructed: of the paper the abstract and second-hand descriptions of Algorithm 1 and Eq. 24 were
to be had. N is the only norm known to us that fits all of them; it is not a quotation.

Reference: Tensorion: A Tensor-Aware Generalization of the Muon Optimizer, arXiv 2606.25975.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from geometry.errors import require_finite
from geometry.polar import msign
from geometry.scaling import compute_dtype, power_of_two_normalize
from geometry.unfolding import (
    Modes,
    distinct_unfoldings,
    fold,
    require_tensors,
    unfold,
    unfolded_shape,
    unfoldings,
)

__all__ = [
    "by_unfolding",
    "dual_norm",
    "fold",
    "offline_unfolding",
    "online_unfolding",
    "tensor_lmo",
    "unfold",
    "unfoldings",
]


def dual_norm(G: Tensor, order: int | None = None) -> Tensor:
    """N*(G) = max_tau ||G_tau||_*, (...); half precisions in float32.

    Raises:
        ValueError: as ``require_tensors``; NaN or infinite entries.
    """
    order = require_tensors("G", G, order)
    require_finite("G", G)
    X = G.to(compute_dtype(G.dtype))
    norms = [_nuclear(unfold(X, modes, order)) for modes in distinct_unfoldings(X.shape[-order:])]
    return torch.stack(norms).amax(0)


def offline_unfolding(shape: Sequence[int]) -> Modes:
    """tau* = argmax min(m_tau, n_tau), the first of equal ones: Eq. 24, as described second-hand.

    Square kernels tie: of (64, 32, 3, 3) it is (0, 2), 192 x 96, and not (0, 3).

    Raises:
        ValueError: a shape of less than two sizes, or with one below 1.
    """
    if min(shape, default=1) < 1:
        raise ValueError(f"shape: sizes of 1 at least are expected; given {tuple(shape)}")
    return max(distinct_unfoldings(shape), key=lambda modes: min(unfolded_shape(shape, modes)))


def online_unfolding(G: Tensor, order: int | None = None) -> Tensor:
    """The place in ``unfoldings(order)`` of argmax_tau ||G_tau||_*, one a member, (...) int64.

    Equal ones are told apart by the order alone: it is the first whose norm is within 8 r u of the
    largest, r the largest min(m_tau, n_tau) and u the eps of the computing dtype, which is what r
    computed singular values are known to. Square kernels of symmetric gradients tie.

    Most unfoldings are ruled out by ||G_tau||_* <= sqrt(min(m_tau, n_tau)) ||G||_F, or by bounds
    from the eigenvalues of Gram matrices in float64, at half the time of singular values; these
    are taken where two unfoldings remain.

    Raises:
        ValueError: as ``require_tensors``; NaN or infinite entries.
    """
    order = require_tensors("G", G, order)
    shape, batch = G.shape[-order:], G.shape[:-order]
    known, candidates = unfoldings(order), distinct_unfoldings(shape)
    if len(candidates) == 1 or G.numel() == 0:
        require_finite("G", G)
        return torch.full(batch, known.index(candidates[0]), dtype=torch.int64, device=G.device)
    X = G.to(compute_dtype(G.dtype)).reshape(-1, *shape)
    X, wide, frobenius = _in_range(X)
    ranks = {modes: min(unfolded_shape(shape, modes)) for modes in candidates}
    within = 1 - 8 * max(ranks.values()) * torch.finfo(X.dtype).eps
    largest, upper = torch.zeros_like(frobenius), {}
    for modes in sorted(candidates, key=lambda modes: -ranks[modes]):
        if bool((math.sqrt(ranks[modes]) * frobenius < largest * within).all()):
            break
        lower, upper[modes] = _nuclear_bounds(unfold(wide, modes, order), frobenius)
        largest = torch.maximum(largest, lower)
    left = [modes for modes in candidates if modes in upper]
    possible = torch.stack([upper[modes] for modes in left]) >= largest * within
    if bool((possible.sum(0) > 1).any()):
        possible = _settled(X, possible, left, within)
    # The place of the first that is true, from the end.
    from_end = possible.int().cummax(0).values.sum(0)
    places = torch.tensor([known.index(modes) for modes in left], device=G.device)
    return places[len(left) - from_end].reshape(batch)


def _in_range(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """X (B, n_1, ...), scaled by powers of two where squares could leave the range; in float64; its
    Frobenius norms (B,). ValueError where it is not finite."""
    wide = X.double()
    frobenius = torch.linalg.vector_norm(wide.flatten(1), dim=-1)
    low, high = (float(end) for end in frobenius.aminmax())
    if low > 1e-120 and high < 1e120:
        return X, wide, frobenius
    require_finite("G", X)
    X = power_of_two_normalize(X.flatten(2)).reshape(X.shape)
    wide = X.double()
    return X, wide, torch.linalg.vector_norm(wide.flatten(1), dim=-1)


def _settled(X: Tensor, possible: Tensor, left: Sequence[Modes], within: float) -> Tensor:
    """Which of the possible (T, B) are the largest, by singular values where several are left."""
    norms, unsettled = possible.to(X.dtype), possible.sum(0) > 1
    for place, modes in enumerate(left):
        members = (possible[place] & unsettled).nonzero().flatten()
        if len(members):
            norms[place, members] = _nuclear(unfold(X[members], modes, X.ndim - 1))
    return possible & (norms >= norms.amax(0) * within)


def by_unfolding(chosen: Tensor, order: int) -> Iterator[tuple[Modes, Tensor]]:
    """Every unfolding that some member has, with those members: indices into a flat batch."""
    known, flat = unfoldings(order), chosen.reshape(-1)
    for place in sorted(set(flat.tolist())):
        yield known[place], (flat == place).nonzero().flatten()


def tensor_lmo(G: Tensor, order: int | None = None) -> Tensor:
    """S with N(S) <= 1 and <G, S> = N*(G): the polar factor of the online unfolding, folded.

    Args:
        G: (..., n_1, ..., n_d), finite. Half precisions compute in float32 and are cast back.
        order: d; None is all dimensions of G.

    Returns:
        S alike. Zero for G = 0; singular directions that round-off decides are left out, as by
        `geometry.polar.msign`. In the member's choice of unfolding it is discontinuous.

    Raises:
        ValueError: as ``online_unfolding``.
    """
    order = require_tensors("G", G, order)
    shape = G.shape[-order:]
    flat = G.reshape(-1, *shape)
    S = torch.empty_like(flat)
    for modes, members in by_unfolding(online_unfolding(flat, order), order):
        if len(members) == len(flat):
            return _polar(flat, modes, order).reshape(G.shape)
        S[members] = _polar(flat[members], modes, order)
    return S.reshape(G.shape)


def _polar(G: Tensor, modes: Modes, order: int) -> Tensor:
    return fold(msign(unfold(G, modes, order)), modes, G.shape[-order:])


def _nuclear(matrix: Tensor) -> Tensor:
    """The nuclear norm; LAPACK is faster on tall matrices than on wide ones."""
    wide = matrix.shape[-2] < matrix.shape[-1]
    return torch.linalg.svdvals(matrix.mT if wide else matrix).sum(-1)


def _nuclear_bounds(matrix: Tensor, frobenius: Tensor) -> tuple[Tensor, Tensor]:
    """Below and above the nuclear norm, by eigenvalues of the smaller Gram matrix in float64.

    By Weyl's inequality these are off by its error, at most p u ||G||_F^2 of p-term sums, and the
    eigensolver's, a small multiple of q u ||G||_2^2, for a p x q matrix.
    """
    A = matrix if matrix.shape[-2] >= matrix.shape[-1] else matrix.mT
    eigenvalues = torch.linalg.eigvalsh(A.mT @ A)
    off = (A.shape[-2] + 8 * A.shape[-1]) * torch.finfo(A.dtype).eps * frobenius.square()[:, None]
    low, high = ((eigenvalues + sign * off).clamp(min=0).sqrt().sum(-1) for sign in (-1, 1))
    return low, high
