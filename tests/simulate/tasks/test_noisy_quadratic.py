"""The noisy quadratic: its gradient, its noise, and whose it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from simulate.tasks import NoisyQuadratic
from tests.geometry.test_msign import random_matrices


def drawn(task: NoisyQuadratic, steps: range, members: int) -> Tensor:
    """The noise of some steps, (steps, E, m, n)."""
    W = task.target.expand(members, *task.target.shape[-2:])
    return torch.stack([task.gradient(W, step) for step in steps])


def test_without_noise_the_gradient_is_that_of_the_loss(device: torch.device) -> None:
    Y = random_matrices(3, 5, 4).to(device)
    task = NoisyQuadratic(Y, noise=0.0, seeds=range(3))
    W = random_matrices(3, 5, 4, seed=1).to(device).requires_grad_()
    (expected,) = torch.autograd.grad(task.loss(W).sum(), W)
    assert torch.allclose(task.gradient(W.detach(), 7), expected, rtol=1e-14, atol=0)
    B, A = (nn.Parameter(random_matrices(3, *shape).to(device)) for shape in ((5, 2), (2, 4)))
    task.give(B, A, 0)
    losses = task.loss(B @ A).sum()
    for given, right in zip((B.grad, A.grad), torch.autograd.grad(losses, (B, A)), strict=True):
        assert given is not None
        assert torch.allclose(given, right, rtol=1e-12, atol=1e-12)


def test_the_noise_has_its_size_and_no_memory() -> None:
    task = NoisyQuadratic(torch.zeros(20, 20).double(), noise=0.5, seeds=[4])
    noise = drawn(task, range(100), 1).flatten(1)
    count = noise.numel()
    assert abs(float(noise.mean())) <= 4 * 0.5 / math.sqrt(count)
    assert float(noise.std()) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2 * count))
    correlation = float((noise[1:] * noise[:-1]).mean()) / 0.25
    assert abs(correlation) <= 4 / math.sqrt(count)


def test_a_members_noise_is_its_own() -> None:
    Y = torch.zeros(4, 3).double()
    together = drawn(NoisyQuadratic(Y, noise=1.0, seeds=[3, 9, 4]), range(5), 3)
    alone = drawn(NoisyQuadratic(Y, noise=1.0, seeds=[9]), range(3, 5), 1)
    assert torch.equal(alone[:, 0], together[3:, 1])
    assert not torch.equal(together[:, 0], together[:, 1])
    assert not torch.equal(together[0], together[1])


def test_wrong_input_is_told() -> None:
    with pytest.raises(ValueError, match=r"for the 2 seeds, is expected; given \(3, 4, 5\)"):
        NoisyQuadratic(random_matrices(3, 4, 5), noise=1.0, seeds=range(2))
    with pytest.raises(ValueError, match="noise must be finite and >= 0"):
        NoisyQuadratic(random_matrices(4, 5), noise=-1.0, seeds=range(2))
    with pytest.raises(ValueError, match="target must be finite"):
        NoisyQuadratic(math.nan * random_matrices(4, 5), noise=1.0, seeds=range(2))
