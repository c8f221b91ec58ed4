"""SpecGF reaches the global minimum, plain and with coupled l2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.toy import PAPER, REFERENCE, SINGULAR_VALUES, toy
from flows import Field, MatrixFactorization, Trajectory, spectral_flow
from flows.closed_forms import shrunk
from flows.starts import Factors

RANKS = (1, 3, 8, 10)
BETAS = (0.1, 0.2, 0.5)
ROWS, COLUMNS = 10, 12
LEARNED = 4.0
TARGETS = (2.75, 2.5, 2.25, 2.0, 1.75, 1.5, 1.25, 1.0)


@dataclass(frozen=True)
class Runs:
    """What is kept of a batch of runs, (lanes,) each.

    Attributes:
        gap: how far L at the end is from its global minimum, to either side.
        rise: the largest rise of L between recorded times, over L at the start.
        norm: the largest ||(B, A)||_F on the way.
    """

    gap: Array
    rise: Array
    norm: Array

    @classmethod
    def of(cls, trajectory: Trajectory) -> Runs:
        loss, rank = trajectory.loss, trajectory.field.problem.rank
        # What no matrix of this rank can learn.
        optimum = 0.5 * sum(sigma**2 for sigma in TARGETS[rank:])
        return cls(
            gap=(loss[:, -1] - optimum).abs().numpy(),
            rise=(loss.diff(dim=-1).amax(-1) / loss[:, 0]).numpy(),
            norm=torch.linalg.matrix_norm(trajectory.states).amax(-1).numpy(),
        )


def global_convergence(setting: Setting) -> Evidence:
    r"""From random starts every run reaches the global minimum.

    Derivation. L falls along SpecGF, dL/dt = -<G, T_beta(G)> < 0 off the critical points, so a
    bounded run converges to critical points; those that are no global minimum are strict saddles
    (``usg.critical-points``), whose stable manifolds have measure zero. The theorem leaves
    divergence of the factors as the alternative; their largest norm is reported.

    Up to the rank of Y the approach is exponential. Beyond it a pair of free columns (b, a) has
    ds/dt = -(a^2 + b^2) s / beta <= -2 s^2 / beta for s = |ab|, slowest where it is balanced: the
    gap s^2 / 2 falls like beta^2 / (8 t^2), and for two pairs is 1e-6 at t = 500 beta. So runs end
    at a multiple of beta.
    """
    runs = []
    for rank in RANKS:
        problem = MatrixFactorization.planted(
            m=ROWS, n=COLUMNS, singular_values=TARGETS, rank=rank, seed=setting.seed
        )
        start = random_starts(problem, setting)
        # Lanes of all beta together where each stops by itself when it has converged.
        batches = [BETAS] if rank <= len(TARGETS) else [(beta,) for beta in BETAS]
        runs += [_run(problem, start, betas, setting) for betas in batches]
    return _convergence(runs)


def stable_manifold(setting: Setting) -> Evidence:
    """Started exactly on a stable manifold: diagonal Y, the first mode exactly zero; it stays.

    Integrated in the factors themselves, where the zeros are exact: the first row of G_B and the
    first column of G_A are sums of products with zeros.
    """
    modes, rank = len(TARGETS), 1
    identity = torch.eye(COLUMNS, dtype=torch.float64)
    sigma = torch.tensor(TARGETS, dtype=torch.float64)
    problem = MatrixFactorization.from_factors(
        identity[:ROWS, :modes], sigma, identity[:, :modes], rank
    )
    B, A = random_starts(problem, setting)
    B[..., 0, :] = 0.0
    A[..., :, 0] = 0.0
    return _convergence([_run(problem, (B, A), BETAS[-1:], setting, reduce=False)])


def random_starts(problem: MatrixFactorization, setting: Setting) -> Factors:
    """Gaussian factors (scales * seeds, ...), entries of deviation scale / sqrt(rows of B)."""
    count = setting["seeds"]
    seeds = setting.seeds(count * len(setting["scales"]))
    starts = [
        problem.gaussian_init(scale / ROWS**0.5, seeds[position * count : (position + 1) * count])
        for position, scale in enumerate(setting["scales"])
    ]
    return torch.cat([B for B, _ in starts]), torch.cat([A for _, A in starts])


def _run(
    problem: MatrixFactorization,
    start: Factors,
    betas: Sequence[float],
    setting: Setting,
    *,
    reduce: bool = True,
) -> Runs:
    """Every start with every beta, until it has converged or to a multiple of the largest beta."""
    B, A = start
    scales = torch.tensor(betas, dtype=problem.dtype).repeat_interleave(len(B))
    # Modes are learned by t = 2; what follows goes on for long and evenly in the logarithm.
    end = 10.0 + setting["betas to run"] * max(betas)
    times = torch.cat(
        [
            torch.linspace(0.0, LEARNED, 201),
            torch.logspace(math.log10(LEARNED), math.log10(end), 51)[1:],
        ]
    )
    trajectory = integrate_there(
        setting,
        spectral_flow(problem, scales),
        (B.repeat(len(betas), 1, 1), A.repeat(len(betas), 1, 1)),
        times.to(B),
        rtol=1e-7,
        atol=1e-9,
        reduce=reduce,
        max_steps=1_000_000,
    )
    return Runs.of(trajectory)


def _convergence(runs: list[Runs]) -> Evidence:
    gap, rise, norm = (
        np.concatenate([getattr(batch, name) for batch in runs]) for name in ("gap", "rise", "norm")
    )
    return Evidence(
        measurements=(
            Measurement("largest gap to the global minimum", gap.max(), "<=", 1e-6),
            Measurement("largest rise of the loss, relative", rise.max(), "<=", 1e-12),
        ),
        arrays={"gap": gap, "rise": rise, "largest_norm": norm},
        remarks=(
            f"{int((gap <= 1e-6).sum())} of {len(gap)} runs reach the global minimum; the factors' "
            f"norm, ||(B, A)||_F, never exceeds {norm.max():.3g}.",
        ),
    )


LAM = 1.5
L2_BETA = 0.1


def l2_convergence(setting: Setting) -> Evidence:
    r"""With coupled l2 SpecGF converges to the shrunk spectrum, and the imbalance vanishes.

    Derivation. At a critical point E A^T + lam B = 0 and B^T E + lam A = 0; multiplied by B^T and
    A^T, lam (B^T B - A A^T) = 0. A balanced mode that is kept has sigma - s - lam = 0, so the
    global minimum has the singular values (sigma_i - lam)_+, i <= r. With lam = 1.5 the last mode,
    sigma = 1, is given up. Its curvature is lam - sigma, the smallest, with 2 lam against
    imbalance: the run ends when exp(-t / (2 beta)) is below 1e-9.
    """
    seeds = setting.seeds(setting["seeds"])
    problem = toy(setting.seed, l2=LAM)
    return _l2(setting, seeds, spectral_flow(problem, L2_BETA))


def decoupled_decay(setting: Setting) -> Evidence:
    """The same coefficient as decoupled weight decay: the factors are capped at 1/lam instead."""
    seeds = setting.seeds(setting["seeds"])
    problem = toy(setting.seed)
    return _l2(setting, seeds, spectral_flow(problem, L2_BETA, weight_decay=LAM))


def _l2(setting: Setting, seeds: range, field: Field) -> Evidence:
    start = field.problem.gaussian_init(0.1, seeds)
    times = torch.linspace(0.0, setting["end"], setting["points"], dtype=torch.float64)
    trajectory = integrate_there(setting, field, start, times, stop_when_converged=False)
    targets = np.array(SINGULAR_VALUES)
    shrunk_targets = shrunk(targets, LAM)
    values = trajectory.singular_values.numpy()
    imbalance = torch.linalg.matrix_norm(trajectory.imbalance).numpy()
    return Evidence(
        measurements=(
            Measurement(
                "largest distance to the shrunk spectrum",
                np.abs(values[:, -1] - shrunk_targets).max(),
                "<=",
                1e-6,
            ),
            Measurement("largest imbalance at the end", imbalance[:, -1].max(), "<=", 1e-6),
        ),
        arrays={
            "times": times.numpy(),
            "imbalance": imbalance,
            "singular_values": values,
            "targets": targets,
            "shrunk_targets": shrunk_targets,
        },
        remarks=(
            f"{len(seeds)} Gaussian starts; the largest imbalance at the start is "
            f"{imbalance[:, 0].max():.3g}.",
        ),
    )


CLAIMS = (
    Claim(
        id="usg.global-convergence",
        paper=PAPER,
        title="SpecGF converges to a global minimum",
        statement="From random starts SpecGF converges to a global minimum of $L$, or its factors "
        "diverge.",
        reference=f"{REFERENCE}, Theorem 6.2",
        source="paper",
        setup="10 x 12 target of rank 8, singular values 2.75 to 1; r = 1, 3, 8, 10; beta 0.1, "
        "0.2, 0.5; Gaussian starts, entries of deviation scale / sqrt(10), scale 0.01 to 1 at the "
        "quick tier and to 3 at the full one.",
        criterion="Every run ends within 1e-6 of the global minimum, and L never rises beyond "
        "round-off; the largest norm of the factors is reported.",
        check=global_convergence,
        devices=DEVICES,
        seconds=5,
        controls={"on a saddle's stable manifold": stable_manifold},
        tiers={
            "quick": {"seeds": 3, "scales": (0.01, 0.03, 0.1, 0.3, 1.0), "betas to run": 500.0},
            "full": {
                "seeds": 10,
                "scales": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
                "betas to run": 2000.0,
            },
        },
    ),
    Claim(
        id="usg.l2-convergence",
        paper=PAPER,
        title="Coupled l2 leads to the shrunk spectrum",
        statement="With coupled regularisation $\\lambda$ SpecGF converges to the singular values "
        "$(\\sigma_i - \\lambda)_+$, and $B^\\top B - A A^\\top \\to 0$.",
        reference=REFERENCE,
        source="paper",
        setup="60 x 70 target, singular values 5, 4, 3, 2, 1, rank 5, lambda 1.5, beta 0.1; "
        "Gaussian starts of scale 0.1.",
        criterion="All singular values within 1e-6 of the shrunk ones, imbalance below 1e-6.",
        check=l2_convergence,
        devices=DEVICES,
        controls={"decoupled decay": decoupled_decay},
        tiers={"quick": {"seeds": 4, "end": 7.0, "points": 281}, "full": {"seeds": 32}},
    ),
)
