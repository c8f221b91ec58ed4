"""The noisy quadratic: its gradient, its noise, and whose it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from simulate.noise import Noise
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
    with pytest.raises(ValueError, match="scale must be finite and >= 0"):
        NoisyQuadratic(random_matrices(4, 5), noise=Noise(scale=-1.0), seeds=range(2))
    A, B = torch.eye(4).double(), torch.eye(5).double()
    Y = random_matrices(4, 5)
    for curvature, said in (
        ((B, B), r"A: \(4, 4\) or \(2, 4, 4\) is expected; given \(5, 5\)"),
        ((A, -B), "B must be symmetric and positive semidefinite, got eigenvalues down to -1"),
        ((random_matrices(4, 4), B), "A must be symmetric"),
    ):
        with pytest.raises(ValueError, match=said):
            NoisyQuadratic(Y, noise=0.0, seeds=range(2), curvature=curvature)


def test_noise_of_a_law_has_its_scale_and_its_tail() -> None:
    Y = torch.zeros(4, 3).double()
    law = Noise("pareto", 1.55, scale=0.5)
    noise = drawn(NoisyQuadratic(Y, noise=law, seeds=[3, 9]), range(5), 2)
    expected = law.draw(torch.tensor([3, 9]), 4, 3, torch.arange(5))
    assert torch.equal(noise, 0.5 * expected)
    # A number is Gaussian noise of that deviation.
    number = drawn(NoisyQuadratic(Y, noise=0.5, seeds=[3]), range(2), 1)
    assert torch.equal(number, drawn(NoisyQuadratic(Y, noise=Noise(scale=0.5), seeds=[3]),
                                     range(2), 1))  # fmt: skip


def test_noise_grows_with_the_gradient() -> None:
    task = NoisyQuadratic(torch.zeros(4, 3).double(), noise=Noise(scale=1.0, growth=2.0), seeds=[3])
    W = 10 * random_matrices(1, 4, 3)
    noise = task.gradient(W, 0) - task.exact_gradient(W)
    unit = Noise().draw(torch.tensor([3]), 4, 3, torch.arange(1))[0]
    assert torch.allclose(noise, 2 * torch.linalg.matrix_norm(W, keepdim=True) * unit)


def test_what_comes_before_the_members_shares_their_noise() -> None:
    task = NoisyQuadratic(random_matrices(4, 3), noise=1.0, seeds=[3, 9])
    W = random_matrices(5, 2, 4, 3)
    assert torch.allclose(task.gradient(W, 6)[2], task.gradient(W[2], 6))
    assert task.loss(W).shape == (5, 2)
    exact = task.exact_gradient(W)
    assert torch.equal(task.with_noise(exact[:, 1:], 6, slice(1, 2)), task.gradient(W, 6)[:, 1:])


def test_noise_does_not_hang_on_what_was_asked_before() -> None:
    def task() -> NoisyQuadratic:
        return NoisyQuadratic(torch.zeros(200, 300).double(), noise=1.0, seeds=[3, 2**64 - 1])

    W = torch.zeros(2, 200, 300).double()
    used = task()
    for step in (5, 3, 900, 5, 4):
        assert torch.equal(used.gradient(W, step), task().gradient(W, step))


def semidefinite(size: int, seed: int) -> Tensor:
    X = random_matrices(2, size, size, seed=seed)
    return X @ X.mT / size


def test_a_curvature_is_in_loss_gradient_and_both_constants() -> None:
    A, B = semidefinite(4, 1), semidefinite(3, 2)
    task = NoisyQuadratic(random_matrices(4, 3), noise=0.0, seeds=[1, 2], curvature=(A, B))
    W = random_matrices(2, 4, 3, seed=3).requires_grad_()
    (expected,) = torch.autograd.grad(task.loss(W).sum(), W)
    assert torch.allclose(task.gradient(W.detach(), 0), expected, rtol=1e-12)
    # Of the quadratic form, an operator on vec D.
    operator = torch.stack([torch.kron(a, b) for a, b in zip(A, B, strict=True)])
    assert torch.allclose(task.frobenius_smoothness, torch.linalg.eigvalsh(operator)[:, -1])
    # The spectral constant is attained and no orthogonal direction passes it.
    U, V = torch.linalg.eigh(A)[1][..., -3:], torch.linalg.eigh(B)[1]
    best = U @ V.mT
    constant = task.spectral_smoothness
    assert torch.allclose((best * (A @ best @ B)).sum((-2, -1)), constant)
    others = torch.linalg.qr(random_matrices(500, 1, 4, 3, seed=4)).Q
    assert ((others * (A @ others @ B)).sum((-2, -1)) <= constant + 1e-12).all()
    flat = NoisyQuadratic(random_matrices(4, 3), noise=0.0, seeds=[1])
    assert (float(flat.frobenius_smoothness), float(flat.spectral_smoothness)) == (1, 3)
