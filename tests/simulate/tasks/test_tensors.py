"""Planted tensors, regression and completion: what they are, and that members are alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from simulate.tasks import TensorCompletion, TensorRegression, planted_tensors

SHAPE, RANKS = (4, 5, 6), (2, 3, 2)
Task = TensorRegression | TensorCompletion


def regression(seeds: Any = (1, 2), **options: Any) -> TensorRegression:
    given = {"samples": 90, "noise": 0.1, "condition": 30.0, **options}
    return TensorRegression(SHAPE, RANKS, seeds, **given)


def completion(seeds: Any = (1, 2), **options: Any) -> TensorCompletion:
    return TensorCompletion(SHAPE, RANKS, seeds, **{"share": 0.4, "noise": 0.1, **options})


def test_planted_tensors_have_the_multilinear_rank_and_are_their_seeds() -> None:
    T = planted_tensors(SHAPE, RANKS, [5, 6, 7])
    for mode, rank in enumerate(RANKS, start=1):
        values = torch.linalg.svdvals(T.movedim(mode, 1).flatten(2))
        assert float(values[:, rank - 1].min()) > 1e-3
        assert float(values[:, rank:].max()) < 1e-12
    assert T.square().mean((1, 2, 3)).sqrt().tolist() == pytest.approx([1.0] * 3)
    assert torch.allclose(T[1], planted_tensors(SHAPE, RANKS, [6])[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("task", [regression(), completion()])
def test_the_gradient_is_that_of_the_loss(task: Task) -> None:
    W = torch.randn(3, 2, *SHAPE, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(task.loss(W).sum(), W)
    assert torch.allclose(task.gradient(W.detach(), 0), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("make", [regression, completion])
def test_batches_hang_on_seed_and_step_and_average_to_the_gradient(make: Any) -> None:
    task, alone, exact = make(batch_size=20), make([2], batch_size=20), make()
    W = torch.randn(2, *SHAPE, dtype=torch.float64)
    drawn = torch.stack([task.gradient(W, step) for step in range(2000)])
    assert torch.allclose(task.gradient(W, 7), drawn[7], rtol=1e-12, atol=1e-14)
    assert torch.allclose(alone.gradient(W[1:], 7)[0], drawn[7, 1], rtol=1e-10, atol=1e-12)
    assert bool((drawn[0] != drawn[1]).any())
    z = (drawn.mean(0) - exact.gradient(W, 0)) / (drawn.std(0) / 2000**0.5).clamp_min(1e-12)
    assert float(z.abs().max()) < 5


@pytest.mark.parametrize("task", [regression(), completion()])
def test_held_out_error_is_one_at_zero_and_zero_at_the_target(task: Task) -> None:
    assert task.held_out_error(torch.zeros_like(task.target)).tolist() == pytest.approx([1, 1])
    assert float(task.held_out_error(task.target).max()) < 1e-24
    # Of a stack of candidates, one row each.
    assert task.held_out_error(torch.stack([task.target, 0 * task.target])).shape == (2, 2)


def test_held_out_error_of_regression_is_that_of_many_new_samples() -> None:
    few, many = regression([1], samples=5, noise=0.0), regression([1], samples=40_000, noise=0.0)
    W = torch.randn(1, *SHAPE, dtype=torch.float64)
    # Covariance and target are drawn before the samples.
    assert torch.equal(few.target, many.target)
    assert float(2 * many.loss(W)) == pytest.approx(float(few.held_out_error(W)), rel=0.05)


def test_what_is_not_seen_has_no_gradient() -> None:
    task = completion()
    assert task.seen.flatten(1).sum(1).tolist() == [48, 48]
    G = task.gradient(torch.randn(2, *SHAPE, dtype=torch.float64), 0)
    assert not bool(G[~task.seen].any())
    assert bool(G[task.seen].all())
    noise = completion(noise=0.0).gradient(task.target, 0)
    assert not bool(noise.any())


@pytest.mark.parametrize(
    ("shape", "ranks"), [((4,), (2,)), ((4, 5), (2, 3)), ((4, 5, 6), (2, 2)), ((3, 5), (4, 4))]
)
def test_ranks_that_no_tensor_has_are_refused(shape: Any, ranks: Any) -> None:
    with pytest.raises(ValueError, match="ranks: one a mode"):
        planted_tensors(shape, ranks, [0])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (regression, {"samples": 0}, "samples must be a positive int"),
        (regression, {"noise": -1.0}, "noise must be finite"),
        (regression, {"condition": 0.5}, "condition must lie in"),
        (completion, {"share": 1.0}, "some of 120 entries, not all"),
        (completion, {"batch_size": 0}, "batch_size must be a positive int"),
    ],
)
def test_tasks_that_there_are_not_are_refused(
    make: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
