"""The rate of low-rank descent along matrix signs: gradients over a run, and their exponent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from claims.low_rank_orthogonalization.descent import REFERENCE, kept_nuclear_norm
from claims.low_rank_orthogonalization.quadratics import curvatures
from claims.measuring.draws import gaussian
from claims.measuring.exponents import exponent
from claims.measuring.intervals import percentile_interval, resampled_means
from claims.registry import DEVICES, Claim, Evidence, Make, Measurement, Setting
from simulate.optimizers import LowRankMSGD, keep_members
from simulate.tasks import NoisyQuadratic

M, N = 8, 10
RANKS = (M, 3, 1)
PROBLEMS = ("round", "curved")
# The statement is an upper bound: what falls faster than K^-1/2 is no violation.
SLOWEST = -0.5 + 0.08
# Of O, which is read off W: the rounding of W over the least rate.
ROUND_OFF = 1e-12


@dataclass(frozen=True, eq=False)
class _Runs:
    """Every horizon, problem and seed: E members, the longest horizons first."""

    horizons: tuple[int, ...]
    seeds: tuple[int, ...]
    device: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Horizons, problems, seeds: the members' dimension unfolded."""
        return len(self.horizons), len(PROBLEMS), len(self.seeds)

    def spread(self, of_seeds: Tensor) -> Tensor:
        """What a seed has (S, ...), to the members (E, ...)."""
        horizons, problems, _ = self.shape
        return of_seeds.repeat(horizons * problems, *[1] * (of_seeds.ndim - 1))

    @cached_property
    def lengths(self) -> Tensor:
        """K, (E,)."""
        _, problems, seeds = self.shape
        K = torch.tensor(self.horizons, dtype=torch.float64, device=self.device)
        return K.repeat_interleave(problems * seeds)

    @cached_property
    def start(self) -> Tensor:
        """(E, M, N)."""
        return self.spread(gaussian(self.seeds, M, N, stream=1).to(self.device))

    @cached_property
    def curvature(self) -> tuple[Tensor, Tensor]:
        """A (E, M, M) and B (E, N, N), the identity for the round problem."""
        made = []
        for X in curvatures(self.seeds, M, N, decades=1):
            both = torch.stack([torch.eye(X.shape[-1]).to(X).expand_as(X), X])
            made.append(both.flatten(0, 1).repeat(len(self.horizons), 1, 1).to(self.device))
        return made[0], made[1]

    def problem(self, members: int) -> NoisyQuadratic:
        """f of the first members."""
        left, right = (X[:members] for X in self.curvature)
        seeds = self.spread(torch.tensor(self.seeds))[:members].tolist()
        target = left.new_zeros(M, N)
        return NoisyQuadratic(target, noise=0.0, seeds=seeds, curvature=(left, right))


def _run(runs: _Runs, ranks: Sequence[int], times: float) -> tuple[Tensor, Tensor, float]:
    """Means over the run of ||Q^T G||_* and of ||G||_F, each over its bound, (ranks, E).

    And the most by which ||Q^T G||_* differs from <G, O>, over ||G||_F: what it is of the steps
    O = Q msign(Q^T G) alone.
    """
    f, active = runs.problem(len(runs.lengths)), len(runs.lengths)
    bounds, rates = _bounds_and_rates(runs, ranks)
    groups = [
        {"params": [nn.Parameter(runs.start.clone())], "rank": rank, "lr": times * rate}
        for rank, rate in zip(ranks, rates, strict=True)
    ]
    seeds = runs.spread(torch.tensor(runs.seeds, device=runs.device))
    optimizer = LowRankMSGD(groups, lr=0.0, rank=1, seed=seeds)
    kept, whole, off = torch.zeros_like(bounds), torch.zeros_like(bounds), 0.0
    for step in range(runs.horizons[0]):
        if (left := int((runs.lengths > step).sum())) < active:
            active = left
            keep_members(optimizer, torch.arange(active))
            f = runs.problem(active)
        weights = [group["params"][0] for group in optimizer.param_groups]
        before = torch.stack([W.detach().clone() for W in weights])
        G = f.exact_gradient(before)
        for W, its in zip(weights, G, strict=True):
            W.grad = its
        optimizer.step()
        step_taken = before - torch.stack([W.detach() for W in weights])
        rates = torch.stack([group["lr"] for group in optimizer.param_groups])
        nuclear, length = kept_nuclear_norm(step_taken, G), torch.linalg.matrix_norm(G)
        apart = (G * step_taken).sum((-2, -1)) / rates - nuclear
        off = np.maximum(off, float((apart.abs() / length).max()))
        kept[:, :active] += nuclear
        whole[:, :active] += length
    return (*_over_bounds(runs, ranks, bounds, kept, whole), off)


def _run_of_subject(runs: _Runs, subject: Make) -> tuple[Tensor, Tensor]:
    """The same of any optimiser of matrices, at full rank: ||G||_* and ||G||_F, (1, E)."""
    bounds, rates = _bounds_and_rates(runs, [M])
    kept, whole = torch.zeros_like(bounds), torch.zeros_like(bounds)
    # It knows no members that leave: one horizon after the other, all from the same starts.
    members = len(runs.lengths) // len(runs.horizons)
    f = runs.problem(members)
    for place, horizon in enumerate(runs.horizons):
        own = slice(place * members, (place + 1) * members)
        W = nn.Parameter(runs.start[own].clone())
        optimizer = subject([W], lr=rates[0, own])
        for _ in range(horizon):
            W.grad = f.exact_gradient(W.detach())
            kept[0, own] += torch.linalg.matrix_norm(W.grad, ord="nuc")
            whole[0, own] += torch.linalg.matrix_norm(W.grad)
            optimizer.step()
    return _over_bounds(runs, [M], bounds, kept, whole)


def _bounds_and_rates(runs: _Runs, ranks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """sqrt(2 Delta L r / K) and sqrt(2 Delta / (L r K)), (ranks, E)."""
    f = runs.problem(len(runs.lengths))
    rank = runs.lengths.new_tensor(ranks)[:, None]
    bounds = (2 * f.loss(runs.start) * f.frobenius_smoothness * rank / runs.lengths).sqrt()
    return bounds, bounds / (f.frobenius_smoothness * rank)


def _over_bounds(
    runs: _Runs, ranks: Sequence[int], bounds: Tensor, kept: Tensor, whole: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over the run, as means over their bounds."""
    drawn_from = bounds.new_tensor([N / rank for rank in ranks])[:, None]
    return kept / runs.lengths / bounds, whole / runs.lengths / (drawn_from * bounds)


def _rate(
    setting: Setting, lengths: Sequence[int], times: float, subject: Make | None = None
) -> Evidence:
    seeds = tuple(setting.seeds(setting["seeds"]))
    runs = _Runs(tuple(sorted(lengths, reverse=True)), seeds, setting.device)
    # A subject has full rank; so have the controls that it is judged beside.
    ranks = RANKS if setting.subject is None else (M,)
    if subject is None:
        *means, off = _run(runs, ranks, times)
    else:
        means, off = [*_run_of_subject(runs, subject)], 0.0
    kept, whole = (x.unflatten(1, runs.shape).flip(1).cpu() for x in means)
    horizons = np.array(runs.horizons[::-1], dtype=float)
    average = whole.mean(-1)
    upper = percentile_interval(resampled_means(whole.numpy(), setting.seed))[1]
    measurements = [
        Measurement("mean of ||Q^T G||_* over its bound, largest run", float(kept.max()), "<=", 1),
        Measurement("mean of ||G||_F over its bound, upper end", float(upper.max()), "<=", 1),
    ]
    # Controls that stand beside a subject's runs are judged by what these are judged by.
    if setting.subject is None:
        name = "<G, O> off ||Q^T G||_*, over ||G||_F, most"
        measurements.append(Measurement(name, off, "<=", ROUND_OFF))
    remarks = []
    for i, rank in enumerate(ranks):
        remarks.append(
            f"r = {rank}: ||Q^T G||_* over its bound from {float(kept[i].min()):.3f} to "
            f"{float(kept[i].max()):.3f}, ||G||_F from {float(average[i].min()):.3f} to "
            f"{float(average[i].max()):.3f}"
        )
        for j, problem in enumerate(PROBLEMS):
            # Their bounds fall as K^-1/2.
            found, of_whole = (
                exponent(horizons, x[i, :, j].numpy() * horizons[:, None] ** -0.5, setting.seed)
                for x in (kept, whole)
            )
            judged = {"||G||_F": of_whole} | ({"||Q^T G||_*": found} if problem == "round" else {})
            measurements += [
                Measurement(
                    f"exponent of {what} in K, r = {rank}, {problem}, upper end",
                    its.high, "<=", SLOWEST,
                )
                for what, its in judged.items()
            ]  # fmt: skip
            remarks.append(
                f"r = {rank}, {problem}: exponent of ||Q^T G||_* {found}, of ||G||_F {of_whole}"
            )
    arrays = {
        "horizons": horizons, "ranks": np.array(ranks), "kept": kept.numpy(),
        "whole": whole.numpy(), "problems": np.array(PROBLEMS),
    }  # fmt: skip
    return Evidence(tuple(measurements), arrays, tuple(remarks))


def check_rate(setting: Setting) -> Evidence:
    """A step is worth eta ||Q^T G||_* - L eta^2 r / 2 (low-rank.descent). Summed over K steps that
    is at most Delta = f(X_0) - min f, so the mean of ||Q^T G||_* is at most Delta / (eta K) + L eta
    r / 2, which is sqrt(2 Delta L r / K) for eta = sqrt(2 Delta / (L r K)): in every run.

    If Q spans r columns of G drawn uniformly, ||Q^T G||_* >= ||Q^T G||_F >= ||G_S||_F, G_S the
    columns drawn; that is at least ||G_S||_F^2 / ||G||_F, and E ||G_S||_F^2 = (r / n) ||G||_F^2.
    Hence the mean of E ||G||_F is at most n / r as much.

    The bounds say of an exponent only that in the limit it is no shallower than -1/2. On the round
    problem a step of rank r is worth just what is said, so the first bound is attained but for what
    f is at the end; on the curved one the share of the bound still grows where runs are too short
    to come to rest, at r = 1 most, and its exponent is told and not judged.

    Of any optimiser of matrices it is asked at full rank, where ||Q^T G||_* is ||G||_*: whether
    with these rates its gradients are as small as those of descent along matrix signs have to be.
    """
    return _rate(setting, setting["horizons"], 1.0, setting.subject)


def control_long_steps(setting: Setting) -> Evidence:
    """Steps ten times as long: eta r L / 2 alone is five times the bound."""
    return _rate(setting, setting["control_horizons"], 10.0)


CLAIMS = (
    Claim(
        id="low-rank.msgd-rate",
        paper="low-rank",
        title="Gradients of low-rank descent fall as the root of the number of steps",
        statement=(
            r"With $\eta = \sqrt{2\Delta/(LrK)}$ the mean of $\|Q_k^\top G_k\|_*$ over $K$ steps "
            r"is at most $\sqrt{2\Delta Lr/K}$, and that of $E\|G_k\|_F$ at most $n/r$ times as "
            r"much for uniform columns."
        ),
        reference=f"{REFERENCE}, the rate; the constants are derived",
        source="paper",
        setup=f"{M} x {N} quadratics, round and of conditions up to 10 by 10, Gaussian starts, "
        "r = 8, 3, 1, LowRankMSGD; horizons by octaves; full rank for a --subject",
        criterion="in every run below the first bound, on average below the second; Q by the "
        f"steps' own SVD, <G, O> = ||Q^T G||_* to {ROUND_OFF:g}; exponents in "
        "K, upper ends of 95% intervals over the seeds, at most -1/2 + .08",
        check=check_rate,
        subject="matrices",
        devices=DEVICES,
        controls={"steps ten times as long": control_long_steps},
        tiers={
            "quick": {
                "seeds": 32,
                "horizons": (32, 64, 128, 256),
                "control_horizons": (32, 64),
            },
            "full": {
                "seeds": 64,
                "horizons": (64, 128, 256, 512, 1024, 2048),
            },
        },
    ),
)
