"""What momentum makes of heavy-tailed noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from claims.low_rank_orthogonalization.heavy_tailed_runs import (
    COLUMNS,
    METHODS,
    TAILS,
    M,
    N,
    conformity,
    momentum_error,
    trajectory_means,
)
from claims.measuring.exponents import exponent
from claims.measuring.intervals import heavy_tailed_upper
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting

SLACK = 0.05
# A run has so many times 1/g steps; steps of X are so small that noise is nearly all there is.
MEMORIES, DRIFT, SCALE = 32, 0.1, 1.0


def _rates(steps: int, _: float) -> tuple[float, float]:
    g = MEMORIES / steps
    return DRIFT * g * g, 1 - g


def _lemma(setting: Setting, orders: tuple[float, ...], stated: float | None) -> Evidence:
    weights = np.array([2.0**-k for k in setting["halvings"]])
    horizons = [round(MEMORIES / g) for g in weights]
    means = trajectory_means(
        setting, {COLUMNS: (METHODS[COLUMNS], orders)}, horizons, _rates, momentum_error, SCALE
    )[COLUMNS]
    mean, order = means.values.mean(-1), np.array(orders)
    upper = heavy_tailed_upper(means.values, order[:, None])
    slopes = [exponent(weights, values, setting.seed) for values in means.values]
    claimed = [(a - 1) / a if stated is None else stated for a in orders]
    measurements = [
        Measurement(f"exponent below the lemma's, a = {a:g}", power - slope.value, "<=", SLACK)
        for a, power, slope in zip(orders, claimed, slopes, strict=True)
    ]
    shares, ends = mean / means.bounds, upper / means.bounds
    ratio = Measurement("largest mean error over its bound", float(shares.max()), "<=", 1.0)
    remarks = [
        f"tail index {TAILS[a]:g}: E||M - grad|| falls as g^{slope}, stated {power:.3f} with "
        f"a = {a:g}; a mean of such noise has {1 - 1 / min(TAILS[a], 2.0):.3f}; the mean is "
        f"{share.max():.3f} of the bound at most, and its expectation below {end.max():.2f} of it"
        for a, slope, power, share, end in zip(orders, slopes, claimed, shares, ends, strict=True)
    ]
    arrays = {
        "weights": weights,
        "orders": order,
        "means": mean,
        "bounds": means.bounds,
        "upper": upper,
        "slopes": np.array(slopes),
    }
    return Evidence((*measurements, ratio), arrays, tuple(remarks))


def check(setting: Setting) -> Evidence:
    """M_k - grad_k = (1 - g) (M_(k-1) - grad_(k-1) + grad_(k-1) - grad_k) + g xi_k.

    Unrolled: the first gradient with weight (1 - g)^k, changes of the gradient, at most
    L eta ||O||_F each, and a martingale of which von Bahr and Esseen's inequality bounds the
    a-th moment, E||sum g (1-g)^(k-j) xi_j||^a <= 2 g^(a-1) sigma^a. M_0 = 0, so the first term has
    ||grad f(X_1)||; with M_0 = G_1 it has sigma.

    The mean over the trajectory has the tail of the noise, for a jump stays for 1/g steps and
    weighs g: the expectation exists and the variance does not, and a mean over seeds is mostly
    somewhat too small. Beside it stands what von Bahr and Esseen's inequality and Markov's leave
    for the expectation with 95% confidence: far more, at an index of 1.25. Exponents are of means,
    with a bootstrap over seeds, which knows nothing of jumps that did not occur.
    """
    found = _lemma(setting, tuple(TAILS), None)
    stated = conformity(setting, [METHODS[COLUMNS]])
    return replace(found, measurements=(*found.measurements, *stated))


def control_gaussian(setting: Setting) -> Evidence:
    """The exponent 1/2 of finite variance, claimed of tail index 1.25."""
    return _lemma(setting, (1.2,), 0.5)


CLAIMS = (
    Claim(
        id="low-rank.momentum-lemma",
        paper="low-rank",
        title="Momentum averages heavy-tailed noise as g^((a-1)/a)",
        statement=(
            r"$\frac1K\sum_k E\|M_k - \nabla f(X_k)\|_F \le \frac{\|\nabla f(X_1)\|_F}{gK} + "
            r"\frac{L\eta\sqrt r}{g} + 2^{1/a} \sigma g^{(a-1)/a}$ under noise with "
            r"$E\|\xi\|_F^a \le \sigma^a$, $a \in (1, 2]$."
        ),
        reference="arXiv 2509.11983",
        source="derived",
        setup=(
            "low-rank Muon, 3 columns, half the squared distance from a Gaussian "
            f"{M} x {N} matrix; symmetric Pareto noise of tail index 2.2, 1.55, 1.25 for a = 2, "
            f"1.5, 1.2; g = 1/2 to 1/32 (quick), 1/256 (full), {MEMORIES}/g steps, eta = .1 g^2"
        ),
        criterion="slope of log error on log g at most .05 below (a-1)/a; mean below the bound "
        "at every g; steps along M, in 3 dimensions, to round-off",
        check=check,
        devices=DEVICES,
        seconds=3,
        controls={"exponent of finite variance": control_gaussian},
        tiers={
            "quick": {"seeds": 24, "halvings": tuple(range(1, 6))},
            "full": {"seeds": 96, "halvings": tuple(range(1, 9))},
        },
    ),
)
