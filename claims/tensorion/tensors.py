"""What the claims on tensors share: norms by unfolding, rotations, a first step.

Unfoldings are written out here once more: a claim that took them from `geometry.unfolding`, as the
optimiser does, would not see that one is missing there, or that entries stand in the wrong place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from claims.measuring.draws import orthonormal_there
from claims.registry import Setting

PAPER = "tensorion"
# Of Tensorion, so that a step is along the LMO; a subject of --subject has options of its own.
ALONG_THE_LMO: Mapping[str, Any] = MappingProxyType(
    {"momentum": 0.0, "weight_decay": 0.0, "adjust_lr_fn": "unadjusted"}
)
# What a subject is asked of instead of tensors: wide, square, tall.
MATRICES = ((3, 5), (6, 6), (7, 4))
REFERENCE = "arXiv 2606.25975"
RECONSTRUCTED = f"{REFERENCE}; the norm is reconstructed from second-hand descriptions"


def splits(order: int) -> tuple[tuple[int, ...], ...]:
    """Every way to part the modes in two, once, by the smaller side or the one with mode 0.

    Sides with fewer modes come first, then by the modes.
    """
    whole = range(order)
    with_first = [(0, *more) for k in range(order - 1) for more in combinations(whole[1:], k)]
    sides = [(rows, tuple(k for k in whole if k not in rows)) for rows in with_first]
    return tuple(sorted((min(both, key=_fewer_first) for both in sides), key=_fewer_first))


def _fewer_first(modes: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    return len(modes), modes


def split(X: Tensor, modes: Sequence[int], order: int) -> Tensor:
    """X (..., n_1, ..., n_d) as matrices, rows by the given modes, columns by the others."""
    batch = X.ndim - order
    columns = [k for k in range(order) if k not in modes]
    places = [*range(batch), *(batch + k for k in (*modes, *columns))]
    rows = math.prod(X.shape[batch + k] for k in modes)
    return X.permute(places).reshape(*X.shape[:batch], rows, -1)


def largest_rank(shape: Sequence[int]) -> int:
    """r*, the largest min(m_tau, n_tau)."""
    X = torch.empty(tuple(shape))
    return max(min(split(X, modes, len(shape)).shape) for modes in splits(len(shape)))


def nuclear_norms(G: Tensor, order: int) -> Tensor:
    """||G_tau||_* of every unfolding by its own SVD, (T, ...)."""
    return torch.stack(
        [torch.linalg.svdvals(split(G, modes, order)).sum(-1) for modes in splits(order)]
    )


def spectral_norms(X: Tensor, order: int) -> Tensor:
    """||X_tau||_2 of every unfolding, (T, ...)."""
    return torch.stack(
        [torch.linalg.matrix_norm(split(X, modes, order), 2) for modes in splits(order)]
    )


def rotations(setting: Setting, sizes: Sequence[int], stream: int = 0) -> list[Tensor]:
    """An orthogonal matrix (E, n, n) of every size, where the setting computes."""
    return [
        orthonormal_there(setting, size, size, stream=stream + place)
        for place, size in enumerate(sizes)
    ]


def first_step(make: Callable[..., Optimizer], G: Tensor) -> Tensor:
    """-W after one step with rate 1 from W = 0 with gradients G (E, n_1, .., n_d)."""
    W = nn.Parameter(torch.zeros_like(G))
    W.grad = G.clone()
    make([W], lr=1.0).step()
    return -W.detach()


def inner(X: Tensor, Y: Tensor) -> Tensor:
    """<X, Y> of tensors (E, n_1, ..., n_d)."""
    return (X * Y).flatten(1).sum(-1)
