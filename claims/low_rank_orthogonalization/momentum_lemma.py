"""What momentum makes of heavy-tailed noise."""

from __future__ import annotations

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
from claims.low_rank_orthogonalization.jumps import excess_of_jumps
from claims.measuring.exponents import exponent, log_slopes
from claims.measuring.intervals import percentile_interval, resampled_means
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
    values = means.values - excess_of_jumps(setting, orders, horizons, weights, SCALE)
    upper = percentile_interval(resampled_means(values, setting.seed))[1]
    slopes = [exponent(weights, each, setting.seed) for each in values]
    claimed = [(a - 1) / a if stated is None else stated for a in orders]
    measurements = [
        Measurement(f"exponent below the lemma's, most, a = {a:g}", power - slope.low, "<=", SLACK)
        for a, power, slope in zip(orders, claimed, slopes, strict=True)
    ]
    shares, ends = values.mean(-1) / means.bounds, (upper / means.bounds).max(-1)
    ratio = Measurement("error over its bound, most", float(ends.max()), "<=", 1.0)
    plain = means.values.mean(-1)
    remarks = [
        f"tail index {TAILS[a]:g}: E||M - grad|| falls as g^{slope}, stated {power:.3f} with "
        f"a = {a:g}; a mean of such noise has {1 - 1 / min(TAILS[a], 2.0):.3f}; it is "
        f"{share.max():.3f} of the bound at most, {end:.3f} with its interval; with the jumps that "
        f"happened, instead of those expected, {bare:.3f} and {(mean / bound).max():.3f}"
        for a, slope, power, share, end, bare, mean, bound in zip(
            orders, slopes, claimed, shares, ends, log_slopes(weights, plain), plain, means.bounds,
            strict=True,
        )
    ]  # fmt: skip
    arrays = {
        "weights": weights,
        "orders": np.array(orders),
        "means": values.mean(-1),
        "plain_means": plain,
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
    somewhat too small and now and then far too large. What far jumps add is known: C_k, the same
    average of the sum of all |xi_ij| beyond a threshold, has a mean in closed form, so that
    ||M_k - grad_k|| - C_k + E C_k has the expectation that is asked for. It has a variance as well.
    Let R be what is left of M_k - grad_k without the jumps, bounded entries and changes of the
    gradient, and s_1 >= s_2 >= ... what each jump weighs in it. Then

        -||R|| - 2 (s_2 + s_3 + ...) <= ||M_k - grad_k|| - C_k <= ||R||,

    and the second largest of independent jumps of tail index p has the index 2 p > 2. So intervals
    are of a bootstrap over seeds, and both the exponent and the bound are judged by the less
    favourable end.
    """
    found = _lemma(setting, tuple(TAILS), None)
    stated = conformity(setting, [METHODS[COLUMNS]])
    return found.also(*stated)


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
        criterion="slope of log E||M - grad f|| on log g at most .05 below (a-1)/a, and the error "
        "below the bound at every g, both by the ends of 95% intervals over seeds, far jumps "
        "replaced by their expectation; steps along M, in 3 dimensions, to round-off",
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
