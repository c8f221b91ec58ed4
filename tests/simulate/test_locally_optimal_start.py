"""Adapters at the locally optimal point of a model's layers, from backward passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from geometry.fixed_rank import point, tangent_norm, tangent_projection
from simulate.locally_optimal_start import Loss, gradient_products, locally_optimal_start
from simulate.tasks.layers import DenseLayer
from tests.geometry.test_msign import random_matrices


def network(sizes: tuple[int, int, int] = (7, 9, 8)) -> tuple[nn.Sequential, Loss]:
    torch.manual_seed(0)
    first, last = nn.Linear(sizes[0], sizes[1]), nn.Linear(sizes[1], sizes[2])
    model = nn.Sequential(first, nn.Tanh(), last).double()
    x, y = random_matrices(20, sizes[0]), random_matrices(20, sizes[-1], seed=1)
    return model, lambda: (model(x) - y).square().mean()


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


def test_one_backward_pass_gives_both_products_of_every_layer() -> None:
    model, loss = network()
    layers = linear_layers(model)
    N = [random_matrices(layer.weight.shape[1], 3, seed=2) for layer in layers]
    M = [random_matrices(layer.weight.shape[0], 4, seed=3) for layer in layers]
    right, left = gradient_products(layers, loss, N, M)
    dense = torch.autograd.grad(loss(), [layer.weight for layer in layers])
    for G, X, Y, found, other in zip(dense, N, M, right, left, strict=True):
        assert torch.allclose(found, G @ X, rtol=1e-13, atol=1e-15)
        assert torch.allclose(other, G.mT @ Y, rtol=1e-13, atol=1e-15)
    assert gradient_products(layers, loss, N=N)[1] == []
    assert all(layer.weight.grad is None for layer in layers)


def test_layers_of_ensembles_and_layers_called_twice() -> None:
    layer, x = DenseLayer(random_matrices(4, 6, 6)), random_matrices(4, 10, 6, seed=1)

    def loss() -> Tensor:
        return layer(torch.tanh(layer(x))).square().sum()

    (G,) = torch.autograd.grad(loss(), [layer.weight])
    N = random_matrices(4, 6, 2, seed=3)
    (found,), (other,) = gradient_products([layer], loss, [N], [N])
    assert torch.allclose(found, G @ N, rtol=1e-13)
    assert torch.allclose(other, G.mT @ N, rtol=1e-13)


def test_the_start_is_optimal_and_leaves_the_loss() -> None:
    model, loss = network()
    layers, before = linear_layers(model), loss().item()
    G = torch.autograd.grad(loss(), [layer.weight for layer in layers])
    starts = locally_optimal_start(
        layers,
        loss,
        2,
        scale=0.5,
        adapter_scale=4.0,
        oversampling=5,
        generator=torch.Generator().manual_seed(0),
    )
    for gradient, start in zip(G, starts, strict=True):
        share = tangent_norm(tangent_projection(point(start.B, start.A), gradient)).square()
        best = torch.linalg.svdvals(gradient)[:4].square().sum()
        # As many vectors as the layers have columns or rows.
        assert abs(float(share / best) - 1) <= 1e-12
        s = torch.linalg.svdvals(4 * start.B @ start.A)[:2]
        assert torch.allclose(s, torch.full((2,), 0.5).double(), rtol=1e-12)
    assert loss().item() == before
    for layer, start in zip(layers, starts, strict=True):
        layer.weight.data = start.weight + 4 * start.B @ start.A
    assert abs(loss().item() / before - 1) <= 1e-14
    for layer, start in zip(layers, starts, strict=True):
        layer.weight.data = start.weight
    assert abs(loss().item() / before - 1) > 1e-2


class LargestNewTensor(TorchDispatchMode):
    """Entries of the largest tensor made, views of the given ones left out."""

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__()
        self.largest = 0
        self.given = {x.untyped_storage().data_ptr() for x in given}

    def __torch_dispatch__(
        self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor) and part.untyped_storage().data_ptr() not in self.given:
                self.largest = max(self.largest, part.numel())
        return result


def test_no_gradient_is_formed() -> None:
    model, loss = network((150, 150, 150))
    layers = linear_layers(model)
    assert all(layer.weight.requires_grad for layer in layers)
    N = [random_matrices(150, 6, seed=2) for _ in layers]
    weights = [layer.weight for layer in layers]
    with LargestNewTensor(weights) as seen:
        gradient_products(layers, loss, N, N)
    assert seen.largest == 20 * 150
    # The control.
    with LargestNewTensor(weights) as seen:
        torch.autograd.grad(loss(), weights)
    assert seen.largest == 150 * 150


def test_errors_say_what_was_given_and_leave_no_hooks() -> None:
    model, loss = network()
    first, last = linear_layers(model)
    with pytest.raises(
        ValueError, match=r"layer 1, N: \(..., 9, k\) is expected .* given \(7, 2\)"
    ):
        gradient_products([first, last], loss, [random_matrices(7, 2)] * 2)
    with pytest.raises(ValueError, match="layer 1: a loss that depends on every layer"):
        gradient_products(
            [first, last],
            lambda: first(random_matrices(3, 7)).sum(),
            [random_matrices(7, 2), random_matrices(9, 2)],
        )
    with pytest.raises(ValueError, match="layer 0: a module with a weight is expected; given Tanh"):
        gradient_products([nn.Tanh()], loss, [random_matrices(7, 2)])
    with pytest.raises(ValueError, match="adapter_scale must be > 0"):
        locally_optimal_start([first], loss, 2, adapter_scale=0.0, generator=torch.Generator())
    assert not first._forward_hooks
    assert not last._forward_hooks
