"""Runs of optimisers of pairs on half a squared distance, from one start in many gauges at once.

The paper writes (A, B) for factors with the product A B^T and regauges (A M^-1, B M^T); B and A
here are its A and B^T, and C is its M^-1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from claims.measuring.draws import gauge_there, gaussian_there
from claims.registry import Setting
from geometry.gauge import Pair, regauged
from simulate.optimizers import (
    FactorMuon,
    LoRAMuon,
    LoRARite,
    LoRARiteCore,
    MemberAdamW,
    MemberSGD,
    Riemannion,
    RiemannLoRA,
    ScaledGD,
    Spectron,
    let_go,
    step_or_leave,
)

M, N, R = 40, 30, 4
STEPS = 20
SETUP = (
    f"half the squared distance from a Gaussian {M} x {N}, Gaussian factors, r = {R}, all over the "
    f"roots of m and n; {STEPS} steps, momentum .9"
)

# [(B, A)] to an optimiser.
Make = Callable[[list[Pair]], torch.optim.Optimizer]


def _adam(pairs: list[Pair]) -> torch.optim.Optimizer:
    return MemberAdamW([x for pair in pairs for x in pair], lr=0.02, weight_decay=0.0)


def _gradient_descent(pairs: list[Pair]) -> torch.optim.Optimizer:
    return MemberSGD([x for pair in pairs for x in pair], lr=0.03, momentum=0.9)


OF_THE_PAPER: dict[str, Make] = {
    "RiemannLoRA": partial(RiemannLoRA, lr=0.3),
    "RiemannLoRA, adaptive": partial(RiemannLoRA, lr=0.05, adaptive=True),
    "Riemannion": partial(Riemannion, lr=0.05),
}
BESIDE: dict[str, Make] = {
    "LoRA-Muon": partial(LoRAMuon, lr=0.1),
    "LoRA-RITE": partial(LoRARite, lr=0.02),
    "LoRA-RITE's core": partial(LoRARiteCore, lr=0.1),
    "ScaledGD": partial(ScaledGD, lr=0.3),
    "Spectron": partial(Spectron, lr=0.1),
}
ADAM, DESCENT, FACTOR_MUON = "Adam", "gradient descent", "Muon on each factor"
ON_FACTORS: dict[str, Make] = {
    DESCENT: _gradient_descent,
    ADAM: _adam,
    FACTOR_MUON: partial(FactorMuon, lr=0.05),
}


def start_and_target(setting: Setting) -> tuple[Pair, Tensor]:
    """(B, A), (seeds, M, R) and (seeds, R, N), and Y (seeds, M, N)."""
    B, A = gaussian_there(setting, M, R, stream=1), gaussian_there(setting, R, N, stream=2)
    return (B / M**0.5, A / N**0.5), gaussian_there(setting, M, N, stream=3) / M**0.5


def in_gauges(setting: Setting, pair: Pair, conditions: Iterable[float]) -> Pair:
    """The factors as they are and in gauges of determinant 1 or -1, (1 + gauges, seeds, ...)."""
    there = [
        regauged(*pair, gauge_there(setting, R, condition, top=0.5)) for condition in conditions
    ]
    B, A = (torch.stack(factors) for factors in zip(pair, *there, strict=True))
    return B, A


def products(
    make: Make, pair: Pair, Y: Tensor, steps: int = STEPS, dtype: torch.dtype = torch.float64
) -> Tensor:
    """B A (..., m, n) after a run where the pair is, on the CPU in float64; infinite where a run
    overflowed.

    Args:
        pair: the starts (..., m, r) and (..., r, n), members of one ensemble.
        Y: the target, broadcasts to (..., m, n). Everything is computed in ``dtype``.
    """
    batch = pair[0].shape[:-2]
    B, A = (nn.Parameter(x.to(dtype).flatten(0, -3).clone()) for x in pair)
    target = Y.to(dtype).expand(*batch, *Y.shape[-2:]).flatten(0, -3)
    going = torch.arange(len(target))
    optimizer = make([(B, A)])
    for _ in range(steps):
        going = _stepped(optimizer, (B, A), target, going)
    found = torch.full(target.shape, torch.inf, dtype=torch.float64)
    if len(going):
        found[going] = (B.detach().double() @ A.detach().double()).cpu()
    return found.unflatten(0, batch)


def _stepped(optimizer: torch.optim.Optimizer, pair: Pair, target: Tensor, going: Tensor) -> Tensor:
    """Those that go on after a step, which the others have left."""
    if not len(going):
        return going
    B, A = pair
    b, a = B.detach(), A.detach()
    G = b @ a - target[going]
    B.grad, A.grad = G @ a.mT, b.mT @ G

    def leave(reasons: Mapping[int, str]) -> bool:
        nonlocal going
        going = going[let_go([optimizer], len(going), reasons)]
        return bool(len(going))

    step_or_leave(optimizer, leave)
    return going


def differences(one: Tensor, other: Tensor) -> Tensor:
    """||one - other||_F over the larger of the norms; 1 where a run overflowed, its limit."""
    norm = torch.linalg.matrix_norm
    found = norm(one - other) / torch.maximum(norm(one), norm(other))
    return torch.where(torch.isfinite(found), found, 1.0)
