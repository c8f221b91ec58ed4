"""The objective, its gradients and its target, against autograd, 40 digits and dense algebra."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flows import MatrixFactorization
from flows.coordinates import ReducedCoordinates
from tests.flows.independent import dense_target, exact_loss


def autograd_gradients(problem: MatrixFactorization, B: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    target = (problem.left * problem.singular_values) @ problem.right.mT
    B, A = B.detach().clone().requires_grad_(), A.detach().clone().requires_grad_()
    loss = 0.5 * ((B @ A - target) ** 2).sum()
    loss = loss + 0.5 * problem.l2 * ((B**2).sum() + (A**2).sum())
    gradients = torch.autograd.grad(loss, (B, A))
    return gradients[0], gradients[1]


@settings(deadline=None, max_examples=40)
@given(
    m=st.integers(1, 7),
    n=st.integers(1, 7),
    rank=st.integers(1, 7),
    modes=st.integers(1, 7),
    l2=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 99),
)
def test_gradients_are_autograds(
    m: int, n: int, rank: int, modes: int, l2: float, seed: int
) -> None:
    rank, modes = min(rank, m, n), min(modes, m, n)
    problem = MatrixFactorization.planted(
        m=m,
        n=n,
        singular_values=[3.0 - 0.4 * i for i in range(modes)],
        rank=rank,
        seed=seed,
        l2=l2,
    )
    B, A = problem.gaussian_init(1.0, seed=[seed, seed + 1])
    for given_, expected in zip(
        problem.gradients(B, A), autograd_gradients(problem, B, A), strict=True
    ):
        # Sums of at most m n r k products of numbers below some tens.
        assert float((given_ - expected).abs().max()) <= 1e-12


def test_reduced_gradient_is_the_restriction_of_the_gradient(device: torch.device) -> None:
    problem = MatrixFactorization.planted(
        m=9, n=7, singular_values=[3.0, 2.0], rank=3, l2=0.2, device=device
    )
    B, A = problem.gaussian_init(0.7, seed=range(3))
    reduced = ReducedCoordinates.of(problem, B, A)
    G_B, G_A = problem.gradients(B, A)
    given_ = reduced.gradient(reduced.restrict(B, A))
    assert float((given_ - reduced.restrict(G_B, G_A)).abs().max()) <= 1e-13
    for lifted, gradient in zip(reduced.lift(given_), (G_B, G_A), strict=True):
        assert float((lifted - gradient).abs().max()) <= 1e-13


@pytest.mark.parametrize("distance", [1.0, 1e-4, 1e-8, 1e-11])
def test_small_losses_keep_their_relative_accuracy(distance: float) -> None:
    problem = MatrixFactorization.planted(m=12, n=10, singular_values=[5.0, 3.0, 1.0], rank=3)
    root = problem.singular_values.sqrt()
    B, A = problem.aligned_init(root, root, seed=3)
    noise = problem.gaussian_init(distance, seed=4)
    B, A = B + noise[0], A + noise[1]
    exact = float(exact_loss(problem, B, A))
    # A residual is right to some u ||Y||; half its square to twice that over the residual.
    relative = 2 * 30 * 1.1e-16 * 5.0 / (2 * exact) ** 0.5
    assert float(problem.loss(B, A)) == pytest.approx(exact, rel=relative)
    reduced = ReducedCoordinates.of(problem, B[None], A[None])
    loss = float(reduced.loss(reduced.restrict(B[None], A[None])))
    assert loss == pytest.approx(exact, rel=2 * relative)
    assert relative < 0.01


def test_loss_counts_the_regulariser() -> None:
    problem = MatrixFactorization.planted(m=5, n=6, singular_values=[2.0, 1.0], rank=2, l2=0.7)
    B, A = problem.gaussian_init(1.0, seed=0)
    exact = float(exact_loss(problem, B, A))
    reduced = ReducedCoordinates.of(problem, B[None], A[None])
    assert float(problem.loss(B, A)) == pytest.approx(exact, rel=1e-14)
    loss = float(reduced.loss(reduced.restrict(B[None], A[None])))
    assert loss == pytest.approx(exact, rel=1e-14)


def test_large_targets_are_never_multiplied_out() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problem = MatrixFactorization.planted(
        m=4096, n=4096, singular_values=[8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], rank=8
    )
    B, A = problem.lora_init(1e-3, seed=0)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        G_B, _ = problem.gradients(B, A)
        problem.loss(B, A)
        problem.mode_values(B, A)
        ReducedCoordinates.of(problem, B[None], A[None])
    largest = max(event.cpu_memory_usage for event in profile.events())
    # At least a gradient was seen to be allocated, and nothing near a 4096 x 4096 matrix.
    assert 8 * 4096 * 8 <= largest < 8 * 4096 * 4096 / 16
    assert G_B.shape == (4096, 8)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 200e6


@settings(deadline=None, max_examples=25)
@given(
    m=st.integers(2, 9),
    n=st.integers(2, 9),
    seed=st.integers(0, 999),
    values=st.lists(st.floats(0.1, 10.0), min_size=1, max_size=5, unique=True),
)
def test_planted_targets_have_their_singular_values(
    m: int, n: int, seed: int, values: list[float]
) -> None:
    expected = sorted(values, reverse=True)[: min(m, n)]
    problem = MatrixFactorization.planted(m=m, n=n, singular_values=expected, rank=1, seed=seed)
    dense = torch.as_tensor(dense_target(problem))
    spectrum = torch.linalg.svdvals(dense)[: len(expected)]
    assert float((spectrum - torch.tensor(expected, dtype=torch.float64)).abs().max()) <= 1e-13
    rebuilt = MatrixFactorization(dense, rank=1)
    assert len(rebuilt.singular_values) == len(expected)
    assert float((torch.as_tensor(dense_target(rebuilt)) - dense).abs().max()) <= 1e-13


def test_planted_target_is_the_same_in_every_precision(device: torch.device) -> None:
    double, single = (
        MatrixFactorization.planted(
            m=6,
            n=5,
            rank=2,
            seed=7,
            singular_values=[2.0, 1.0],
            dtype=dtype,
            device=device,
        )
        for dtype in (torch.float64, torch.float32)
    )
    assert single.dtype is torch.float32
    assert single.device.type == device.type
    assert torch.equal(double.left.to(torch.float32), single.left)
    assert torch.equal(double.right.to(torch.float32), single.right)


def test_mode_values_are_bilinear_forms_of_the_product() -> None:
    problem = MatrixFactorization.planted(m=6, n=8, singular_values=[3.0, 2.0, 1.0], rank=2)
    B, A = problem.gaussian_init(1.0, seed=[0, 1])
    expected = torch.einsum("mk,lmn,nk->lk", problem.left, B @ A, problem.right)
    assert float((problem.mode_values(B, A) - expected).abs().max()) <= 1e-13
    reduced = ReducedCoordinates.of(problem, B, A)
    modes = reduced.mode_values(reduced.restrict(B, A))
    assert float((modes - expected).abs().max()) <= 1e-13


def test_the_same_problem_in_another_dtype(device: torch.device) -> None:
    options: dict[str, Any] = {"m": 9, "n": 7, "singular_values": [2.0, 1.0], "rank": 2, "l2": 0.1}
    double = MatrixFactorization.planted(**options)
    single = MatrixFactorization.planted(**options, dtype=torch.float32, device=device)
    moved = double.to(dtype=torch.float32, device=device)
    assert (moved.dtype, moved.device.type) == (torch.float32, device.type)
    assert (moved.rank, moved.l2) == (double.rank, double.l2)
    for name in ("left", "singular_values", "right"):
        assert torch.equal(getattr(moved, name), getattr(single, name))
    assert double.to().dtype == torch.float64
