"""What a sketch keeps of a matrix: alignment, and what Halko, Martinsson and Tropp bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from claims.low_rank_orthogonalization.matrices import (
    CONFIDENCE,
    REFERENCE,
    interval,
    nuclear_norm,
    planted,
)
from claims.measuring.draws import gaussian_there
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from geometry.sketch import low_rank_msign, range_basis, sketch_named

RANK, WITHIN = 64, 0.02


@dataclass(frozen=True)
class Level:
    """Of one sketch of rank 64: the share of the nuclear norm that it is stated to keep."""

    title: str
    sketch: str
    oversampling: int
    iterations: int
    share: float


LEVELS = (
    Level("uniform columns", "columns", 0, 0, 0.731),
    # .721 where QR fills up with arbitrary directions what columns drawn twice leave.
    Level("norm-weighted columns", "weighted", 0, 0, 0.707),
    Level("Gaussian, h = 0", "gaussian", 0, 0, 0.732),
    Level("Gaussian, h = 1", "gaussian", 0, 1, 0.768),
    Level("Gaussian, h = 5", "gaussian", 0, 5, 0.774),
    Level("Gaussian, h = 0, p = 10", "gaussian", 10, 0, 0.757),
    Level("Gaussian, h = 1, p = 10", "gaussian", 10, 1, 0.791),
)
# In the order in which their shares are stated.
MORE_ITERATIONS = (
    ("Gaussian, h = 0", "Gaussian, h = 1"),
    ("Gaussian, h = 1", "Gaussian, h = 5"),
    ("Gaussian, h = 0, p = 10", "Gaussian, h = 1, p = 10"),
)
# What the figure draws by rank.
DRAWN = (
    ("uniform columns", "columns", 0),
    ("norm-weighted columns", "weighted", 0),
    ("Gaussian", "gaussian", 0),
    ("Gaussian, h = 1", "gaussian", 1),
)


def _basis(
    M: Tensor, rank: int, sketch: str, generator: torch.Generator, p: int = 0, h: int = 0
) -> Tensor:
    return range_basis(M, rank, sketch, oversampling=p, power_iterations=h, generator=generator)


def _share(Q: Tensor, M: Tensor, s: Tensor) -> Tensor:
    return nuclear_norm(Q.mT @ M) / s.sum(-1)


def _bounds(s: Tensor, r: int, p: int, h: int) -> tuple[Tensor, Tensor]:
    """Of E ||M - Q Q^T M||, by singular values s (draws, k): Frobenius, h = 0, and spectral."""
    tail = s[:, r:].square().sum(-1).sqrt()
    frobenius = (1 + r / (p - 1)) ** 0.5 * tail
    q = 2 * h + 1
    powered = (s[:, r:] ** q).square().sum(-1).sqrt()
    spread = np.e * (r + p) ** 0.5 / p
    spectral = (1 + (r / (p - 1)) ** 0.5) * s[:, r] ** q + spread * powered
    return frobenius, spectral ** (1 / q)


def _alignment(setting: Setting, M: Tensor) -> Evidence:
    """Shares and residuals of sketches of M (draws, m, n), a draw a matrix."""
    generator = torch.Generator().manual_seed(setting.seed)
    s = torch.linalg.svdvals(M)
    shares: dict[str, Tensor] = {}
    measurements, exceeded, rows, missing = [], [], [], []
    for level in LEVELS:
        p, h = level.oversampling, level.iterations
        Q = _basis(M, RANK, level.sketch, generator, p, h)
        shares[level.title] = share = _share(Q, M, s)
        # Columns drawn with replacement may span less.
        if level.sketch != "weighted":
            missing.append(RANK + p - torch.linalg.svdvals(Q).square().sum(-1))
        low, high = interval(share)
        name = f"{level.title}: {level.share:g} off the {CONFIDENCE:.0%} interval of the share"
        off = max(abs(low - level.share), abs(high - level.share))
        measurements.append(Measurement(f"{name}, most", off, "<=", WITHIN))
        exceeded.append(share / (s[:, : RANK + p].sum(-1) / s.sum(-1)))
        rows.append(f"{level.title} {float(share.mean()):.4f} [{low:.4f}, {high:.4f}]")
        if p:
            frobenius, spectral = _bounds(s, RANK, p, h)
            rest = M - Q @ (Q.mT @ M)
            if h == 0:
                name = "Theorem 10.5, E ||M - Q Q^T M||_F over its bound, upper end"
                ratio = torch.linalg.matrix_norm(rest) / frobenius
                measurements.append(Measurement(name, interval(ratio)[1], "<=", 1.0))
            theorem = "Corollary 10.10" if h else "Theorem 10.6"
            name = f"{theorem}, E ||M - Q Q^T M||_2 over its bound, h = {h}, upper end"
            ratio = torch.linalg.matrix_norm(rest, ord=2) / spectral
            measurements.append(Measurement(name, interval(ratio)[1], "<=", 1.0))
    for fewer, more in MORE_ITERATIONS:
        gain = interval(shares[more] - shares[fewer])[0]
        name = f"share, {more} less {fewer}, lower end"
        measurements.append(Measurement(name, gain, ">=", 0.0))
    off = float(torch.stack(missing).abs().max())
    measurements.append(Measurement("dimensions of a sketch off r + p, most", off, "<=", 1e-12))
    most = float(torch.stack(exceeded).max())
    measurements.append(Measurement("share over the best of its rank, most", most, "<=", 1 + 1e-12))
    best = float((s[:, :RANK].sum(-1) / s.sum(-1)).mean())
    remarks = (f"shares, of {best:.4f} at best: " + "; ".join(rows),)
    return Evidence(tuple(measurements), _curves(setting, M, s, shares, generator), remarks)


def _curves(
    setting: Setting,
    M: Tensor,
    s: Tensor,
    shares: dict[str, Tensor],
    generator: torch.Generator,
) -> dict[str, NDArray[Any]]:
    """Shares by rank (ranks, sketches, draws) and by power iterations (h, p, draws), and the best.

    Of the first ``drawn`` matrices; what the levels measured already is not drawn again.
    """
    count = setting["drawn"]
    some, values = M[:count], s[:count]
    known = {
        (level.sketch, RANK, level.oversampling, level.iterations): shares[level.title][:count]
        for level in LEVELS
    }

    def share(sketch: str, rank: int, p: int, h: int) -> Tensor:
        if (sketch, rank, p, h) not in known:
            Q = _basis(some, rank, sketch, generator, p, h)
            known[sketch, rank, p, h] = _share(Q, some, values)
        return known[sketch, rank, p, h]

    ranks, powers, extra = setting["ranks"], setting["powers"], (0, 10)
    kept = (values.cumsum(-1) / values.sum(-1, keepdim=True)).mean(0)
    by_rank = [torch.stack([share(sketch, r, 0, h) for _, sketch, h in DRAWN]) for r in ranks]
    by_power = [torch.stack([share("gaussian", RANK, p, h) for p in extra]) for h in powers]
    return {
        "sketches": np.array([name for name, *_ in DRAWN]),
        "ranks": np.array(ranks),
        "by_rank": torch.stack(by_rank).cpu().numpy(),
        "best_by_rank": kept[torch.tensor(ranks) - 1].cpu().numpy(),
        "powers": np.array(powers),
        "oversampling": np.array(extra),
        "by_power": torch.stack(by_power).cpu().numpy(),
        "best_by_power": kept[torch.tensor(extra) + RANK - 1].cpu().numpy(),
    }


def _spectrum(m: int) -> Tensor:
    return 1 / torch.arange(1, m + 1, dtype=torch.float64)


def check_alignment(setting: Setting) -> Evidence:
    """<M, O> = ||Q^T M||_*, so rho = ||Q^T M||_*/||M||_* is what is kept of the step's descent. It
    is at most the share of the leading r singular values, by Ky Fan's inequality.

    Halko, Martinsson, Tropp, SIAM Review 53, 2011, for r + p Gaussian vectors and expectations:
    Theorem 10.5, ||M - Q Q^T M||_F <= sqrt(1 + r/(p - 1)) (sum_{j > r} s_j^2)^(1/2);
    Theorem 10.6, ||M - Q Q^T M||_2 <= (1 + sqrt(r/(p - 1))) s_{r+1}
    + e sqrt(r + p)/p (sum_{j > r} s_j^2)^(1/2); Corollary 10.10, with h power iterations the same
    of s^(2 h + 1), to the power 1/(2 h + 1).
    """
    m, n = setting["shape"]
    return _alignment(setting, planted(setting, m, n, _spectrum(m), size="draws"))


def control_white_noise(setting: Setting) -> Evidence:
    """Gaussian entries, whose singular values do not decay: far less is kept."""
    return _alignment(setting, gaussian_there(setting, *setting["shape"], size="draws"))


def _tall(setting: Setting, reach: int) -> Evidence:
    """Shares of a tall matrix whose weight lies below its first n rows; rows to ``reach`` drawn."""
    (m, n), rank, k = setting["shape"], setting["rank"], setting["signal"]
    above = gaussian_there(setting, n, n, size="draws")
    above *= setting["above"] / nuclear_norm(above)[:, None, None]
    s = torch.full((k,), 1 / k, dtype=torch.float64)
    below = planted(setting, m - n, n, s, stream=1, size="draws")
    M = torch.cat([above, below], dim=-2)
    generator = torch.Generator().manual_seed(setting.seed)
    drawn = torch.rand(
        len(M), *sketch_named("columns").draws(m, rank), generator=generator,
        dtype=torch.float64,
    )  # fmt: skip
    # The least of the numbers are drawn: those from reach on come after all others.
    drawn[:, reach:] = (1 + drawn[:, reach:]) / 2
    drawn[:, :reach] /= 2
    factor = low_rank_msign(M, rank, "columns", uniforms=drawn.to(M.device))
    share = (M * factor).sum((-2, -1)) / nuclear_norm(M)
    floor = 1 / (1 + setting["above"])
    remark = f"shares from {float(share.min()):.4f} to {float(share.max()):.4f}, floor {floor:.4f}"
    return Evidence(
        (Measurement("share over that of the rows below, least", float(share.min()) / floor, ">=",
                     1 - 1e-12),),
        {"shares": share.cpu().numpy()},
        (remark,),
    )  # fmt: skip


def check_tall(setting: Setting) -> Evidence:
    """M = [E; S], S of rank k with ||S||_* = 1, E with the first n rows and ||E||_* = epsilon.

    Of a tall matrix rows are drawn, from all m. k of S span its row space; then Q^T M^T has the
    nuclear norm of S at least, for Q^T S^T is a part of it, and ||M||_* is at most 1 + epsilon.
    """
    return _tall(setting, setting["shape"][0])


def control_wrong_dimension(setting: Setting) -> Evidence:
    """Row numbers drawn below n instead of m, as the authors' public code draws them."""
    return _tall(setting, setting["shape"][1])


CLAIMS = (
    Claim(
        id="low-rank.alignment",
        paper="low-rank",
        title="What a sketch keeps is alignment",
        statement=(
            r"$\rho = \|Q^\top M\|_*/\|M\|_*$, at best $.7746$, is .731 by uniform columns, .707 "
            r"by norm-weighted ones, .732 by Gaussian vectors, .768 and .774 with one and five "
            r"power iterations; residuals obey Halko, Martinsson and Tropp's bounds."
        ),
        reference=REFERENCE,
        source="paper",
        setup="256 x 384, s_j = 1/j, r = 64, Haar singular vectors, a matrix a draw",
        criterion=f"both ends of the {CONFIDENCE:.0%} intervals of the mean within {WITHIN:g} of "
        "the levels, and more iterations keep more; r + p dimensions; expected residuals over "
        "their bounds at most 1, upper ends; never above the best",
        check=check_alignment,
        devices=DEVICES,
        controls={"white noise": control_white_noise},
        tiers={
            "quick": {
                "shape": (256, 384), "draws": 16, "drawn": 2, "ranks": (16, 32, 64, 128),
                "powers": (0, 1, 2, 5),
            },
            "full": {
                "draws": 200, "drawn": 16, "ranks": (4, 8, 16, 32, 64, 128, 256),
                "powers": (0, 1, 2, 3, 4, 5),
            },
        },
    ),
    Claim(
        id="low-rank.tall-columns",
        paper="low-rank",
        title="Of a tall matrix rows are drawn, from all of them",
        statement=(
            r"A tall $M$ is sketched by rows drawn from all $m$: where $1/(1 + \epsilon)$ of "
            r"$\|M\|_*$ lies below the first $n$ rows, with rank $k \ll r$, so much is kept."
        ),
        reference=f"{REFERENCE}; the authors' public code",
        source="derived",
        setup="192 x 48, r = 16, below row 48 rank 2, above it 5e-4 of the nuclear norm; full "
        "tier 3072 x 768, r = 64, rank 4",
        criterion="share over 1/(1 + epsilon) at least 1 in every draw",
        check=check_tall,
        devices=DEVICES,
        controls={"numbers below n": control_wrong_dimension},
        tiers={
            "quick": {"shape": (192, 48), "rank": 16, "signal": 2, "above": 5e-4, "draws": 64},
            "full": {"shape": (3072, 768), "rank": 64, "signal": 4, "draws": 8},
        },
    ),
)  # fmt: skip
