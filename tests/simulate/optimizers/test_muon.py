"""Muon's laws in float64, its orthogonalisers, its rate adjustments and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch.nn import Parameter

from geometry.orthogonalizers import ORTHOGONALIZERS
from geometry.polar import orthogonalize
from simulate.optimizers import Muon
from simulate.optimizers.rate_adjustment import RATE_ADJUSTMENTS


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def run(W: Tensor, gradients: list[Tensor], **options: Any) -> Tensor:
    p = Parameter(W.clone())
    optimizer = Muon([p], **options)
    for G in gradients:
        p.grad = G.clone()
        optimizer.step()
    return p.detach()


def by_hand(W: np.ndarray, gradients: list[np.ndarray], ratio: float, nesterov: bool) -> np.ndarray:
    """Muon with SciPy's polar factor: lr 0.1, momentum 0.9, weight decay 0.5."""
    M = np.zeros_like(W)
    side = "right" if W.shape[0] >= W.shape[1] else "left"
    for G in gradients:
        M = 0.9 * M + 0.1 * G
        D = 0.1 * G + 0.9 * M if nesterov else M
        W = W - 0.1 * 0.5 * W - 0.1 * ratio * scipy.linalg.polar(D, side=side)[0]
    return W


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
@pytest.mark.parametrize(
    ("adjust_lr_fn", "ratios"),
    [
        ("original", {(6, 6): 1.0, (9, 4): 1.5, (4, 9): 1.0}),
        (None, {(6, 6): 1.0, (9, 4): 1.5, (4, 9): 1.0}),
        ("match_rms_adamw", {(6, 6): 0.2 * 6**0.5, (9, 4): 0.6, (4, 9): 0.6}),
        ("spectral", {(6, 6): 1.0, (9, 4): 1.5, (4, 9): 2 / 3}),
        ("unadjusted", {(6, 6): 1.0, (9, 4): 1.0, (4, 9): 1.0}),
    ],
)
def test_follows_an_independent_loop(
    adjust_lr_fn: str | None,
    ratios: dict[tuple[int, int], float],
    shape: tuple[int, int],
    nesterov: bool,
) -> None:
    W, gradients = random(*shape, seed=0), [random(*shape, seed=1 + i) for i in range(10)]
    found = run(
        W,
        gradients,
        lr=0.1,
        momentum=0.9,
        weight_decay=0.5,
        nesterov=nesterov,
        adjust_lr_fn=adjust_lr_fn,
        orthogonalizer="svd",
    )
    expected = by_hand(W.numpy(), [G.numpy() for G in gradients], ratios[shape], nesterov)
    assert np.abs(found.numpy() - expected).max() <= 1e-12


def test_match_rms_adamw_gives_updates_a_root_mean_square_of_a_fifth() -> None:
    # ||O||_F^2 = min(m, n), so the root of the mean square of ratio O is .2 for every shape.
    for shape in ((6, 6), (9, 4), (4, 30)):
        moved = run(
            torch.zeros(*shape, dtype=torch.float64),
            [random(*shape, seed=1)],
            lr=1.0,
            adjust_lr_fn="match_rms_adamw",
            orthogonalizer="svd",
        )
        assert float(moved.square().mean().sqrt()) == pytest.approx(0.2, abs=1e-13)


@pytest.mark.parametrize("orthogonalizer", ["svd", "polar_express", "muon", "torch"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_equivariance_under_orthogonal_transformations(orthogonalizer: str, nesterov: bool) -> None:
    W, gradients = random(7, 5, seed=0), [random(7, 5, seed=1 + i) for i in range(10)]
    Q = torch.linalg.qr(random(7, 7, seed=20)).Q
    P = torch.linalg.qr(random(5, 5, seed=21)).Q
    options = {"lr": 0.1, "nesterov": nesterov, "orthogonalizer": orthogonalizer}
    moved = run(Q @ W @ P, [Q @ G @ P for G in gradients], **options)
    error = float((moved - Q @ run(W, gradients, **options) @ P).abs().max())
    if orthogonalizer == "torch":  # bfloat16: what the iteration of torch.optim.Muon loses
        assert 1e-4 < error < 0.1
    else:
        assert error <= 1e-11


@pytest.mark.parametrize("orthogonalizer", sorted(ORTHOGONALIZERS))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_orthogonalisers_run_in_the_dtype_of_the_parameter(
    orthogonalizer: str, dtype: torch.dtype
) -> None:
    G = random(6, 4, seed=1, dtype=dtype)
    moved = run(
        torch.zeros(6, 4, dtype=dtype),
        [G],
        lr=1.0,
        momentum=0.0,
        adjust_lr_fn="unadjusted",
        orthogonalizer=orthogonalizer,
    )
    assert moved.dtype == dtype
    assert torch.equal(moved, -orthogonalize(G[None], orthogonalizer)[0])


def test_steps_and_parameters_reach_the_orthogonaliser() -> None:
    G, zero = random(6, 4, seed=1), torch.zeros(6, 4, dtype=torch.float64)
    options: dict[str, Any] = {"lr": 1.0, "momentum": 0.0, "adjust_lr_fn": "unadjusted"}
    options |= {"orthogonalizer": "polar_express", "ns_steps": 7}
    found = run(zero, [G], **options, orthogonalizer_parameters={"lower_bound": 1e-4})
    assert torch.equal(found, -orthogonalize(G[None], "polar_express", 7, lower_bound=1e-4)[0])
    assert not torch.equal(found, run(zero, [G], **options))


def test_scale_of_the_gradients_does_not_matter_with_an_exact_orthogonaliser() -> None:
    W, gradients = random(6, 4, seed=0), [random(6, 4, seed=1 + i) for i in range(6)]
    for exponent in (-60, 60):
        scaled = [G * 2.0**exponent for G in gradients]
        assert torch.equal(
            run(W, scaled, orthogonalizer="svd"), run(W, gradients, orthogonalizer="svd")
        )


def test_every_adjustment_is_documented() -> None:
    for name, adjustment in RATE_ADJUSTMENTS.items():
        assert adjustment.name == name
        assert len(adjustment.source) > 10
        assert f'"{name}"' in (Muon.__doc__ or "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"momentum must lie in \[0, 1\), got -0.1"),
        ({"momentum": float("nan")}, r"momentum must lie in \[0, 1\), got nan"),
        ({"adjust_lr_fn": "spectrl"}, "unknown adjust_lr_fn 'spectrl'.*did you mean 'spectral'"),
        ({"orthogonalizer": "touch"}, "unknown orthogonalizer 'touch'.*did you mean 'torch'"),
        ({"orthogonalizer": "lora_muon", "ns_steps": 9}, "is a table of 8 steps, got steps=9"),
        ({"ns_steps": 0}, "ns_steps must be a positive int, got 0"),
        ({"eps": 0.0}, "eps must be finite and > 0, got 0.0"),
        ({"ns_coefficients": (1.0, 2.0)}, "must be three finite numbers"),
        ({"ns_coefficients": (1.0, 2.0, float("inf"))}, "must be three finite numbers"),
        (
            {"orthogonalizer": "svd", "eps": 1e-3},
            r"ns_coefficients and eps are those of orthogonalizer 'torch', got \(.*\) and 0.001",
        ),
        (
            {"orthogonalizer": "muon", "ns_coefficients": (1.5, -0.5, 0.0)},
            "are those of orthogonalizer 'torch'",
        ),
        (
            {"orthogonalizer_parameters": {"safety": 1.0}},
            "orthogonalizer 'torch' has ns_coefficients and eps",
        ),
        (
            {"orthogonalizer": "cans", "orthogonalizer_parameters": {"lowerbound": 1.0}},
            "did you mean 'lower_bound'",
        ),
    ],
)
def test_rejects(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([Parameter(torch.zeros(3, 3))], **options)
