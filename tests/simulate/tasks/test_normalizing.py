"""The division by the root mean square: against torch's, its derivative, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from simulate.tasks.normalizing import EPSILON, normalized


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e5])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)]
)
def test_values_and_gradients_are_those_of_torch(
    device: torch.device, dtype: torch.dtype, tolerance: float, scale: float
) -> None:
    x = (scale * random(3, 5, 16)).to(device, dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    dy = random(3, 5, 16, seed=1).to(device, dtype)
    y, expected = normalized(x), rms_norm(exact, (16,), eps=EPSILON)
    assert (y.dtype, y.device) == (dtype, x.device)
    y.backward(dy)
    expected.backward(dy.double())
    assert x.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=4 * tolerance)
    apart = (x.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert float(apart) < 4 * tolerance


def test_the_derivative_is_that_of_finite_differences() -> None:
    for x in (random(2, 3, 5), random(4, 7)[:, ::2], random(4, 6).mT, torch.zeros(2, 3).double()):
        assert torch.autograd.gradcheck(normalized, (x.requires_grad_(),), eps=1e-8, atol=1e-4)


def test_heads_of_a_transposed_view_are_normalised_as_they_lie() -> None:
    x, dy = random(2, 4, 3, 8).requires_grad_(), random(2, 3, 4, 8, seed=1)
    (turned,) = torch.autograd.grad(normalized(x.transpose(1, 2)), x, dy)
    (straight,) = torch.autograd.grad(normalized(x).transpose(1, 2), x, dy)
    torch.testing.assert_close(turned, straight, rtol=1e-14, atol=1e-15)


def test_a_second_derivative_is_refused() -> None:
    x = random(2, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(normalized(x).pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
