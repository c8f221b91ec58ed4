"""What the claims on LoRA optimisers share: drawn matrices, gauges, and one step of an optimiser.

Cesista, Crowson, Simal, Biderman 2026, LoRA-Muon: Spectral Steepest Descent on the Low-Rank
Manifold, arXiv 2606.12921. The paper writes W = P Q^T with P (m x r) and Q (n x r); B is P and A is
Q^T throughout. Seeds are members of an ensemble: leading dimensions, one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from claims.measuring.draws import gaussian_there
from claims.registry import Setting
from geometry.gauge import Pair
from simulate.tasks import NoisyQuadratic

REFERENCE = "arXiv 2606.12921"
M, N, R = 96, 64, 8

# [(B, A)] and options to an optimiser.
Make = Callable[..., torch.optim.Optimizer]


def pair_and_gradient(setting: Setting, m: int = M, n: int = N, r: int = R) -> tuple[Pair, Tensor]:
    """Gaussian factors (seeds, m, r) and (seeds, r, n), and a gradient (seeds, m, n) of W."""
    B, A = gaussian_there(setting, m, r, stream=1), gaussian_there(setting, r, n, stream=2)
    return (B, A), gaussian_there(setting, m, n, stream=3)


def stepped(make: Make, pair: Pair, gradients: list[Tensor], **options: Any) -> Pair:
    """The factors after a step along each of the gradients (seeds, m, n) of the product."""
    B, A = (nn.Parameter(factor.clone()) for factor in pair)
    optimizer = make([(B, A)], **options)
    for G in gradients:
        give(B, A, G)
        optimizer.step()
    return B.detach(), A.detach()


def give(B: Tensor, A: Tensor, G: Tensor) -> None:
    """The gradients of the factors, from that of their product."""
    B.grad, A.grad = G @ A.detach().mT, B.detach().mT @ G


def noisy_quadratic(setting: Setting) -> tuple[Pair, NoisyQuadratic]:
    """Gaussian factors, and the task of a Gaussian target with noise as large."""
    pair, Y = pair_and_gradient(setting)
    return pair, NoisyQuadratic(Y, noise=1.0, seeds=setting.seeds(setting["seeds"]))


def trained(make: Make, pair: Pair, task: NoisyQuadratic, steps: int, **options: Any) -> Tensor:
    """The product after a run from step 0."""
    B, A = (nn.Parameter(factor.clone()) for factor in pair)
    optimizer = make([(B, A)], **options)
    for step in range(steps):
        task.give(B, A, step)
        optimizer.step()
    return (B @ A).detach()


def polar_factor(X: Tensor, rank: int) -> Tensor:
    """U V^T over the leading singular directions of X (..., m, n), as many as its rank.

    Written out, for a reference must not come from what is under test.
    """
    U, _, Vh = torch.linalg.svd(X, full_matrices=False)
    return U[..., :rank] @ Vh[..., :rank, :]


def spectral_norm(W: Tensor) -> Tensor:
    """The largest singular value of each matrix."""
    norm: Tensor = torch.linalg.matrix_norm(W, 2)
    return norm


def relatives(one: Tensor, other: Tensor) -> Tensor:
    """||one - other||_F / ||other||_F of each member."""
    norm = torch.linalg.matrix_norm
    shares: Tensor = norm(one - other) / norm(other)
    return shares


def relative(one: Tensor, other: Tensor) -> float:
    """The largest of them."""
    return float(relatives(one, other).max())


def factors_of(pairs: list[Pair]) -> list[Tensor]:
    """The factors one after the other, for optimisers that know no pairs."""
    return [factor for pair in pairs for factor in pair]


def signs(pairs: list[Pair], lr: float) -> torch.optim.Optimizer:
    """Descent along the signs of each factor's gradient."""
    return _SignDescent(factors_of(pairs), {"lr": lr})


class _SignDescent(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for factor in group["params"]:
                factor.sub_(group["lr"] * factor.grad.sign())
