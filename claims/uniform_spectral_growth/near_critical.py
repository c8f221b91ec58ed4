"""How long SpecGF stays at a saddle, and how fast it arrives at an optimum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array
from claims.registry import Evidence, Measurement, Setting
from claims.uniform_spectral_growth.saddles import (
    RANK,
    RANK_TWO,
    SWAP,
    ZERO,
    CriticalPoint,
    planted,
)
from claims.uniform_spectral_growth.toy import SINGULAR_VALUES
from flows import MatrixFactorization, spectral_flow

ESCAPES = ((SWAP, 2), (RANK_TWO, 2), (ZERO, 0))
ESCAPE_BETAS = (0.1, 0.03)
LEFT = 0.5


def saddle_escape(setting: Setting) -> Evidence:
    r"""From a distance eps of a saddle, SpecGF needs (beta / |lam|) ln(1/eps) more time to leave.

    Derivation. By ``usg.critical-points`` the offset along the lowest curvature lam grows like
    exp(|lam| t / beta) while sigma eps << beta; the way from there on does not depend on eps. The
    escape time is the arrival of the mode that the saddle lacks at half its target; its slope in
    ln(1/eps) is fitted for eps from 1e-4 to 1e-8, where the relative correction of the rate,
    (sigma eps / beta)^2 / 2, is below 2e-4 at its largest and below 1e-5 on average.
    """
    return _saddle_escape(setting, lambda beta, curvature: beta / abs(curvature))


def escape_at_gradient_flows_rate(setting: Setting) -> Evidence:
    """The same escapes against the slope of gradient flow, 1 / |lam|."""
    return _saddle_escape(setting, lambda beta, curvature: 1 / abs(curvature))


def _saddle_escape(setting: Setting, slope: Callable[[float, float], float]) -> Evidence:
    offsets = np.logspace(-4, -8, setting["offsets"])
    cases = [(point, mode, beta) for point, mode in ESCAPES for beta in ESCAPE_BETAS]
    problem = planted(12, 14, setting.seed)
    lanes = [
        point.factors(problem, setting.seed + lane, float(offset), mode)
        for lane, (point, mode, offset) in enumerate(
            (point, mode, offset) for point, mode, _ in cases for offset in offsets
        )
    ]
    start = (torch.stack([B for B, _ in lanes]), torch.stack([A for _, A in lanes]))
    scales = torch.tensor([beta for *_, beta in cases for _ in offsets], dtype=problem.dtype)
    # The offset is a component of its own, so atol, not rtol, must lie below it.
    trajectory = integrate_there(
        setting,
        spectral_flow(problem, scales),
        start,
        [setting["end"]],
        rtol=1e-9,
        atol=1e-14,
        arrivals=(LEFT,),
    )
    arrivals = trajectory.arrival_times(LEFT).numpy().reshape(len(cases), len(offsets), -1)
    times = np.stack([arrivals[case, :, mode] for case, (_, mode, _) in enumerate(cases)])
    if not np.isfinite(times).all():
        raise ValueError(f"end: {setting['end']:g} is too early, a lane has not left its saddle")

    betas = np.array([beta for *_, beta in cases])
    curvature = np.array([p.exchange(SINGULAR_VALUES, RANK, mode) for p, mode, _ in cases])
    logs = np.log(1 / offsets)
    measured = np.polyfit(logs, times.T, 1)[0]
    predicted = np.array([slope(float(b), float(c)) for b, c in zip(betas, curvature, strict=True)])
    return Evidence(
        measurements=(
            Measurement(
                "largest relative distance of the slope to its prediction",
                np.abs(measured / predicted - 1).max(),
                "<=",
                1e-3,
            ),
        ),
        arrays={
            "log_inverse_offset": logs,
            "escape_times": times,
            "predicted_slope": predicted,
            "measured_slope": measured,
            "beta": betas,
            "curvature": curvature,
        },
        remarks=(f"{len(cases)} cases of {len(offsets)} offsets, 1e-4 to 1e-8.",),
    )


RATE_BETAS = (0.1, 0.01, 0.001)
# The gradients, over beta, between which the rate is fitted.
FIT_FROM, FIT_TO = 1e-5, 1e-7


def local_rate(setting: Setting) -> Evidence:
    r"""Near an optimum with distinct singular values the gradient decays at a known rate.

    Derivation. The flow near an optimum is linear with the Jacobian -Hess L / beta; by the
    curvatures of ``usg.critical-points`` the smallest one across the set of optima is sigma_r -
    sigma_(r+1), so the rate is (sigma_r - sigma_(r+1)) / beta. With r above the rank of Y a column
    is free and has no mode left to learn: its curvature is 0, its product s falls like beta / 2t,
    and the gradient does not decay exponentially.

    Starts lie eps = (1e-6 beta)^(1/3) off an optimum along the slowest direction, the exchange of
    the last column for mode r + 1, and eps / 100 Gaussian. For a free column that mode lies outside
    the target, and the gradient is its cubic term, eps^3 / 2, or 5e-7 beta. The rate is fitted
    where the gradient is between 1e-5 beta and 1e-7 beta. At the start of this window the
    correction (|G| / beta)^2 of T_beta is 1e-10; the slowest exponential has fallen by 2e-4 or
    less, and the next, at least twice as fast and at first no larger, is that share of it. At the
    end, 1e-10 for the smallest beta, the error that rtol admits, times the largest curvature, is
    1e-3 of it at most.
    """
    return _local_rate(setting, SINGULAR_VALUES, RANK)


def excess_rank_rate(setting: Setting) -> Evidence:
    """Singular values 3, 2, 1 and rank 4, above the rank of the target."""
    return _local_rate(setting, (3.0, 2.0, 1.0), 4)


def _local_rate(setting: Setting, sigma: tuple[float, ...], rank: int) -> Evidence:
    gap = sigma[min(rank, len(sigma)) - 1] - (sigma[rank] if rank < len(sigma) else 0.0)
    seeds = setting.seeds(setting["seeds"])
    problem = MatrixFactorization.planted(
        m=12, n=14, singular_values=sigma, rank=rank, seed=setting.seed
    )
    learned = min(rank, len(sigma))
    optimum = CriticalPoint("optimum", tuple(range(learned)))
    times, norms, fits = [], [], []
    for beta in RATE_BETAS:
        offset = (1e-6 * beta) ** (1 / 3)
        near = optimum.factors(problem, setting.seed, offset, learned)
        noise = problem.gaussian_init(offset / 100, seeds)
        B, A = (factor + displacement for factor, displacement in zip(near, noise, strict=True))
        grid = torch.linspace(0.0, 40 * beta / gap, setting["points"], dtype=problem.dtype)
        trajectory = integrate_there(
            setting,
            spectral_flow(problem, beta),
            (B, A),
            grid,
            rtol=1e-11,
            atol=1e-15,
            stop_when_converged=False,
        )
        times.append(grid.numpy())
        norms.append(trajectory.gradient_norms.numpy())
        fits.append([exponential_fit(grid.numpy(), lane, beta) for lane in norms[-1]])
    rates, departures = np.moveaxis(np.array(fits), -1, 0)
    betas = np.array(RATE_BETAS)
    predicted = gap / betas
    return Evidence(
        measurements=(
            Measurement(
                "largest relative distance of the rate to its prediction",
                np.abs(rates / predicted[:, None] - 1).max(),
                "<=",
                1e-3,
            ),
            Measurement("largest departure of ln |G| from a line", departures.max(), "<=", 0.01),
        ),
        arrays={
            "times": np.stack(times),
            "gradient_norms": np.stack(norms)[:, 0],
            "predicted_rate": predicted,
            "measured_rate": rates[:, 0],
            "beta": betas,
            "all_measured_rates": rates,
        },
        remarks=(
            f"Mean rates over {len(seeds)} starts: "
            f"{', '.join(f'{rate:.4f}' for rate in rates.mean(1))}.",
        ),
    )


def exponential_fit(times: Array, norms: Array, beta: float) -> tuple[float, float]:
    """The rate of decay of ``norms`` (T,) within the window, and the departure from a line.

    The window opens where the gradient first is below FIT_FROM beta and closes where it is below
    FIT_TO beta; where it never is, the window ends with the run.
    """
    opened = int(np.argmax(norms <= FIT_FROM * beta))
    low = norms <= FIT_TO * beta
    closed = int(np.argmax(low)) if low.any() else len(norms)
    if norms[opened] > FIT_FROM * beta or closed - opened < 3:
        raise ValueError(
            f"a gradient that falls below {FIT_FROM:g} beta and three times within the window are "
            f"expected; it ends at {norms[-1]:.3g}, with {max(closed - opened, 0)} times"
        )
    inside, logs = times[opened:closed], np.log(norms[opened:closed])
    slope, intercept = np.polyfit(inside, logs, 1)
    return -float(slope), float(np.abs(logs - slope * inside - intercept).max())
