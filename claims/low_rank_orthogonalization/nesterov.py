"""Nesterov momentum under heavy-tailed noise, with exact, inexact and randomised polar factors.

Choudhury et al. 2026, Muon with Nesterov Momentum: Heavy-Tailed Noise and (Randomized) Inexact
Polar Decomposition, arXiv 2605.06884: C_k = beta C_(k-1) + G_k, N_k = beta C_k + G_k, X_(k+1) = X_k
- eta T(N_k). N is the look-ahead D = G + beta (M - G) up to a factor, of which T knows nothing.
"""

from __future__ import annotations

from claims.low_rank_orthogonalization.directions import by_polynomials, gaussian, polar
from claims.low_rank_orthogonalization.heavy_tailed_runs import (
    RANK,
    M,
    Method,
    N,
    low_rank_muon,
    muon,
    trajectory_means,
)
from claims.low_rank_orthogonalization.heavy_tails import (
    CRITERION,
    SETUP,
    as_stated,
    control_sgd,
    evidence_of_rates,
    known,
    longer,
    of_known_tail,
)
from claims.registry import DEVICES, Claim, Evidence, Setting
from simulate.schedules import tail_index_rates

SCHULZ = "muon"  # Jordan's quintic
STEPS = 5
EXACT, INEXACT, RANDOMISED = "Nesterov, exact", "Nesterov, Newton-Schulz", "Nesterov, randomised"
METHODS = {
    EXACT: Method(muon(nesterov=True), polar(M, look_ahead=True)),
    INEXACT: Method(
        muon(nesterov=True, orthogonalizer=SCHULZ),
        by_polynomials(polar(M, look_ahead=True), SCHULZ, STEPS),
    ),
    RANDOMISED: Method(
        low_rank_muon("gaussian", nesterov=True, orthogonalizer=SCHULZ),
        by_polynomials(gaussian(N, RANK, look_ahead=True), SCHULZ, STEPS),
        RANK,
    ),
}


def check(setting: Setting) -> Evidence:
    """The bound of low-rank.heavy-tail-rate, with two differences.

    The look-ahead's error is (1 - g) (M - grad) + g xi, so the error of momentum counts 1 - g times
    and g sigma is added, no more than g^((a-1)/a) sigma. q steps of Newton-Schulz make of x =
    s/||D||_F a phi(x): the alignment is min phi(x)/x = .696 and the length 1.202 times the root of
    the rank, enclosed by interval arithmetic, for q = 5 of Jordan's quintic. So the exponent is the
    same, for the exact polar factor, the inexact one, and Q NS_q(Q^T D) of a Gaussian sketch.
    """
    methods = {name: (METHODS[name], orders) for name, orders in setting["orders"].items()}
    return evidence_of_rates(
        setting,
        trajectory_means(setting, methods, setting["horizons"]),
        known,
        stated=as_stated(setting, METHODS, tail_index_rates, of_known_tail),
    )


CLAIMS = (
    Claim(
        id="nesterov.rate",
        paper="nesterov",
        title="Nesterov momentum has the same rate, with inexact and randomised polar factors",
        statement=(
            r"Muon with Nesterov momentum, whose polar factor is exact, made by $q$ steps of "
            r"Newton-Schulz or by those of a sketch, has $\frac1K \sum_k E\|\nabla f(X_k)\|_F = "
            r"O(K^{-(a-1)/(3a-2)})$ under noise with a finite $a$-th moment."
        ),
        reference="arXiv 2605.06884",
        source="paper",
        setup=f"{SETUP}; five steps of Jordan's quintic, Gaussian sketch of {RANK}",
        criterion=CRITERION,
        check=check,
        devices=DEVICES,
        seconds=16,
        controls={"SGD": control_sgd},
        tiers={
            "quick": {
                "seeds": 24,
                "horizons": tuple(2**k for k in (10, 11, 12)),
                "orders": {EXACT: (1.5,), INEXACT: (1.5,), RANDOMISED: (2.0, 1.5)},
                "sgd_horizons": tuple(2**k for k in (8, 9, 10)),
            },
            **longer(*METHODS),
        },
    ),
)
