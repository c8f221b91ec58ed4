"""SpecGF near critical points: it has GF's, with the Jacobian of GF over beta."""

from __future__ import annotations

from claims.registry import DEVICES, Claim
from claims.uniform_spectral_growth.critical_points import critical_points, displaced_points
from claims.uniform_spectral_growth.near_critical import (
    escape_at_gradient_flows_rate,
    excess_rank_rate,
    local_rate,
    saddle_escape,
)
from claims.uniform_spectral_growth.toy import PAPER, REFERENCE

CLAIMS = (
    Claim(
        id="usg.critical-points",
        paper=PAPER,
        title="SpecGF inherits GF's critical points and its strict saddles",
        statement="The critical points of SpecGF are those of GF, and the Jacobian there is "
        "$-\\nabla^2 L / \\beta$.",
        reference=REFERENCE,
        source="derived",
        setup="6 x 7 target, singular values 5, 4, 3, 2, 1, rank 3, beta 0.1; the optimum, the "
        "swap saddle {1, 2, 4}, the rank-2 saddle {1, 2} and zero.",
        criterion="The Jacobian agrees to 1e-6 relative; 1, 3 and 15 negative curvatures at the "
        "three saddles, the lowest -1, -3 and -5; elsewhere L falls at |G|^2 / sqrt(|G|^2 + "
        "beta^2) at least.",
        check=critical_points,
        devices=DEVICES,
        controls={"points that are not critical": displaced_points},
        tiers={"quick": {"seeds": 3}, "full": {"seeds": 30}},
    ),
    Claim(
        id="usg.saddle-escape",
        paper=PAPER,
        title="How long SpecGF takes to leave a saddle",
        statement="Started at a distance $\\varepsilon$ from a saddle with lowest curvature "
        "$\\lambda$, SpecGF escapes after $(\\beta/|\\lambda|)\\ln(1/\\varepsilon)$ plus a "
        "constant.",
        reference=REFERENCE,
        source="derived",
        setup="12 x 14 target, singular values 5, 4, 3, 2, 1, rank 3; three saddles, beta 0.1 and "
        "0.03.",
        criterion="The fitted slope of the escape time in ln(1/eps) is within 0.1 % of "
        "beta/|lam| in every case.",
        check=saddle_escape,
        devices=DEVICES,
        controls={"slope 1/|lam|": escape_at_gradient_flows_rate},
        tiers={"quick": {"offsets": 9, "end": 6.0}, "full": {"offsets": 41}},
    ),
    Claim(
        id="usg.local-rate",
        paper=PAPER,
        title="How fast SpecGF approaches an optimum",
        statement="Near an optimum with $\\sigma_r > \\sigma_{r+1}$ the gradient decays "
        "exponentially at the rate $(\\sigma_r - \\sigma_{r+1})/\\beta$.",
        reference=REFERENCE,
        source="paper",
        setup="12 x 14 target, singular values 5, 4, 3, 2, 1, rank 3; beta 0.1, 0.01, 0.001: rates "
        "10, 100, 1000.",
        criterion="The fitted rate is within 0.1 % of it, and the logarithm of the gradient "
        "within 0.01 of a line.",
        check=local_rate,
        devices=DEVICES,
        controls={"rank above that of the target": excess_rank_rate},
        tiers={"quick": {"seeds": 3, "points": 801}, "full": {"seeds": 30}},
        # Where nothing ran before, most of it goes into compiling the kernels of implicit steps:
        # begun first, others run beside it.
        seconds=40,
    ),
)
