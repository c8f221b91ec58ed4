"""LoRA adapters of a model begun at the locally optimal point, by a few backward passes.

Beside every layer W stand the terms Z1 N^T + M Z2^T with Z1 = Z2 = 0. They change nothing, and the
gradients of the loss by Z1 and Z2 are G N and G^T M of the gradient G by W: from one backward pass,
of all layers, and without G, which no layer forms.

Reference: Bogachev et al., RiemannLoRA, arXiv 2507.12142, Eq. 18.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from geometry.errors import require_matrices
from geometry.locally_optimal import frozen_weight, locally_optimal_from_products

Loss = Callable[[], Tensor]


class AdapterStart(NamedTuple):
    """Of one layer: W = weight + adapter_scale B A.

    Attributes:
        weight: (..., m, n), to be frozen. B: (..., m, r). A: (..., r, n).
        singular_values: of the gradient, estimates of the first 2 r.
    """

    weight: Tensor
    B: Tensor
    A: Tensor
    singular_values: Tensor


def gradient_products(
    layers: Sequence[nn.Module],
    loss: Loss,
    N: Sequence[Tensor] | None = None,
    M: Sequence[Tensor] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """[G N, ...] and [G^T M, ...] of the gradients G by the layers' weights, in one backward pass.

    Args:
        layers: modules with a ``weight`` (..., m, n) that take one x (..., n) to x W^T, and maybe a
            bias: torch.nn.Linear, ``simulate.tasks.layers.DenseLayer``. One that is called several
            times has the sum of its gradients.
        loss: computes a scalar with these layers, the same at every call: one batch, no dropout. Of
            an ensemble, the sum over its members.
        N: (..., n, k) a layer. M: (..., m, k) a layer. None leaves a side out.

    Raises:
        ValueError: layers without such a weight, shapes that do not fit, or a loss that does not
            depend on one of the layers.
    """
    sides: list[list[Tensor]] = [[], []]
    with _beside(layers, N, M, sides):
        value = loss()
        wanted = sides[0] + sides[1]
        gradients = torch.autograd.grad(value, wanted, allow_unused=True)
    for place, gradient in enumerate(gradients):
        if gradient is None:
            raise ValueError(
                f"layer {place % len(layers)}: a loss that depends on every layer is expected"
            )
    found = cast("list[Tensor]", list(gradients))
    return found[: len(sides[0])], found[len(sides[0]) :]


def locally_optimal_start(
    layers: Sequence[nn.Module],
    loss: Loss,
    rank: int,
    *,
    scale: float | Tensor = 1.0,
    adapter_scale: float = 1.0,
    oversampling: int | None = None,
    power_iterations: int = 1,
    generator: torch.Generator,
) -> list[AdapterStart]:
    """Adapters begun where the gradient is most tangent, and the weights to freeze beside them.

    Takes 2 (power_iterations + 1) backward passes, whatever the number of layers, and changes
    nothing in the model. The loss of the adapted model is that of the model, to rounding.

    Args:
        layers, loss: as for :func:`gradient_products`.
        rank: r, of every adapter.
        scale: every singular value of adapter_scale B A.
        adapter_scale: alpha / r in LoRA's notation, of a layer that computes
            W + adapter_scale B A.
        oversampling, power_iterations, generator: as for
            :func:`geometry.locally_optimal.locally_optimal_from_products`.

    Raises:
        ValueError: as those two; adapter_scale <= 0.
    """
    if not adapter_scale > 0:
        raise ValueError(f"adapter_scale must be > 0, got {adapter_scale}")
    weights = [_weight(layer, place) for place, layer in enumerate(layers)]
    starts = locally_optimal_from_products(
        lambda N: gradient_products(layers, loss, N=N)[0],
        lambda M: gradient_products(layers, loss, M=M)[1],
        weights,
        rank,
        oversampling=oversampling,
        power_iterations=power_iterations,
        scale=scale / adapter_scale,
        generator=generator,
    )
    return [
        AdapterStart(frozen_weight(W, B, A, adapter_scale=adapter_scale), B, A, s)
        for W, (B, A, s) in zip(weights, starts, strict=True)
    ]


@contextmanager
def _beside(
    layers: Sequence[nn.Module],
    N: Sequence[Tensor] | None,
    M: Sequence[Tensor] | None,
    sides: list[list[Tensor]],
) -> Iterator[None]:
    """Hooks that add x N Z1^T and x Z2 M^T to what layers return; Z1 and Z2 go into ``sides``."""
    handles = []
    try:
        for place, layer in enumerate(layers):
            W, terms = _weight(layer, place), []
            for side, given in enumerate((N, M)):
                if given is None:
                    continue
                X = given[place]
                # N multiplies the columns of W, M its rows.
                size, other = (W.shape[-1], W.shape[-2]) if side == 0 else W.shape[-2:]
                if X.shape[:-1] != (*W.shape[:-2], size):
                    raise ValueError(
                        f"layer {place}, {'NM'[side]}: (..., {size}, k) is expected beside "
                        f"a weight {tuple(W.shape)}; given {tuple(X.shape)}"
                    )
                Z = X.new_zeros(*W.shape[:-2], other, X.shape[-1]).requires_grad_()
                sides[side].append(Z)
                terms.append((X, Z) if side == 0 else (Z, X))
            handles.append(layer.register_forward_hook(_adding(terms)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adding(terms: list[tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        for first, second in terms:
            output = output + (inputs[0] @ first) @ second.mT
        return output

    return hook


def _weight(layer: nn.Module, place: int) -> Tensor:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise ValueError(
            f"layer {place}: a module with a weight is expected; given {type(layer).__name__}"
        )
    require_matrices(f"layer {place}: the weight", weight)
    return weight.detach()
