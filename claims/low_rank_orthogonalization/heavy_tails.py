"""Low-rank Muon under heavy-tailed noise: its rate where the tail is known and where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from claims.low_rank_orthogonalization.heavy_tailed_runs import (
    COLUMNS,
    METHODS,
    RANK,
    SGD,
    TAILS,
    Array,
    M,
    Means,
    Method,
    N,
    Rates,
    conformity,
    trajectory_means,
)
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from simulate.schedules import tail_index_rates

PAPER, REFERENCE = "low-rank", "arXiv 2509.11983"
SLACK = 0.05
# Of the guaranteed power of K, as a function of the order a.
Exponent = Callable[[float], float]


def known(a: float) -> float:
    """Of K^(-(a-1)/(3a-2)), the rate of constants that know a."""
    return (a - 1) / (3 * a - 2)


def unknown(a: float) -> float:
    """Of K^(-(a-1)/(2a)), the rate of constants that do not."""
    return (a - 1) / (2 * a)


def of_known_tail(a: float) -> tuple[float, float]:
    """Powers of 1/K that the learning rate and g have where a is known."""
    return (2 * a - 1) / (3 * a - 2), a / (3 * a - 2)


def of_unknown_tail(_: float) -> tuple[float, float]:
    """The same where it is not."""
    return 3 / 4, 1 / 2


def as_stated(
    setting: Setting,
    methods: Mapping[str, Method],
    rates: Rates,
    powers: Callable[[float], tuple[float, float]],
) -> tuple[Measurement, ...]:
    """Whether what runs is what the statement is about: its rates, and its steps."""
    off = []
    for a in TAILS:
        for K in setting["horizons"]:
            (lr, momentum), (of_lr, of_g) = rates(K, a), powers(a)
            off += [abs(lr * K**of_lr - 1), abs(momentum - (1 - K**-of_g))]
    used = [methods[name] for name in setting["orders"]]
    return (
        Measurement("rates off the powers of K that are stated, most", np.max(off), "<=", 1e-14),
        *conformity(setting, used),
    )


def without_index(steps: int, _: float) -> tuple[float, float]:
    """Rates of a run whose tail is not known."""
    return tail_index_rates(steps, None)


def evidence_of_rates(
    setting: Setting,
    runs: Mapping[str, Means],
    exponent: Exponent,
    subject: str = "",
    stated: tuple[Measurement, ...] = (),
) -> Evidence:
    """Slopes beside the exponent, means beside their bounds, and the arrays of the figure."""
    seed = setting.seed
    slopes = {name: means.slopes(seed) for name, means in runs.items()}
    measurements, remarks = [], []
    for a in TAILS:
        found = [
            slopes[name][list(means.orders).index(a)]
            for name, means in runs.items() if a in means.orders
        ]  # fmt: skip
        if found:
            beyond = np.max([slope for slope, _, _ in found]) + exponent(a)
            measurements.append(
                Measurement(f"shallowest slope above theory's, a = {a:g}", beyond, "<=", SLACK)
            )
    ratios = []
    for name, means in runs.items():
        intervals = means.intervals(seed)
        for a, (slope, low, high), bounds, mean, interval in zip(
            means.orders, slopes[name], means.bounds, means.values.mean(-1), intervals, strict=True
        ):
            told = f"{name}, a = {a:g}: slope {slope:.3f} [{low:.3f}, {high:.3f}], guaranteed "
            told += f"{-exponent(float(a)):.3f}"
            if np.isfinite(bounds).all():
                ratios.append(float((interval[:, 1] / bounds).max()))
                told += f"; {float((mean / bounds).max()):.3f} of the bound at most"
            remarks.append(told)
    if ratios:
        measurements.append(
            Measurement("largest mean over its bound, upper end", np.max(ratios), "<=", 1.0)
        )
    if subject:
        remarks.append(subject)
    arrays = arrays_of(runs, slopes, exponent, seed)
    return Evidence((*measurements, *stated), arrays, tuple(remarks))


def arrays_of(
    runs: Mapping[str, Means], slopes: Mapping[str, Array], exponent: Exponent, seed: int
) -> dict[str, Any]:
    """What a figure needs: methods, orders and horizons, NaN where a method was not run.

    ``means`` (methods, T, H), ``intervals`` (..., 2) and ``bounds`` alike, ``slopes``
    (methods, T, 3), ``exponents`` (T,).
    """
    orders = [a for a in TAILS if any(a in means.orders for means in runs.values())]
    horizons = next(iter(runs.values())).horizons
    shape = len(runs), len(orders), len(horizons)
    found = {
        "means": np.full(shape, np.nan),
        "intervals": np.full((*shape, 2), np.nan),
        "bounds": np.full(shape, np.nan),
        "slopes": np.full((*shape[:2], 3), np.nan),
    }
    for row, (name, means) in enumerate(runs.items()):
        places = [orders.index(a) for a in means.orders]
        found["means"][row, places] = means.values.mean(-1)
        found["intervals"][row, places] = means.intervals(seed)
        found["bounds"][row, places] = means.bounds
        found["slopes"][row, places] = slopes[name]
    return {
        **found,
        "methods": np.array(list(runs)),
        "orders": np.array(orders),
        "horizons": horizons,
        "exponents": np.array([exponent(a) for a in orders]),
    }


def _runs(setting: Setting, rates: Any = tail_index_rates) -> dict[str, Means]:
    methods = {name: (METHODS[name], orders) for name, orders in setting["orders"].items()}
    return trajectory_means(setting, methods, setting["horizons"], rates)


def check_rate(setting: Setting) -> Evidence:
    """With e the error of the direction D, c its alignment and ||O||_F <= rho its length,

    mean E||grad f||_F <= (gap / (eta K) + L eta rho^2 / 2) / c + (1 + rho / c) mean E||e||,
    mean E||e||_F <= ||grad f(X_1)|| (1-g)/(g K) + L eta rho (1-g)/g + 2^(1/a) sigma g^((a-1)/a).

    c is 1 for the polar factor, l / n for l of n columns, and for Gaussian sketches the mean of the
    root of a Beta(l/2, (n-l)/2) variable; rho is the root of the rank. eta = K^(-(2a-1)/(3a-2)) and
    g = K^(-a/(3a-2)) make 1/(eta K), eta/g and g^((a-1)/a) all K^(-(a-1)/(3a-2)). The constants are
    ours, derived in directions.py; the exponent is the paper's.

    sigma^a = m n E|x|^a bounds E||xi||_F^a, x Pareto of an index above a: the left side is a mean
    over the trajectory, and its expectation the mean over seeds, with a bootstrap interval.

    An exponent alone is easily had by another method, or with other rates. So the rates are
    compared with the powers that are stated, and a few steps with the definition.
    """
    stated = as_stated(setting, METHODS, tail_index_rates, of_known_tail)
    return evidence_of_rates(setting, _runs(setting), known, stated=stated)


def _sgd(setting: Setting, name: str, rate: Callable[[int], float]) -> dict[str, Means]:
    """SGD at a = 1.5, by its rate in runs of K steps."""
    methods: dict[str, tuple[Method, Sequence[float]]] = {name: (SGD, (1.5,))}
    return trajectory_means(setting, methods, setting["sgd_horizons"], lambda K, _: (rate(K), 0.0))


def control_sgd(setting: Setting) -> Evidence:
    """SGD at 1/L at a = 1.5: X jumps by the noise itself, and no horizon makes that smaller."""
    runs = _sgd(setting, "SGD at 1/L", lambda K: 1.0)
    slower = _sgd(setting, "SGD", lambda K: K**-0.5)["SGD"]
    slope, low, high = slower.slopes(setting.seed)[0]
    return evidence_of_rates(
        setting, runs, known,
        f"{_skew('at 1/L', runs['SGD at 1/L'])}; {_skew('at K^(-1/2)', slower)}, slope "
        f"{slope:.3f} [{low:.3f}, {high:.3f}]: on a quadratic small steps average as momentum does",
    )  # fmt: skip


def _skew(where: str, means: Means) -> str:
    over = means.values[0].mean(-1) / np.median(means.values[0], -1)
    falls = np.diff(means.values[0].mean(-1)) < 0
    monotone = "falls" if falls.all() else "does not fall"
    return f"{where} the mean {monotone} with K and is up to {over.max():.2f} medians"


def control_gaussian_exponent(setting: Setting) -> Evidence:
    """The exponent of finite variance, 1/4, claimed of noise that has moments up to 1.25 only."""
    methods: dict[str, tuple[Method, Sequence[float]]] = {COLUMNS: (METHODS[COLUMNS], (1.2,))}
    runs = trajectory_means(setting, methods, setting["sgd_horizons"])
    return evidence_of_rates(setting, runs, lambda a: known(2.0))


def check_unknown(setting: Setting) -> Evidence:
    """eta = K^(-3/4) and g = K^(-1/2), whatever a is, in the bound of low-rank.heavy-tail-rate:

    gap / (eta K) and eta / g are K^(-1/4), and the noise's g^((a-1)/a) is K^(-(a-1)/(2a)), the
    slowest of them for a < 2. That is an upper bound. What noise really costs falls as g^(1 - 1/p)
    with its tail index p > a, and a constant as large as the others' is needed to see it.
    """
    runs = _runs(setting, without_index)
    faster = [
        f"a = {a:g}: measured {slope[0]:.3f}, guaranteed {-unknown(float(a)):.3f}, and "
        f"{-known(float(a)):.3f} to those who know a"
        for means in runs.values()
        for a, slope in zip(means.orders, means.slopes(setting.seed), strict=True)
        if a < 2
    ]
    return evidence_of_rates(
        setting, runs, unknown,
        "not to know a costs nothing that could be seen on this quadratic: the theory is an upper "
        f"bound, and the measurement is faster ({'; '.join(faster)})",
        as_stated(setting, METHODS, without_index, of_unknown_tail),
    )  # fmt: skip


def control_unknown_sgd(setting: Setting) -> Evidence:
    """SGD at 1/L."""
    return evidence_of_rates(setting, _sgd(setting, "SGD at 1/L", lambda K: 1.0), unknown)


SETUP = (
    f"half the squared distance from a Gaussian {M} x {N} matrix, symmetric Pareto noise of tail "
    "index 2.2, 1.55, 1.25 for a = 2, 1.5, 1.2; mean of ||grad f||_F over the run"
)
CRITERION = (
    "slope of log mean on log K at most .05 above theory's; upper end of the mean's bootstrap "
    "interval below the bound at every K; rates and steps those of the statement, to round-off"
)
FULL_TIER = tuple(2**k for k in range(10, 19))
LONGEST = tuple(2**k for k in range(10, 21))
ALL = tuple(TAILS)


def longer(*methods: str) -> dict[str, dict[str, Any]]:
    """The tiers after quick, with these methods."""
    return {
        "full": {
            "horizons": FULL_TIER,
            "orders": dict.fromkeys(methods, ALL),
            "sgd_horizons": tuple(2**k for k in range(10, 15)),
        },
        "paper": {"horizons": LONGEST},
    }


CLAIMS = (
    Claim(
        id="low-rank.heavy-tail-rate",
        paper=PAPER,
        title="Under noise with moments up to a, gradients fall as K^(-(a-1)/(3a-2))",
        statement=(
            r"With $\eta = K^{-(2a-1)/(3a-2)}$ and $g = K^{-a/(3a-2)}$ low-rank Muon has "
            r"$\frac1K \sum_k E\|\nabla f(X_k)\|_F = O(K^{-(a-1)/(3a-2)})$ under noise with a "
            r"finite $a$-th moment, $a \in (1, 2]$."
        ),
        reference=REFERENCE,
        source="paper",
        setup=f"{SETUP}; full rank, Gaussian sketches and columns of r = {RANK}",
        criterion=CRITERION,
        check=check_rate,
        devices=DEVICES,
        seconds=15,
        controls={"SGD": control_sgd, "exponent of finite variance": control_gaussian_exponent},
        tiers={
            "quick": {
                "seeds": 24,
                "horizons": tuple(2**k for k in (9, 11, 13)),
                "orders": {COLUMNS: ALL},
                "sgd_horizons": tuple(2**k for k in (8, 9, 10)),
            },
            **longer(*METHODS),
        },
    ),
    Claim(
        id="low-rank.unknown-tail",
        paper=PAPER,
        title="Constants that do not know a guarantee K^(-(a-1)/(2a))",
        statement=(
            r"With $\eta = K^{-3/4}$ and $g = K^{-1/2}$ low-rank Muon has "
            r"$\frac1K \sum_k E\|\nabla f(X_k)\|_F = O(K^{-(a-1)/(2a)})$, whatever $a$ is. The "
            r"penalty for not knowing it is not visible on quadratics."
        ),
        reference=REFERENCE,
        source="paper",
        setup=SETUP,
        criterion=CRITERION,
        check=check_unknown,
        devices=DEVICES,
        seconds=5,
        controls={"SGD": control_unknown_sgd},
        tiers={
            "quick": {
                "seeds": 24,
                "horizons": tuple(2**k for k in (10, 11, 12)),
                "orders": {COLUMNS: (1.5,)},
                "sgd_horizons": tuple(2**k for k in (8, 9, 10)),
            },
            **longer(*METHODS),
        },
    ),
)
