"""The lag behind the unit rate, and its bound."""

from __future__ import annotations

import numpy as np
import torch

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array
from claims.registry import Evidence, Measurement, Setting
from flows import MatrixFactorization, spectral_flow
from flows.closed_forms import smoothed_lag

THETA = 0.5
LAG_BETAS = (0.003, 0.01, 0.03)
LAG_STARTS = (1e-3, 1e-2)
LAG_TARGETS = (5.0, 3.0, 1.0)
REFERENCE_LAG = 0.02096


def lag(setting: Setting) -> Evidence:
    r"""The lag behind the unit rate obeys 0 <= t - (x - x0) <= c asinh(c / x0).

    Derivation. dt/dx = sqrt(1 + beta^2/g^2) >= 1 with g = x (sigma - x^2), so the lag never falls.
    While x^2 <= (1 - theta) sigma, g >= theta sigma x; with c = beta / (theta sigma) the lag is at
    most the integral of sqrt(1 + c^2/x^2) - 1, whose antiderivative is F(x) = sqrt(x^2 + c^2) - x -
    c asinh(c/x). F grows to 0 at infinity, so F(x) - F(x0) <= -F(x0) <= c asinh(c / x0).

    Measured along the integrator's trajectories while x^2 <= (1 - theta) sigma, theta = 1/2, for
    sigma in 5, 3, 1 (modes of one target), beta in 0.003, 0.01, 0.03 and x0 in 0.001, 0.01 (lanes).
    The reference is sigma 1, beta 0.01, x0 0.001 at x^2 = 1/2: lag 0.02096 of the bound 0.0738.
    """
    return _lag(setting, THETA)


def halved_lag_bound(setting: Setting) -> Evidence:
    """The bound with c halved and theta -> 1: too small, for the same lags."""
    # beta / 2 over 1 sigma.
    return _lag(setting, 2.0)


def _majorant(x: Array, c: Array) -> Array:
    """F(x), the antiderivative of sqrt(1 + c^2 / x^2) - 1 that is 0 at infinity."""
    return np.asarray(np.sqrt(x**2 + c**2) - x - c * np.arcsinh(c / x))


def _lag(setting: Setting, theta: float) -> Evidence:
    betas, starts = (grid.ravel() for grid in np.meshgrid(LAG_BETAS, LAG_STARTS, indexing="ij"))
    sigma = np.array(LAG_TARGETS)
    problem = MatrixFactorization.planted(
        m=12, n=14, singular_values=LAG_TARGETS, rank=3, seed=setting.seed
    )
    ones = torch.ones(3, dtype=problem.dtype)
    lanes = [
        problem.aligned_init(float(x0) * ones, float(x0) * ones, seed=setting.seed + lane)
        for lane, x0 in enumerate(starts)
    ]
    start = (torch.stack([B for B, _ in lanes]), torch.stack([A for _, A in lanes]))
    times = torch.linspace(0.0, 1.75, setting["points"], dtype=problem.dtype)
    field = spectral_flow(problem, torch.as_tensor(betas))
    trajectory = integrate_there(
        setting, field, start, times, rtol=1e-11, atol=1e-13, arrivals=(1 - THETA,)
    )
    levels = trajectory.mode_values.numpy()
    x0, beta = starts[:, None, None], betas[:, None, None]
    lags = times.numpy()[:, None] - (np.sqrt(levels) - x0)
    below = levels <= (1 - THETA) * sigma
    below[:, 0] = False  # at t = 0 both the lag and its majorant are 0
    c = beta / (theta * sigma)
    bound = np.broadcast_to(c * np.arcsinh(c / x0), lags.shape)
    c = beta / (THETA * sigma)
    majorant = _majorant(np.sqrt(levels), c) - _majorant(x0, c)

    reached = trajectory.arrival_times(1 - THETA).numpy()
    lag_there = reached - (np.sqrt((1 - THETA) * sigma) - starts[:, None])
    exact = smoothed_lag((1 - THETA) * sigma, sigma, betas[:, None], starts[:, None])
    lane = int(np.flatnonzero((betas == 0.01) & (starts == 1e-3))[0])
    reference = float(lag_there[lane, LAG_TARGETS.index(1.0)])
    return Evidence(
        measurements=(
            Measurement("smallest lag", lags[below].min(), ">=", 0.0),
            Measurement(
                "largest lag over its bound", (lags[below] / bound[below]).max(), "<=", 1.0
            ),
            Measurement(
                "largest lag over the exact majorant",
                (lags[below] / majorant[below]).max(),
                "<=",
                1.0,
            ),
            Measurement(
                "distance of the lag to its quadrature", np.abs(lag_there - exact).max(), "<=", 1e-8
            ),
            Measurement(
                "reference lag", reference, "within", (REFERENCE_LAG - 5e-6, REFERENCE_LAG + 5e-6)
            ),
        ),
        arrays={
            "beta": betas,
            "x0": starts,
            "targets": sigma,
            "lag": lag_there,
            "bound": bound[:, 0],
        },
        remarks=(f"The reference lag has the bound {float(bound[lane, 0, -1]):.4f}.",),
    )
