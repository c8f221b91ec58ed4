"""What the claims on tensors share: nuclear norms by unfolding, rotations, planted tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from claims.measuring.draws import orthonormal_there
from claims.registry import Setting
from geometry.unfolding import unfold, unfoldings

PAPER = "tensorion"
# Of Tensorion, so that a step is along the LMO; a subject of --subject has options of its own.
ALONG_THE_LMO: Mapping[str, Any] = MappingProxyType(
    {"momentum": 0.0, "weight_decay": 0.0, "adjust_lr_fn": "unadjusted"}
)
# What a subject is asked of instead of tensors: wide, square, tall.
MATRICES = ((3, 5), (6, 6), (7, 4))
REFERENCE = "arXiv 2606.25975"
RECONSTRUCTED = f"{REFERENCE}; the norm is reconstructed from second-hand descriptions"


def nuclear_norms(G: Tensor, order: int) -> Tensor:
    """||G_tau||_* of every unfolding by its own SVD, (T, ...)."""
    return torch.stack(
        [torch.linalg.svdvals(unfold(G, modes, order)).sum(-1) for modes in unfoldings(order)]
    )


def spectral_norms(X: Tensor, order: int) -> Tensor:
    """||X_tau||_2 of every unfolding, (T, ...)."""
    return torch.stack(
        [torch.linalg.matrix_norm(unfold(X, modes, order), 2) for modes in unfoldings(order)]
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
