"""Whether a low-rank polar factor is more robust to noise: it depends on what is counted."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from claims.low_rank_orthogonalization.matrices import (
    CONFIDENCE,
    REFERENCE,
    interval,
    planted,
)
from claims.measuring.draws import gaussian_there
from claims.registry import DEVICES, ROUNDS_IN, Claim, Evidence, Measurement, Setting
from geometry.polar import msign
from geometry.sketch import low_rank_msign

LOW_RANK = {
    "columns": ("columns", 0),
    "Gaussian, h = 0": ("gaussian", 0),
    "Gaussian, h = 1": ("gaussian", 1),
    "Gaussian, h = 2": ("gaussian", 2),
}


def _factors(setting: Setting, M: Tensor, rank: int) -> Iterator[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(setting.seed)
    yield "full", msign(M)
    for name, (sketch, h) in LOW_RANK.items():
        yield name, low_rank_msign(M, rank, sketch, power_iterations=h, generator=generator)


def _robustness(setting: Setting, signal: float) -> Evidence:
    (m, n), rank = setting["shape"], setting["rank"]
    s = torch.linspace(2, 1, rank, dtype=torch.float64)
    S = planted(setting, m, n, s, size="draws")
    noise = gaussian_there(setting, m, n, stream=2, size="draws")
    M = signal * S + setting["noise"] * noise
    kept, efficiency = {}, {}
    for name, O in _factors(setting, M, rank):  # noqa: E741
        inner = (S * O).sum((-2, -1))
        kept[name], efficiency[name] = inner / s.sum(), inner / O.square().sum((-2, -1))
    measurements = []
    for name in LOW_RANK:
        whole = interval(kept["full"] - kept[name])
        each = interval(efficiency[name] - efficiency["full"])
        measurements += [
            Measurement(f"<S, O>/||S||_*, full over {name}, lower end", whole[0], ">=", 0.0),
            Measurement(f"<S, O>/||O||_F^2, {name} over full, lower end", each[0], ">=", 0.0),
        ]
    remarks = [
        f"{name}: <S, O>/||S||_* {float(kept[name].mean()):.3f} "
        f"[{interval(kept[name])[0]:.3f}, {interval(kept[name])[1]:.3f}], "
        f"<S, O>/||O||_F^2 {float(efficiency[name].mean()):.4f}"
        for name in kept
    ]
    arrays = {name: torch.stack([kept[name], efficiency[name]]).cpu().numpy() for name in kept}
    return Evidence(tuple(measurements), arrays, tuple(remarks))


def check_robustness(setting: Setting) -> Evidence:
    """M = S + E. <S, O> is by how much a step along O lowers a function whose gradient is S.

    The full factor spends norm on all min(m, n) directions and takes up most of the signal; a
    low-rank one of r directions takes up less of it and wastes less: per unit of ||O||_F^2, which
    is what smoothness in the Frobenius norm charges for, it is ahead. Both are compared matrix by
    matrix.
    """
    return _robustness(setting, 1.0)


def control_noise(setting: Setting) -> Evidence:
    """M is noise alone: neither is aligned with S."""
    return _robustness(setting, 0.0)


CLAIMS = (
    Claim(
        id="low-rank.noise-robustness",
        paper="low-rank",
        title="More robust to noise, per unit of step; less aligned, as a whole",
        statement=(
            r"Of $M = S + E$: the full polar factor has the larger $\langle S, O\rangle/\|S\|_*$, "
            r"the low-rank one the larger $\langle S, O\rangle/\|O\|_F^2$. Which is more robust to "
            r"noise depends on the metric."
        ),
        reference=REFERENCE,
        source="paper",
        setup="256 x 384, S of rank 16 with s = 2 to 1, E Gaussian of standard deviation .05, "
        "r = 16; columns and Gaussian vectors with h = 0, 1, 2",
        criterion=f"both differences above 0, lower ends of {CONFIDENCE:.0%} intervals",
        check=check_robustness,
        devices=DEVICES,
        dtypes=ROUNDS_IN,
        controls={"noise alone": control_noise},
        tiers={
            "quick": {"shape": (256, 384), "rank": 16, "noise": 0.05, "draws": 6},
            "full": {"draws": 200},
        },
    ),
)
