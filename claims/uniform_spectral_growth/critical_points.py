"""The Jacobian of SpecGF at critical points: that of GF over beta."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from claims.registry import Evidence, Measurement, Setting
from claims.uniform_spectral_growth.saddles import (
    OPTIMUM,
    RANK,
    RANK_TWO,
    SWAP,
    ZERO,
    CriticalPoint,
    planted,
)
from claims.uniform_spectral_growth.toy import SINGULAR_VALUES
from flows import Field, MatrixFactorization, spectral_flow
from flows.moving import moved
from flows.starts import Factors

BETA = 0.1
# Of factors that are no critical points.
SCALES = (1e-3, 0.1, 1.0, 10.0)


def critical_points(setting: Setting) -> Evidence:
    r"""SpecGF has GF's critical points, and there the Jacobian -Hess L / beta.

    Derivation. T_beta is injective with T_beta(0) = 0, so the velocity vanishes where the gradient
    does, and nowhere else: with s the singular values of both gradients L falls at the rate
    sum s^2 / sqrt(s^2 + beta^2) >= |G|^2 / sqrt(|G|^2 + beta^2), for no s is above |G|. This is
    looked at from Gaussian factors of four sizes. T_beta(G) = G / beta + O(|G|^3) at 0, so the
    chain rule at a critical point gives -Hess L / beta: strict saddles stay strict.

    The curvatures. Let the point keep the modes I, E = -sum_(j not in I) sigma_j u_j v_j^T, and
    move column c by x u_j in B and y v_j in A. The second derivative of L along (x, y) is
    |dB A + B dA|^2 + 2 <E, dB dA> = s_c (x^2 + y^2) - 2 sigma_j x y, with s_c = sigma_i for a
    column that holds mode i and 0 for a free one: curvatures s_c -+ sigma_j. The negative ones are
    sigma_i - sigma_j for a kept i and a larger sigma_j that is not kept, and -sigma_j, once for
    every free column, for all j not kept. With sigma = 5, 4, 3, 2, 1 and r = 3: one negative
    curvature at the swap {1, 2, 4}, -1; three at {1, 2}, the lowest -3; fifteen at zero, the lowest
    -5.

    The Hessian is autograd's, of the loss multiplied out, on the CPU. The Jacobian is that of the
    field the integrators run, where they run, by central differences of fourth order: the
    eigensolver within it has no derivative where the gradient vanishes. Their step is 3e-4 beta;
    T_beta's cubic term drops out, and the fifth order leaves (sigma_1 h / beta)^4, about 1e-10.
    """
    return _critical_points(setting, displacement=0.0)


def displaced_points(setting: Setting) -> Evidence:
    """The critical points, displaced by 0.1 Gaussian: not critical any more."""
    return _critical_points(setting, displacement=0.1)


def _critical_points(setting: Setting, displacement: float) -> Evidence:
    relative, distances, descents_off = [], [], []
    velocities: list[float] = []
    counts: dict[str, list[int]] = {}
    lowest: dict[str, list[float]] = {}
    points = (OPTIMUM, SWAP, RANK_TWO, ZERO)
    for seed in setting.seeds(setting["seeds"]):
        problem = planted(6, 7, seed)
        field = moved(spectral_flow(problem, BETA), setting.device)
        descents_off += [
            _descent(problem, field, *problem.gaussian_init(scale, seed)) for scale in SCALES
        ]
        generator = torch.Generator().manual_seed(seed)
        for point in points:
            B, A = (
                factor
                + displacement * torch.randn(factor.shape, generator=generator, dtype=factor.dtype)
                for factor in point.factors(problem, seed)
            )
            hessian = _hessian(problem, B, A)
            there = B.to(setting.device), A.to(setting.device)
            jacobian = _jacobian(field, *there, step=3e-4 * BETA).cpu()
            relative.append(float((jacobian + hessian / BETA).norm() / (hessian / BETA).norm()))
            velocities.extend(float(part.norm()) for part in field(*there))
            curvatures = torch.linalg.eigvalsh(-BETA * (jacobian + jacobian.mT) / 2)
            descents = curvatures[curvatures < -1e-3].tolist()
            expected = point.descents(SINGULAR_VALUES, RANK)
            counts.setdefault(point.name, []).append(len(descents))
            lowest.setdefault(point.name, []).append(float(curvatures[0]))
            distances.append(
                np.abs(np.subtract(descents, expected)).max(initial=0.0)
                if len(descents) == len(expected)
                else math.inf
            )
    return Evidence(
        measurements=(
            Measurement(
                "largest relative distance of the Jacobian to -Hess L / beta",
                np.max(relative),
                "<=",
                1e-6,
            ),
            Measurement("largest velocity", np.max(velocities), "<=", 1e-10),
            Measurement(
                "smallest descent elsewhere, over its least", np.min(descents_off), ">=", 1.0
            ),
            Measurement(
                "largest distance of a descent to its formula", np.max(distances), "<=", 1e-6
            ),
            *(
                measurement
                for point in (SWAP, RANK_TWO, ZERO)
                for measurement in _descents(point, counts[point.name], lowest[point.name])
            ),
        ),
        arrays={"relative_distance": np.array(relative).reshape(-1, len(points))},
        remarks=(f"{len(relative)} points: {', '.join(p.name for p in points)}; beta {BETA:g}.",),
    )


def _descents(
    point: CriticalPoint, counts: list[int], lowest: list[float]
) -> tuple[Measurement, ...]:
    expected = point.descents(SINGULAR_VALUES, RANK)
    number, depth = float(len(expected)), expected[0]
    off = max(counts, key=lambda count: abs(count - number))
    far = lowest[np.abs(np.subtract(lowest, depth)).argmax()]
    return (
        Measurement(f"descents at the {point.name}", off, "within", (number, number)),
        Measurement(
            f"lowest curvature at the {point.name}", far, "within", (depth - 1e-6, depth + 1e-6)
        ),
    )


def _loss(problem: MatrixFactorization, B: Tensor, A: Tensor) -> Callable[[Tensor], Tensor]:
    """Of flat factors of the shapes of B and A, multiplied out."""
    target = problem.dense_target()

    def loss(flat: Tensor) -> Tensor:
        b, a = _unflatten(flat, B, A)
        return 0.5 * ((b @ a - target) ** 2).sum()

    return loss


def _descent(problem: MatrixFactorization, field: Field, B: Tensor, A: Tensor) -> float:
    """-dL/dt over |G|^2 / sqrt(|G|^2 + beta^2), with autograd's gradient."""
    gradient = torch.func.grad(_loss(problem, B, A))(_flatten(B, A))
    size, place = float(gradient.norm()), field.problem.device
    velocity = _flatten(*field(B.to(place), A.to(place))).cpu()
    return -float(gradient @ velocity) * math.hypot(size, BETA) / size**2


def _hessian(problem: MatrixFactorization, B: Tensor, A: Tensor) -> Tensor:
    hessian: Tensor = torch.func.hessian(_loss(problem, B, A))(_flatten(B, A))
    return hessian


def _jacobian(field: Field, B: Tensor, A: Tensor, step: float) -> Tensor:
    centre = _flatten(B, A)
    size = len(centre)
    directions = step * torch.eye(size).to(centre)
    shifts = torch.cat([shift * directions for shift in (1.0, -1.0, 2.0, -2.0)])
    velocities = _flatten(*field(*_unflatten(centre + shifts, B, A)))
    near, near_back, far, far_back = velocities.unflatten(0, (4, size))
    return ((8 * (near - near_back) - (far - far_back)) / (12 * step)).mT


def _flatten(B: Tensor, A: Tensor) -> Tensor:
    return torch.cat([B.flatten(-2), A.flatten(-2)], dim=-1)


def _unflatten(flat: Tensor, B: Tensor, A: Tensor) -> Factors:
    left, right = flat.split([B.numel(), A.numel()], dim=-1)
    return left.unflatten(-1, B.shape), right.unflatten(-1, A.shape)
