"""The closed forms are right: proved, integrated, and bounded."""

from __future__ import annotations

import numpy as np

from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.aligned_starts import (
    ALIGNED,
    MISPLACED,
    MISPLACED_FORM,
    Aligned,
)
from claims.uniform_spectral_growth.lag import halved_lag_bound, lag
from claims.uniform_spectral_growth.toy import PAPER, REFERENCE
from flows.closed_forms import CLOSED_FORMS, ClosedForm


def closed_forms(setting: Setting) -> Evidence:
    r"""Every closed form solves its differential equation.

    Derivation. On the aligned manifold, B = U diag(b) Q and A = Q^T diag(a) V^T, the residual is
    U diag(ab - sigma) V^T and G_B = U diag((ab - sigma) a) Q; a spectral function phi acts on the
    diagonal alone, so db/dt = phi((sigma - ab) a), da/dt = phi((sigma - ab) b). Each form is
    declared with its equation, and sympy reduces the residual to 0. The very expression that is
    proved is evaluated along the integrator's trajectories, from aligned starts with a random
    rotation Q.

    The forms of beta -> 0 are run with beta = 1e-6, up to a time when every g is above 0.1: the
    proved deviation beta^2 / (2 g^2) of the rate is then below 1e-10. Where a factor crosses zero
    the velocity turns within a layer of width beta / sigma, so that case takes beta = 1e-8.
    """
    return _closed_forms(setting, CLOSED_FORMS, ALIGNED)


def misplaced_form(setting: Setting) -> Evidence:
    """The logistic growth of gradient flow does not solve SpecGF."""
    return _closed_forms(setting, (MISPLACED_FORM,), (MISPLACED,))


def _closed_forms(
    setting: Setting, forms: tuple[ClosedForm, ...], starts: tuple[Aligned, ...]
) -> Evidence:
    unproved = [form.name for form in forms if not form.proved]
    seeds = setting.seeds(setting["seeds"])
    errors = {start.name: start.largest_error(setting, seeds) for start in starts}
    worst = [*errors][np.argmax([*errors.values()])]
    return Evidence(
        measurements=(
            Measurement("forms that sympy does not prove", len(unproved), "<=", 0.0),
            Measurement("largest distance of the integrator", errors[worst], "<=", 1e-8),
        ),
        arrays={"largest_errors": np.array(list(errors.values()))},
        remarks=(
            f"{len(forms) - len(unproved)} of {len(forms)} declared forms are proved by sympy.",
            f"{len(errors)} aligned starts, {len(seeds)} rotations each; the largest distance is "
            f"that of: {worst}.",
        ),
    )


CLAIMS = (
    Claim(
        id="usg.closed-forms",
        paper=PAPER,
        title="Every closed form solves its equation",
        statement="On the aligned manifold the modes follow closed forms: at unit rate, "
        "$s = (a_0 + t)(b_0 + t)$; smoothed, $t = \\int \\sqrt{1 + \\beta^2/g^2}\\,dx$; under "
        "gradient flow, the logistic function and its counterpart for LoRA's start.",
        reference=REFERENCE,
        source="derived",
        setup="60 x 70 target, singular values 5, 4, 3, 2, 1, rank 5; aligned starts with random "
        "rotations, nine of them, with and without coupled l2.",
        criterion="sympy reduces every residual to 0, and the integrator is within 1e-8 of every "
        "form over its whole trajectory.",
        check=closed_forms,
        devices=DEVICES,
        seconds=5,
        controls={"gradient flow's form in SpecGF": misplaced_form},
        tiers={"quick": {"seeds": 2, "points": 101}, "full": {"seeds": 16, "points": 1001}},
    ),
    Claim(
        id="usg.lag-bound",
        paper=PAPER,
        title="Smoothing delays a mode by a bounded lag",
        statement="While $x^2 \\le (1 - \\theta)\\sigma$ the lag behind the unit rate satisfies "
        "$0 \\le t - (x - x_0) \\le c\\,\\mathrm{asinh}(c/x_0)$, $c = \\beta/(\\theta\\sigma)$.",
        reference=REFERENCE,
        source="derived",
        setup="18 cases: singular values 5, 3, 1; beta 0.003, 0.01, 0.03; x0 0.001, 0.01; "
        "theta 1/2, balanced aligned starts.",
        criterion="The lag is never negative and never above its bound or the exact majorant; at "
        "sigma 1, beta 0.01, x0 0.001 it is 0.02096 where x^2 = 1/2.",
        check=lag,
        devices=DEVICES,
        controls={"c halved and theta to 1": halved_lag_bound},
        tiers={"quick": {"points": 176}, "full": {"points": 1751}},
    ),
)
