"""What the flows conserve and dissipate, and the exact reduction they all run in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array, slope_with_interval
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.toy import GAMMA, PAPER, REFERENCE, toy
from flows import (
    Field,
    MatrixFactorization,
    Trajectory,
    gradient_flow,
    spectral_flow,
)
from flows.coordinates import ReducedCoordinates
from flows.invariants import imbalance_identity, smoothed_dissipation
from geometry.gauge import Pair

END = 2.5


def _times(count: int, end: float = END) -> Tensor:
    return torch.linspace(0.0, end, count, dtype=torch.float64)


class _Flow(NamedTuple):
    """A field, and what its direction does to singular values, written out."""

    field: Callable[[MatrixFactorization], Field]
    phi: Callable[[Tensor], Tensor]
    decay: float = 0.0

    def velocity(self, target: Tensor, B: Tensor, A: Tensor) -> Pair:
        """Of full factors, from the dense residual."""
        E = B @ A - target
        return self._moved(E @ A.mT, B), self._moved(B.mT @ E, A)

    def _moved(self, G: Tensor, factor: Tensor) -> Tensor:
        U, s, Vh = torch.linalg.svd(G, full_matrices=False)
        return -(U * self.phi(s)[..., None, :]) @ Vh - self.decay * factor


SMOOTH = 0.05
REDUCED = {
    "gradient flow": _Flow(gradient_flow, lambda s: s),
    "spectral flow": _Flow(
        lambda problem: spectral_flow(problem, SMOOTH), lambda s: s / (s**2 + SMOOTH**2).sqrt()
    ),
    "spectral flow, tanh, weight decay": _Flow(
        lambda problem: spectral_flow(problem, SMOOTH, smoothing="tanh", weight_decay=0.1),
        lambda s: torch.tanh(s / SMOOTH),
        0.1,
    ),
}
STEP, RECORDED = 0.005, 20


def _full_products(flow: _Flow, target: Tensor, start: Pair, steps: int) -> Tensor:
    """B A of the full factors, (seeds, RECORDED + 1, m, n), by the classical Runge-Kutta method."""
    B, A = start
    products = [B @ A]
    for step in range(1, steps + 1):
        slopes: list[Pair] = []
        for share in (0.0, 0.5, 0.5, 1.0):
            b, a = slopes[-1] if slopes else (0.0, 0.0)
            slopes.append(flow.velocity(target, B + share * STEP * b, A + share * STEP * a))
        B, A = (
            x + STEP / 6 * (one + 2 * two + 2 * three + four)
            for x, one, two, three, four in zip((B, A), *slopes, strict=True)
        )
        if step % (steps // RECORDED) == 0:
            products.append(B @ A)
    return torch.stack(products, dim=1)


def _reduction(setting: Setting, keep_target: bool) -> Evidence:
    """Fixed steps on both sides, so that only round-off and the reduction itself can differ."""
    arrays: dict[str, Array] = {}
    measurements = []
    problems = {
        "60 x 70": toy(setting.seed),
        "300 x 200": MatrixFactorization.planted(
            m=300, n=200, singular_values=(3.0, 2.0, 1.0, 0.5), rank=6, seed=setting.seed
        ),
    }
    steps = setting["steps"]
    times = STEP * steps / RECORDED * torch.arange(RECORDED + 1, dtype=torch.float64)
    for size, problem in problems.items():
        start = problem.gaussian_init(0.1, seed=setting.seeds(setting["seeds"]))
        for name, flow in REDUCED.items():
            full = _full_products(flow, problem.dense_target(), start, steps)
            coordinates = None if keep_target else _basis_missing_right(problem, *start)
            reduced = integrate_there(
                setting, flow.field(problem), start, times, method="runge_kutta_4", step=STEP,
                coordinates=coordinates,
            ).products  # fmt: skip
            norm = torch.linalg.matrix_norm
            error = (norm(full - reduced) / norm(full)).amax(0)
            arrays[f"{name}, {size}"] = error.numpy()
            measurements.append(
                Measurement(f"relative difference, {name}, {size}", float(error.max()), "<=", 1e-9)
            )
    return Evidence(tuple(measurements), arrays)


def _basis_missing_right(problem: MatrixFactorization, B: Tensor, A: Tensor) -> ReducedCoordinates:
    left = torch.linalg.qr(torch.cat([problem.left.expand(len(B), -1, -1), B], dim=-1)).Q
    right = torch.linalg.qr(A.mT).Q
    return ReducedCoordinates.in_bases(problem, left, right)


def check_reduction(setting: Setting) -> Evidence:
    """B stays in span[B0, U] and A^T in span[A0^T, V].

    G_B = (BA - Y) A^T has its columns in span[B, U], and T_beta(G_B) is G_B times an r x r matrix;
    likewise A. So dB/dt never leaves span[B0, U], with weight decay neither, and in orthonormal
    bases of the two spans the coordinates follow the same flow with target Q_B^T Y Q_A. The full
    trajectory shares no code with the reduced one: dense residual, singular values, Runge-Kutta.
    """
    return _reduction(setting, keep_target=True)


def control_basis_without_right_vectors(setting: Setting) -> Evidence:
    """The same reduction in span[A0^T] alone, without V."""
    return _reduction(setting, keep_target=False)


def _energy(setting: Setting, unsmoothed: bool) -> Evidence:
    measurements, arrays = [], {}
    for beta in (0.1, 0.01):
        problem = toy(setting.seed)
        start = problem.lora_init(GAMMA, seed=setting.seeds(setting["seeds"]))
        path = integrate_there(
            setting, spectral_flow(problem, beta), start, _times(setting["times"])
        )
        assert isinstance(path.coordinates, ReducedCoordinates)
        W, velocity = path.reduced_products()
        rate = ((W - path.coordinates.target[:, None]) * velocity).sum((-2, -1))
        gradients = problem.gradients(*path.factors)
        formula = smoothed_dissipation(*gradients, 0.0 if unsmoothed else beta)
        error = (rate + formula).abs() / formula.amax(-1, keepdim=True)
        arrays[f"dissipation_beta_{beta:g}"] = formula.numpy()
        measurements.append(
            Measurement(
                f"error of dL/dt over the largest dissipation, beta {beta:g}",
                float(error.max()), "<=", 1e-12,
            )
        )  # fmt: skip
    return Evidence(tuple(measurements), arrays)


def check_energy(setting: Setting) -> Evidence:
    """dL/dt = -sum_k s_k^2 / sqrt(s_k^2 + beta^2) over the singular values of both gradients.

    dL/dt = <G_B, dB/dt> + <G_A, dA/dt> = -sum over both of tr(G^T T_beta(G)), and
    tr(G^T T_beta(G)) = sum_k s_k phi(s_k). The left side is measured without gradients, as
    <BA - Y, d(BA)/dt> along the velocity in the reduction; the right side of full gradients.
    """
    return _energy(setting, unsmoothed=False)


def control_nuclear_norm(setting: Setting) -> Evidence:
    """-||G||_* in place of the smoothed sum; at beta = .1 it is far off."""
    return _energy(setting, unsmoothed=True)


def _drift(trajectory: Trajectory) -> float:
    imbalance = trajectory.imbalance
    return float(torch.linalg.matrix_norm(imbalance - imbalance[:, :1]).max())


def _identity_error(trajectory: Trajectory, beta: float) -> float:
    problem = trajectory.field.problem
    B, A = trajectory.factors
    G_B, G_A = problem.gradients(B, A)
    left, right = imbalance_identity(B, A, *trajectory.field(B, A), G_B, G_A, beta)
    norm = torch.linalg.matrix_norm
    return float((norm(left - right) / norm(left).amax(-1, keepdim=True)).max())


IDENTITY_BETA = 0.03


def _path(setting: Setting, field_of: Callable[[MatrixFactorization], Field]) -> Trajectory:
    problem = toy(setting.seed)
    start = problem.gaussian_init(0.3, seed=setting.seeds(setting["seeds"]))
    # Conservation is held to 1e-10.
    tight = {"rtol": 1e-12, "atol": 1e-13} if field_of is gradient_flow else {}
    return integrate_there(setting, field_of(problem), start, _times(setting["times"]), **tight)


def _spectral(problem: MatrixFactorization) -> Field:
    return spectral_flow(problem, IDENTITY_BETA)


def _identity(path: Trajectory) -> Measurement:
    error = _identity_error(path, IDENTITY_BETA)
    return Measurement("residual of the weighted identity", error, "<=", 1e-10)


def _conserved(path: Trajectory) -> Measurement:
    return Measurement("drift of B^T B - A A^T", _drift(path), "<=", 1e-10)


def check_imbalance(setting: Setting) -> Evidence:
    """B^T dB/dt P_B = P_A dA/dt A^T under SpecGF; B^T B - A A^T is conserved under GF.

    T_beta(G_B) P_B = G_B and P_A T_beta(G_A) = G_A, so both sides of the identity are -B^T E A^T.
    Without the weights, B^T dB/dt = dA/dt A^T, whose symmetric part is the derivative of
    B^T B - A A^T.
    """
    return Evidence(
        (_identity(_path(setting, _spectral)), _conserved(_path(setting, gradient_flow)))
    )


def control_identity_of_gradient_flow(setting: Setting) -> Evidence:
    """Gradient flow, held to the weighted identity."""
    return Evidence((_identity(_path(setting, gradient_flow)),))


def control_drift_of_spectral_flow(setting: Setting) -> Evidence:
    """SpecGF, held to the conservation."""
    return Evidence((_conserved(_path(setting, _spectral)),))


CONSERVATION_BETAS = (0.1, 0.01, 1e-3, 1e-4)


def _aligned_starts(problem: MatrixFactorization, seeds: range) -> tuple[Tensor, Tensor]:
    starts = []
    for seed in seeds:
        strengths = torch.rand(
            2, problem.rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        b, a = 0.1 + 0.4 * strengths
        starts.append(problem.aligned_init(b, a, seed=seed))
    B, A = (torch.stack(factors) for factors in zip(*starts, strict=True))
    return B, A


def _gram_root(X: Tensor) -> Tensor:
    """(X^T X)^(1/2), from the singular values of X."""
    _, s, Vh = torch.linalg.svd(X, full_matrices=False)
    return (Vh.mT * s[..., None, :]) @ Vh


def _root_conservation(setting: Setting, aligned: bool) -> Evidence:
    problem, seeds = toy(setting.seed), setting.seeds(setting["seeds"])
    start = _aligned_starts(problem, seeds) if aligned else problem.gaussian_init(0.1, seed=seeds)
    drifts = []
    for beta in CONSERVATION_BETAS:
        path = integrate_there(
            setting, spectral_flow(problem, beta), start, _times(41, 0.4), rtol=1e-11, atol=1e-12
        )
        B, A = path.coordinates.factors(path.states)
        root = _gram_root(B) - _gram_root(A.mT)
        drifts.append(torch.linalg.matrix_norm(root - root[:, :1], ord=2).amax(1).numpy())
    smoothed, sharp = np.array(drifts).T[:, 1:], drifts[-1]
    slope, interval = slope_with_interval(
        np.log(np.array(CONSERVATION_BETAS[1:])), np.log(smoothed)
    )
    measurements = (
        Measurement("largest drift at beta 1e-4", float(sharp.max()), "<=", 1.2e-7),
        Measurement("slope of the drift in beta, lower end", float(interval[0]), ">=", 1.9),
        Measurement("slope of the drift in beta, upper end", float(interval[1]), "<=", 2.1),
    )
    arrays = {
        "betas": np.array(CONSERVATION_BETAS),
        "drift": np.array(drifts),
        "slope": np.array(slope),
    }
    return Evidence(measurements, arrays)


def check_aligned_conservation(setting: Setting) -> Evidence:
    """On the aligned manifold, as beta -> 0, sqrt(B^T B) - sqrt(A A^T) is conserved.

    There B^T B = Q^T diag(b)^2 Q and A A^T = Q^T diag(a)^2 Q with a fixed Q, and while a, b > 0 and
    s < sigma both strengths grow at phi(g): the difference moves at phi(g_b) - phi(g_a), which is
    O(beta^2 / g^2). The flow is followed to t = .4, before the first arrival.
    """
    return _root_conservation(setting, aligned=True)


def control_unaligned(setting: Setting) -> Evidence:
    """A Gaussian start, which is not aligned."""
    return _root_conservation(setting, aligned=False)


CLAIMS = (
    Claim(
        id="usg.reduction",
        paper=PAPER,
        title="The flow lives in r + k dimensions",
        statement=(
            r"$B(t) \in \operatorname{span}[B_0, U]$ and $A(t)^\top \in \operatorname{span}"
            r"[A_0^\top, V]$: the reduced trajectory is the full one."
        ),
        reference=REFERENCE,
        source="derived",
        setup="60 x 70 (r = 5, rank 5) and 300 x 200 (r = 6, rank 4); GF, SpecGF with the square "
        "root, SpecGF with tanh and weight decay; Gaussian starts, fixed steps",
        criterion="relative difference of the products at most 1e-9 over the whole trajectory",
        check=check_reduction,
        devices=DEVICES,
        seconds=3,
        controls={"basis without V": control_basis_without_right_vectors},
        tiers={
            "quick": {"seeds": 2, "steps": 120, "times": 21},
            "full": {"seeds": 8, "steps": 600},
        },
    ),
    Claim(
        id="usg.energy",
        paper=PAPER,
        title="How fast SpecGF dissipates the loss",
        statement=(
            r"$\frac{dL}{dt} = -\sum_k \frac{s_k^2}{\sqrt{s_k^2 + \beta^2}}$ over the singular "
            r"values $s_k$ of both gradients."
        ),
        reference=REFERENCE,
        source="derived",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1, LoRA start gamma = 1e-3, beta .1 and .01, t to 2.5",
        criterion="error at most 1e-12 of the largest dissipation, along the trajectory",
        check=check_energy,
        devices=DEVICES,
        controls={"nuclear norm": control_nuclear_norm},
        tiers={"quick": {"seeds": 4, "times": 51}, "full": {"seeds": 32, "times": 201}},
    ),
    Claim(
        id="usg.imbalance-identity",
        paper=PAPER,
        title="The imbalance law of SpecGF",
        statement=(
            r"Under SpecGF $B^\top \dot B\, P_B = P_A\, \dot A A^\top$ with "
            r"$P_B = (G_B^\top G_B + \beta^2)^{1/2}$, $P_A = (G_A G_A^\top + \beta^2)^{1/2}$; "
            r"gradient flow conserves $B^\top B - A A^\top$."
        ),
        reference=REFERENCE,
        source="derived",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1, Gaussian starts of scale .3, beta .03, t to 2.5",
        criterion="residual and drift at most 1e-10",
        check=check_imbalance,
        devices=DEVICES,
        controls={
            "gradient flow's identity": control_identity_of_gradient_flow,
            "SpecGF's drift": control_drift_of_spectral_flow,
        },
        tiers={"quick": {"seeds": 4, "times": 51}, "full": {"seeds": 32, "times": 201}},
    ),
    Claim(
        id="usg.aligned-conservation",
        paper=PAPER,
        title="Aligned factors conserve their root imbalance",
        statement=(
            r"On the aligned manifold, as $\beta \to 0$, $\sqrt{B^\top B} - \sqrt{A A^\top}$ is "
            r"conserved; its drift falls as $\beta^2$."
        ),
        reference="Rhee, Simon, Karkada 2026, arXiv 2606.30509",
        source="related",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1; aligned strengths uniform in [.1, .5]; "
        "beta .1, .01, 1e-3, 1e-4; t to .4",
        criterion="drift at beta 1e-4 at most 1.2e-7; interval of the slope inside 2 +- .1 "
        "over beta <= .01",
        check=check_aligned_conservation,
        devices=DEVICES,
        controls={"unaligned start": control_unaligned},
        tiers={"quick": {"seeds": 10}, "full": {"seeds": 100}},
    ),
)
