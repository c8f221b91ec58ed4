"""Where smallest-first ends: the boundary in the (beta, gamma) plane."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.arrival_order import increases_with
from claims.uniform_spectral_growth.toy import ARRIVED, PAPER, REFERENCE, SINGULAR_VALUES, toy
from flows import spectral_flow
from flows.closed_forms import escape_lag, smoothed_arrival, unit_rate_arrival

Prediction = Callable[[float, float], Array]
TARGETS = np.array(SINGULAR_VALUES)
LEVELS = ARRIVED * TARGETS
BETA_RANGE = (0.005, 1.0)
END = 8.0


def with_escape_lag(beta: float, gamma: float) -> Array:
    """sqrt(.9 sigma_i) + tau_i, good for gamma << beta / sigma << sqrt(sigma)."""
    return np.asarray(unit_rate_arrival(LEVELS, 0.0) + escape_lag(beta, TARGETS, gamma / 2))


def by_quadrature(beta: float, gamma: float) -> Array:
    """The arrival times of a balanced aligned start gamma / 2, exactly."""
    return np.asarray(smoothed_arrival(LEVELS, TARGETS, beta, gamma / 2))


def without_lag(beta: float, gamma: float) -> Array:
    """The naive prediction sqrt(.9 sigma_i): smallest-first everywhere."""
    return np.asarray(unit_rate_arrival(LEVELS, 0.0))


def boundary(predict: Prediction, gamma: float) -> float:
    """The beta above which the predicted arrivals no longer increase with sigma."""

    def tightest(log_beta: float) -> float:
        return float(-np.diff(predict(float(np.exp(log_beta)), gamma)).max())

    return float(np.exp(brentq(tightest, *np.log(BETA_RANGE), xtol=1e-10)))


def _order_limit(predict: Prediction, setting: Setting) -> Evidence:
    gammas = np.array(setting["gammas"])
    edges = np.array([boundary(by_quadrature, gamma) for gamma in gammas])
    # Cells a fixed share to either side of every boundary make the comparison sharp.
    near = np.array(setting["near"])
    beside = np.concatenate([edges[:, None] * (1 - near), edges[:, None] * (1 + near)], axis=1)
    coarse = np.tile(np.array(setting["betas"]), (len(gammas), 1))
    betas = np.concatenate([coarse, beside], axis=1)

    predicted = np.array(
        [[increases_with(TARGETS, predict(b, g)) for b in row]
         for row, g in zip(betas, gammas, strict=True)]
    )  # fmt: skip
    measured = _measured_order(betas, gammas, setting, aligned=True)[..., 0]
    apart = float((predicted != measured).mean())
    share = Measurement("share of cells whose order is not the predicted one", apart, "<=", 0.0)
    arrays = {
        "gammas": gammas,
        "cells": betas,
        "predicted": predicted,
        "measured": measured,
        "exact_boundary": edges,
    }
    return Evidence((share,), arrays)


def check_order_limit(setting: Setting) -> Evidence:
    """Smallest-first needs the arrival times to increase with sigma; large beta ends it.

    A mode arrives at sqrt(.9 sigma) + tau, and tau = (beta/sigma) (ln(2 beta/(sigma x0)) - 1) falls
    with sigma. For neighbouring targets the order turns where the lags' difference exceeds
    sqrt(.9 sigma_i) - sqrt(.9 sigma_j). tau is the limit x0 << beta/sigma << sqrt(sigma) of the
    quadrature of sqrt(1 + beta^2/g^2), which is exact for a balanced aligned start and by which the
    order is predicted here, right up to the boundary.
    """
    evidence = _order_limit(by_quadrature, setting)
    betas, gammas = np.array(setting["betas"]), np.array(setting["gammas"])
    grid = np.tile(betas, (len(gammas), 1))
    random = _measured_order(grid, gammas, setting, aligned=False).mean(-1)
    edges = evidence.arrays["exact_boundary"]
    asymptotic = np.array([boundary(with_escape_lag, gamma) for gamma in gammas])
    fine = np.geomspace(gammas.min(), gammas.max(), 61)
    arrays = {
        **evidence.arrays,
        "betas": betas,
        "predicted_smallest_first": evidence.arrays["predicted"][:, : len(betas)].T,
        "measured_fraction": random.T,
        "boundary_gammas": fine,
        "boundary_betas": np.array([boundary(by_quadrature, gamma) for gamma in fine]),
    }
    remark = (
        "The boundary by sqrt(.9 sigma_i) + tau_i lies above the exact one by "
        + ", ".join(
            f"{distance:.1%} at gamma {gamma:g}"
            for distance, gamma in zip(asymptotic / edges - 1, gammas, strict=True)
        )
        + ". The drawn shares are over random LoRA starts, which lose the order somewhat earlier, "
        "for they also have to align."
    )
    return Evidence(evidence.measurements, arrays, (remark,))


def _measured_order(
    betas: Array, gammas: Array, setting: Setting, *, aligned: bool
) -> NDArray[np.bool_]:
    """Whether each cell and seed is smallest-first, (gammas, betas, seeds), in one batch."""
    problem = toy(setting.seed)
    count = 1 if aligned else setting["seeds"]
    starts = []
    for gamma in gammas:
        if aligned:
            strength = torch.full((problem.rank,), gamma / 2, dtype=torch.float64)
            start = problem.aligned_init(strength, strength, seed=[setting.seed])
        else:
            start = problem.lora_init(float(gamma), seed=setting.seeds(count))
        starts.append([factor.repeat(betas.shape[1], 1, 1) for factor in start])
    B, A = (torch.cat(factors) for factors in zip(*starts, strict=True))
    scales = torch.tensor(np.repeat(betas.reshape(-1), count), dtype=torch.float64)
    path = integrate_there(
        setting, spectral_flow(problem, scales), (B, A), [END], rtol=1e-7, atol=1e-13
    )
    arrivals = path.arrival_times(ARRIVED).numpy().reshape(*betas.shape, count, -1)
    return increases_with(TARGETS, arrivals)


def control_naive(setting: Setting) -> Evidence:
    """The naive prediction, sqrt(sigma_i) alone."""
    return _order_limit(without_lag, setting)


CLAIMS = (
    Claim(
        id="usg.smallest-first-limit",
        paper=PAPER,
        title="Where smallest-first ends",
        statement=(
            r"Smallest-first needs $\sqrt{\sigma_i} + \tau_i$ to increase with $\sigma_i$; it "
            r"fails for large $\beta$ or tiny $\gamma$."
        ),
        reference=REFERENCE,
        source="derived",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1; balanced aligned starts gamma / 2 on a grid of "
        "(beta, gamma) with cells 1% and 5% to either side of every boundary; random LoRA starts "
        "for the figure",
        criterion="the predicted order is the measured one in every cell",
        check=check_order_limit,
        devices=DEVICES,
        controls={"no lag": control_naive},
        tiers={
            "quick": {
                "betas": [0.02, 0.03, 0.045, 0.07, 0.1, 0.15, 0.22],
                "gammas": [1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
                "near": [0.01, 0.05],
                "seeds": 4,
            },
            "full": {
                "betas": np.geomspace(0.01, 0.3, 18).tolist(),
                "gammas": [10.0**-j for j in range(2, 9)],
                "near": [0.002, 0.01, 0.05],
                "seeds": 32,
            },
        },
    ),
)
