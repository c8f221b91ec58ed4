"""The start of a model's adapters from backward passes: products, randomised SVD, the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, zip_longest

import numpy as np
import torch
from torch import Tensor

from claims.measuring.draws import gaussian_there, orthonormal_there
from claims.measuring.intervals import mean_with_interval
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.riemannlora.optimal_start import CONFIDENCE, captured
from claims.riemannlora.points import PAPER, REFERENCE
from geometry.fixed_rank import point
from geometry.locally_optimal import locally_optimal_from_products
from simulate.locally_optimal_start import (
    AdapterStart,
    gradient_products,
    locally_optimal_start,
)
from simulate.tasks.layers import DenseLayer

norm = torch.linalg.matrix_norm


def _times(G: Tensor, widths: list[int], N: Sequence[Tensor]) -> list[Tensor]:
    """G N, noting of how many vectors."""
    widths.append(N[0].shape[-1])
    return [G @ N[0]]


def _randomised(setting: Setting, oversampling: int | None, iterations: int) -> Evidence:
    m, n, r = setting["shape"]
    generator = torch.Generator().manual_seed(setting.seed)
    U, V = (orthonormal_there(setting, s, n, stream=s) for s in (m, n))
    falling = 1 / torch.arange(1, n + 1).to(U)
    gradients = {
        "Gaussian": (gaussian_there(setting, m, n), 0.966),
        "1/k": ((U * falling) @ V.mT, 0.999),
        "rank 2 r": ((U * falling)[..., : 2 * r] @ V[..., : 2 * r].mT, 1.0),
    }
    measurements, remarks, widths = [], [], list[int]()
    for name, (G, level) in gradients.items():
        (start,) = locally_optimal_from_products(
            partial(_times, G, widths),
            partial(_times, G.mT, widths),
            [G],
            r,
            oversampling=oversampling,
            power_iterations=iterations,
            generator=generator,
        )
        share = captured(G, point(start.B, start.A))
        if name == "rank 2 r":
            measurements.append(
                Measurement("share of a gradient of rank 2 r off 1, most",
                            float((share - 1).abs().max()), "<=", 1e-12)
            )  # fmt: skip
            continue
        mean, low, high = mean_with_interval(share.cpu().numpy(), CONFIDENCE)
        measurements += [
            Measurement(f"mean share of the optimum, {name}", mean, "within",
                        (level - 0.02, level + 0.02)),
            Measurement(f"share, {name}, most", float(share.max()), "<=", 1 + 1e-13),
        ]  # fmt: skip
        least = float(share.min())
        remarks.append(f"{name}: mean {mean:.4f} [{low:.4f}, {high:.4f}], least {least:.4f}")
    # Two products of either side for each, of 3 r vectors.
    stated = [3 * r] * (4 * len(gradients))
    measurements.append(
        Measurement("products, or their vectors, other than stated",
                    sum(a != b for a, b in zip_longest(widths, stated)), "<=", 0)
    )  # fmt: skip
    return Evidence(tuple(measurements), {}, tuple(remarks))


def check_randomised(setting: Setting) -> Evidence:
    """Q spans (G G^T)^h G N, in which directions come weighted by s_j^(2 h + 1), and the start is
    that of Q Q^T G: its V are right singular vectors within the rows that Q sees.

    Where G has rank 2 r all of it is seen, and the start is optimal. Nothing has more than the
    optimum. The two levels, h = 1 and r vectors more than 2 r, were measured independently; that
    there are so many, in h + 1 products of either side, is counted.
    """
    return _randomised(setting, None, 1)


def control_bare(setting: Setting) -> Evidence:
    """2 r vectors and no power iteration."""
    return _randomised(setting, 0, 0)


class _Network:
    """x to W2 tanh(W1 x) in members, with targets, and the mean square as loss."""

    def __init__(self, setting: Setting, dtype: torch.dtype = torch.float64) -> None:
        sizes, batch = setting["sizes"], setting["batch"]
        self.layers = [
            DenseLayer((gaussian_there(setting, m, n, stream=m) / n**0.5).to(dtype))
            for n, m in pairwise(sizes)
        ]
        self.x = gaussian_there(setting, batch, sizes[0], stream=1).to(dtype)
        self.y = gaussian_there(setting, batch, sizes[-1], stream=2).to(dtype)
        self.passes = 0

    def losses(self) -> Tensor:
        """(E,) of the members."""
        x = self.x
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return (self.layers[-1](x) - self.y).square().mean((-2, -1))

    def loss(self) -> Tensor:
        self.passes += 1
        return self.losses().sum()


def _products(setting: Setting, offset: float) -> Evidence:
    network = _Network(setting)
    layers, k = network.layers, setting["vectors"]
    dense = torch.autograd.grad(network.losses().sum(), [layer.weight for layer in layers])
    N = [gaussian_there(setting, G.shape[-1], k, stream=50 + i) for i, G in enumerate(dense)]
    M = [gaussian_there(setting, G.shape[-2], k, stream=60 + i) for i, G in enumerate(dense)]
    for layer, X in zip(layers, N, strict=True):
        # Z1 N^T, with Z1 all ones.
        layer.weight.data += offset * X.sum(-1)[:, None, :]
    network.passes = 0
    right, left = gradient_products(layers, network.loss, N, M)
    errors: list[list[float]] = [[], []]
    for G, X, Y, found, other in zip(dense, N, M, right, left, strict=True):
        for kept, product, expected, size in (
            (errors[0], found, G @ X, norm(X)),
            (errors[1], other, G.mT @ Y, norm(Y)),
        ):
            kept.append(float((norm(product - expected) / (norm(G) * size)).max()))
    return Evidence(
        (
            Measurement("||dL/dZ1 - G N|| / ||G|| ||N||, most", np.max(errors[0]), "<=", 1e-14),
            Measurement("||dL/dZ2 - G^T M|| / ||G|| ||M||, most", np.max(errors[1]), "<=", 1e-14),
            Measurement("losses evaluated", network.passes, "<=", 1),
        )
    )


def check_products(setting: Setting) -> Evidence:
    """dL(W + Z1 N^T + M Z2^T) = <G, dZ1 N^T> + <G, M dZ2^T> = <G N, dZ1> + <G^T M, dZ2>.

    G is that of W where Z1 = Z2 = 0, of all layers at once, so one pass serves them all.
    """
    return _products(setting, 0.0)


def control_elsewhere(setting: Setting) -> Evidence:
    """Z1 = .01, where the gradient is another."""
    return _products(setting, 0.01)


def _loss_change(setting: Setting, weight: Callable[[Tensor, AdapterStart], Tensor]) -> Evidence:
    measurements, remarks, alpha = [], [], setting["adapter_scale"]
    for dtype, name in ((torch.float64, "float64"), (torch.float32, "float32")):
        network = _Network(setting, dtype)
        before, eps = network.losses().detach(), torch.finfo(dtype).eps
        network.passes = 0
        starts = locally_optimal_start(
            network.layers,
            network.loss,
            setting["rank"],
            scale=setting["scale"],
            adapter_scale=alpha,
            generator=torch.Generator().manual_seed(setting.seed),
        )
        passes, moved = network.passes, []
        for layer, start in zip(network.layers, starts, strict=True):
            W = layer.weight.detach()
            adapter = alpha * start.B @ start.A
            layer.weight.data = weight(W, start) + adapter
            moved.append(float((norm(adapter, 2) / norm(W, 2)).max()))
        change = (network.losses().detach() / before - 1).abs() / eps
        measurements += [
            Measurement(f"|loss / loss before - 1| / eps, {name}, most", float(change.max()), "<=",
                        setting["multiples"]),
            Measurement(f"backward passes, {name}", passes, "<=", 4),
        ]  # fmt: skip
    remarks.append(f"||Delta W|| up to {max(moved):.2f} of ||W||")
    return Evidence(tuple(measurements), {}, tuple(remarks))


def check_unchanged(setting: Setting) -> Evidence:
    """W' = W - Delta W, so W' + Delta W is W but for roundings, eps of the larger of W' and W.

    A loss of two layers passes relative errors on with factors of order one, and the roundings of
    its own sums, of 64 terms at most, are no smaller: bounded by 64 eps. With h = 1 the start takes
    2 (h + 1) = 4 backward passes for all layers.
    """
    return _loss_change(setting, lambda _, start: start.weight)


def control_unshifted(setting: Setting) -> Evidence:
    """The adapter beside the weight as it was."""
    return _loss_change(setting, lambda W, _: W)


CLAIMS = (
    Claim(
        id="riemannlora.loi-loss-unchanged",
        paper=PAPER,
        title="The locally optimal start leaves the loss where it was",
        statement=r"$W' = W - \Delta W$, so $L(W' + \Delta W) = L(W)$.",
        reference=f"{REFERENCE}, Section 5",
        source="paper",
        setup="W2 tanh(W1 x) of widths 24, 32, 16, batches of 64, r = 3, Delta W = 1.7 B A of norm "
        "1; float64 and float32",
        criterion="relative change at most 64 eps; 4 backward passes for all layers",
        check=check_unchanged,
        devices=DEVICES,
        dtypes=(),
        controls={"no shift": control_unshifted},
        tiers={
            "quick": {
                "seeds": 16, "sizes": (24, 32, 16), "batch": 64, "rank": 3, "scale": 1.0,
                "adapter_scale": 1.7, "multiples": 64.0,
            },
            "full": {"seeds": 512},
        },
    ),
    Claim(
        id="riemannlora.rsvd",
        paper=PAPER,
        title="A randomised SVD of few products is nearly optimal",
        statement=(
            r"With $3r$ vectors and one power iteration the start has .966 of the optimum of "
            r"Gaussian gradients, .999 where $\sigma_k = 1/k$."
        ),
        reference=f"{REFERENCE}, Section 5",
        source="paper",
        setup="40 x 30, r = 4, Gaussian and with planted singular values",
        criterion="means within .02; never above the optimum; exact for rank 2 r; four products of "
        "3 r vectors",
        check=check_randomised,
        devices=DEVICES,
        controls={"2 r vectors, no power iteration": control_bare},
        tiers={"quick": {"seeds": 64, "shape": (40, 30, 4)}, "full": {"seeds": 2048}},
    ),
    Claim(
        id="riemannlora.one-backward",
        paper=PAPER,
        title="One backward pass gives products with the gradients of all layers",
        statement=(
            r"At $Z_1 = Z_2 = 0$ the gradients of $L(W + Z_1 N^\top + M Z_2^\top)$ are "
            r"$\nabla L(W) N$ and $\nabla L(W)^\top M$."
        ),
        reference=f"{REFERENCE}, Eq. 18",
        source="paper",
        setup="W2 tanh(W1 x) of widths 24, 32, 16, batches of 64, six vectors a side",
        criterion="to 1e-14, in one pass",
        check=check_products,
        devices=DEVICES,
        controls={"Z1 = .01": control_elsewhere},
        tiers={
            "quick": {"seeds": 16, "sizes": (24, 32, 16), "batch": 64, "vectors": 6},
            "full": {"seeds": 512},
        },
    ),
)  # fmt: skip
