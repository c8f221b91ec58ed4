"""What the flows conserve and dissipate, and the exact reduction they all run in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array, slope_with_interval
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.toy import GAMMA, PAPER, REFERENCE, toy
from flows import (
    MatrixFactorization,
    Trajectory,
    gradient_flow,
    spectral_flow,
)
from flows.coordinates import ReducedCoordinates
from flows.invariants import imbalance_identity, root_imbalance, smoothed_dissipation

END = 2.5


def _times(count: int, end: float = END) -> Tensor:
    return torch.linspace(0.0, end, count, dtype=torch.float64)


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
    step, end = 0.005, 0.005 * setting["steps"]
    times = _times(setting["times"], end)
    for size, problem in problems.items():
        start = problem.gaussian_init(0.1, seed=setting.seeds(setting["seeds"]))
        fields = {
            "gradient flow": gradient_flow(problem),
            "spectral flow": spectral_flow(problem, 0.05),
            "spectral flow, tanh, weight decay": spectral_flow(
                problem, 0.05, smoothing="tanh", weight_decay=0.1
            ),
        }
        for name, field in fields.items():
            steps: dict[str, Any] = {"method": "runge_kutta_4", "step": step}
            full = integrate_there(setting, field, start, times, **steps, reduce=False).products
            coordinates = None if keep_target else _basis_missing_right(problem, *start)
            reduced = integrate_there(
                setting, field, start, times, **steps, coordinates=coordinates
            ).products
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
    bases of the two spans the coordinates follow the same flow with target Q_B^T Y Q_A.
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
        B, A = path.factors
        velocity_B, velocity_A = path.field(B, A)
        residual = B @ A - problem.dense_target()
        rate = (residual * (velocity_B @ A + B @ velocity_A)).sum((-2, -1))
        formula = smoothed_dissipation(*problem.gradients(B, A), 0.0 if unsmoothed else beta)
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
    <BA - Y, d(BA)/dt> along the ambient velocity.
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


def _imbalance(setting: Setting, exchanged: bool) -> Evidence:
    problem, beta = toy(setting.seed), 0.03
    start = problem.gaussian_init(0.3, seed=setting.seeds(setting["seeds"]))
    times = _times(setting["times"])
    # Conservation is held to 1e-10, so that flow is integrated tightly; the identity is pointwise.
    paths = (
        integrate_there(setting, spectral_flow(problem, beta), start, times),
        integrate_there(setting, gradient_flow(problem), start, times, rtol=1e-12, atol=1e-13),
    )
    spectral, ordinary = reversed(paths) if exchanged else paths
    measurements = (
        Measurement(
            "residual of the weighted identity", _identity_error(spectral, beta), "<=", 1e-10
        ),
        Measurement("drift of B^T B - A A^T", _drift(ordinary), "<=", 1e-10),
    )
    return Evidence(measurements)


def check_imbalance(setting: Setting) -> Evidence:
    """B^T dB/dt P_B = P_A dA/dt A^T under SpecGF; B^T B - A A^T is conserved under GF.

    T_beta(G_B) P_B = G_B and P_A T_beta(G_A) = G_A, so both sides of the identity are -B^T E A^T.
    Without the weights, B^T dB/dt = dA/dt A^T, whose symmetric part is the derivative of
    B^T B - A A^T.
    """
    return _imbalance(setting, exchanged=False)


def control_exchanged(setting: Setting) -> Evidence:
    """Each flow held to the other's law."""
    return _imbalance(setting, exchanged=True)


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


def _root_conservation(setting: Setting, aligned: bool) -> Evidence:
    problem, seeds = toy(setting.seed), setting.seeds(setting["seeds"])
    start = _aligned_starts(problem, seeds) if aligned else problem.gaussian_init(0.1, seed=seeds)
    drifts = []
    for beta in CONSERVATION_BETAS:
        path = integrate_there(
            setting, spectral_flow(problem, beta), start, _times(41, 0.4), rtol=1e-11, atol=1e-12
        )
        root = root_imbalance(*path.coordinates.factors(path.states))
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
        controls={"laws exchanged": control_exchanged},
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
