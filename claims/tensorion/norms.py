"""Between which norms N lies, and how far an unfolding's may be from the tensor's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from claims.measuring.draws import gaussian_there
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.tensorion.hull import Hull
from claims.tensorion.tensors import PAPER, RECONSTRUCTED, rotations, spectral_norms, splits
from geometry.tensor_spectral_norm import spectral_norm_from_below
from geometry.unfolding import fold, mode_products

Array = NDArray[np.float64]
BELOW, ABOVE = "||X||_sigma / N - 1, largest", "N / min ||X_tau||_2 - 1, largest"
STRICT = "1 - N / min ||X_tau||_2, least of a generic X"
ALIKE = "||X||_sigma, N and min ||X_tau||_2 of X = sum s_i u_i o v_i o ..., apart by at most"
SOLVED = 1e-9
# A thousand times what the solver errs.
TIGHTER = 1e-6
RESTARTS = 100


def _sandwich(setting: Setting, norm_of: Callable[[Tensor], Array], shapes: Sequence) -> Evidence:
    """With ``norm_of`` tensors (E, n_1, ..., n_d) in N's place."""
    sigma, norm, least, largest, alike = [], [], [], [], []
    for shape in shapes:
        X = gaussian_there(setting, *shape)
        order = len(shape)
        sigma.append(spectral_norm_from_below(X, order, restarts=RESTARTS).cpu().numpy())
        norm.append(norm_of(X))
        unfolded = spectral_norms(X, order).cpu().numpy()
        least.append(unfolded.min(0))
        largest.append(unfolded.max(0))
        known = _decomposable(setting, shape)
        three = (
            spectral_norm_from_below(known, order, restarts=RESTARTS).cpu().numpy(),
            norm_of(known),
            spectral_norms(known, order).cpu().numpy().min(0),
        )
        alike.append(np.abs(np.stack(three) - 1).max())
    found = [np.stack(x) for x in (sigma, norm, least, largest)]
    sigmas, norms, minima, maxima = found
    return Evidence(
        (
            Measurement(BELOW, float((sigmas / norms).max()) - 1, "<=", SOLVED),
            Measurement(ABOVE, float((norms / minima).max()) - 1, "<=", SOLVED),
            Measurement(STRICT, 1 - float((norms / minima).max()), ">=", TIGHTER),
            Measurement(ALIKE, np.max(alike), "<=", SOLVED),
        ),
        {
            "shapes": np.array([" x ".join(map(str, shape)) for shape in shapes]),
            "sigma": sigmas,
            "norm": norms,
            "least": minima,
            "largest": maxima,
        },
        tuple(
            f"{' x '.join(map(str, shape))}: over ||X||_sigma N is {_range(norms[i] / sigmas[i])}, "
            f"min {_range(minima[i] / sigmas[i])}, max {_range(maxima[i] / sigmas[i])}"
            for i, shape in enumerate(shapes)
        ),
    )


def _decomposable(setting: Setting, shape: Sequence[int]) -> Tensor:
    """sum u_i o v_i o ... / i of orthonormal u_i, v_i, ...: of length 1 in all three norms."""
    axes, count = rotations(setting, shape, stream=40), min(shape)
    core = axes[0].new_zeros(len(axes[0]), *shape)
    for i in range(count):
        entry: tuple[int | slice, ...] = (slice(None), *[i] * len(shape))
        core[entry] = 1 / (1 + i)
    return mode_products(core, axes)


def _range(values: Array) -> str:
    return f"{values.min():.3f} to {values.max():.3f}"


def _norm(X: Tensor) -> Array:
    hull = Hull(tuple(X.shape[1:]))
    return np.array([hull.norm(member) for member in X.cpu().numpy()])


def check_sandwich(setting: Setting) -> Evidence:
    """A rank-one tensor of unit vectors has rank one in every unfolding, so <X, x_1 o ... o x_d> <=
    sum ||Y_tau||_2 for every decomposition X = sum Y_tau: ||X||_sigma <= N. Y_tau = X for one tau
    alone is a decomposition: N <= min_tau ||X_tau||_2. And N is the largest norm that is nowhere
    above any ||X_tau||_2, for the hull is the least convex set that holds their balls.

    N is a semidefinite program. ||X||_sigma is known from below, by the higher-order power method
    with 100 starts, so its share of N is too; that can hide no violation of any value found. That
    it finds what there is, is seen where all three are known: sum s_i u_i o v_i o ... of
    orthonormal u_i, v_i, ... has s_1 for singular value of every unfolding, and attains it in rank
    one.
    """
    return _sandwich(setting, _norm, setting["shapes"])


def control_max(setting: Setting) -> Evidence:
    """max_tau ||X_tau||_2, the other way to make a norm of them."""
    return _sandwich(
        setting, lambda X: spectral_norms(X, X.ndim - 1).amax(0).cpu().numpy(), setting["shapes"]
    )


def control_matrices(setting: Setting) -> Evidence:
    """Matrices, on which all three are one."""
    return _sandwich(setting, _norm, ((4, 6),))


RATIO = "||X_tau||_2 over its bound, largest"
ATTAINED = "the same of planted tensors, which attain it, off 1 by at most"
GENERIC = ((5, 5, 5), (2, 3, 4), (6, 4, 3, 3))


def _attaining(setting: Setting, size: int) -> list[Tensor]:
    """U o V with U, V orthogonal matrices over sqrt(n): of length 1, spectral norm 1 / sqrt(n).

    Of order 3 one of them is a vector.
    """
    axes = rotations(setting, (size, size), stream=20)
    Q, P = (each.flatten(1) / math.sqrt(size) for each in axes)
    x = torch.nn.functional.normalize(gaussian_there(setting, size, stream=30), dim=1)
    three = x[:, :, None] * Q[:, None]
    four = Q[:, :, None] * P[:, None]
    return [
        fold(three, (0,), (size,) * 3),
        fold(four, (0, 1), (size,) * 4),
        fold(four, (0, 2), (size,) * 4),
    ]


def _dimensions(setting: Setting, share: float) -> Evidence:
    """With ``share`` times the constant."""
    taken, drawn = list[Tensor](), [gaussian_there(setting, *shape) for shape in GENERIC]
    for X in (*drawn, *_attaining(setting, 3)):
        shape, order = X.shape[1:], X.ndim - 1
        sigma = spectral_norm_from_below(X, order, restarts=RESTARTS)
        constants = X.new_tensor([_constant(shape, modes) for modes in splits(order)])
        taken.append((spectral_norms(X, order) / (constants[:, None] * sigma)).amax(0))
    generic, attained = torch.stack(taken[: len(GENERIC)]), torch.stack(taken[len(GENERIC) :])
    largest = float(torch.cat([generic, attained]).max())
    return Evidence(
        (
            Measurement(RATIO, largest / share, "<=", 1 + 1e-12),
            Measurement(ATTAINED, float((attained - 1).abs().max()), "<=", 1e-12),
        ),
        remarks=(f"Gaussian tensors take up to {float(generic.max()):.3f} of it",),
    )


def _constant(shape: Sequence[int], modes: Sequence[int]) -> float:
    """sqrt(m_tau / max n_k over tau, times n_tau / max n_k over the others)."""
    sides = (
        [shape[k] for k in range(len(shape)) if (k in modes) is side] for side in (True, False)
    )
    return math.sqrt(math.prod(math.prod(side) / max(side) for side in sides))


def check_dimensions(setting: Setting) -> Evidence:
    """||X_tau||_2 = <X, U o V> for tensors U over the modes tau and V over the others, of Frobenius
    norm 1. U is the sum of its fibres along its longest mode, each of rank one; there are m_tau /
    max n_k, and their lengths sum to at most the root of that. So with c_tau the constant U o V is
    a sum of tensors of rank one whose lengths sum to c_tau at most, and <X, U o V> <= c_tau
    ||X||_sigma. Orthogonal matrices for U and V attain it.

    ||X||_sigma is taken from below, which only makes it harder; that it is not taken too large, by
    an error of ours, is seen where the bound is attained.
    """
    return _dimensions(setting, 1.0)


def control_half(setting: Setting) -> Evidence:
    """Half of the constant."""
    return _dimensions(setting, 0.5)


CLAIMS = (
    Claim(
        id="tensorion.norm-bounds",
        paper=PAPER,
        title="The norm lies between the tensor's spectral norm and every unfolding's",
        statement=(
            r"$\|X\|_\sigma \le N(X) \le \min_\tau \|X_\tau\|_2$, and the second is strict for "
            r"generic $X$ of order three and more."
        ),
        reference=f'{RECONSTRUCTED} ("tightly bounding")',
        source="paper",
        setup="Gaussian X, shapes in the evidence; N as a semidefinite program by Clarabel, on "
        f"the CPU, the spectral norm from below by {RESTARTS} restarts of the higher-order power "
        "method",
        criterion=f"no inequality violated by more than {SOLVED:g}, the solver's; N below the "
        f"minimum by 1e-6 at least in every case; all three to {SOLVED:g} where X is a sum of "
        "orthogonal rank-one tensors and they are equal",
        check=check_sandwich,
        devices=DEVICES,
        controls={"max of the unfoldings": control_max, "matrices": control_matrices},
        tiers={
            "quick": {"seeds": 3, "shapes": ((2, 3, 4), (3, 3, 3), (3, 2, 2, 2), (4, 4, 4))},
            "full": {
                "seeds": 30,
                "shapes": ((2, 3, 4), (3, 3, 3), (3, 2, 2, 2), (4, 4, 4), (5, 5, 5), (3, 3, 3, 3)),
            },
        },
    ),
    Claim(
        id="tensorion.dimension-bound",
        paper=PAPER,
        title="No unfolding is further from the tensor than its dimensions",
        statement=(
            r"$\|X_\tau\|_2 \le \sqrt{\frac{m_\tau}{\max_{k \in \tau} n_k} \cdot "
            r"\frac{n_\tau}{\max_{k \notin \tau} n_k}}\; \|X\|_\sigma$."
        ),
        reference=RECONSTRUCTED,
        source="derived",
        setup="Gaussian X of 5 x 5 x 5, 2 x 3 x 4, 6 x 4 x 3 x 3, and planted ones that attain it",
        criterion="never above, and attained by the planted ones, to round-off",
        check=check_dimensions,
        devices=DEVICES,
        controls={"half of the constant": control_half},
        tiers={"quick": {"seeds": 3}, "full": {"seeds": 100}},
    ),
)
