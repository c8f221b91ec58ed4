"""Runs on a quadratic under heavy-tailed noise: all horizons, tails and seeds of a method in one.

f(X) = 1/2 ||X - Y||_F^2, 8 x 10, from X = 0; symmetric Pareto noise in every entry. A run of K
steps has constants of its own, so every horizon is a member, and leaves the ensemble when it is
over.
Methods, horizons and tails share a seed's noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from claims.low_rank_orthogonalization.directions import Direction, columns, gaussian, polar
from claims.measuring.draws import gaussian as gaussian_matrices
from claims.measuring.exponents import log_slopes
from claims.measuring.intervals import percentile_interval, resampled_means
from claims.registry import Measurement, Setting
from simulate.noise import Noise
from simulate.optimizers import LowRankMuon, MemberSGD, Muon, keep_members
from simulate.schedules import tail_index_rates
from simulate.tasks import NoisyQuadratic

Array = NDArray[np.float64]

M, N, RANK = 8, 10, 3
# The tail index of the noise lies above the order a of the moment that is used: Pareto noise of
# index a has no a-th moment.
TAILS: Mapping[float, float] = {2.0: 2.2, 1.5: 1.55, 1.2: 1.25}
# A run has to arrive: singular values of X move by eta K at most, 2.4 at a = 1.2 and K = 2^10.
TARGET, NOISE = 0.3, 0.1
# Of sums of products of 8 x 10 matrices.
ROUND_OFF = 1e-13

# (params, lr, momentum, seeds): the last three of one shape, one a member.
Make = Callable[[list[nn.Parameter], Tensor, Tensor, Tensor], Optimizer]
# (steps, a) -> learning rate and momentum.
Rates = Callable[[int, float], tuple[float, float]]
# (exact gradients, momenta after the step) -> what is averaged over the trajectory, (..., E).
Quantity = Callable[[Tensor, Tensor], Tensor]


def gradient_norm(exact: Tensor, _: Tensor) -> Tensor:
    """||grad f(X_k)||_F."""
    norm: Tensor = torch.linalg.matrix_norm(exact)
    return norm


def momentum_error(exact: Tensor, momentum: Tensor) -> Tensor:
    """||M_k - grad f(X_k)||_F."""
    norm: Tensor = torch.linalg.matrix_norm(momentum - exact)
    return norm


@dataclass(frozen=True)
class Method:
    """An optimiser, what is known of its direction, and the rank of that.

    Attributes:
        direction: None where the bound is not its own.
    """

    make: Make
    direction: Direction | None
    rank: int = M


def muon(nesterov: bool, orthogonalizer: str = "certified") -> Make:
    """Full Muon. Certified polar factors have an SVD's error in half of its time."""

    def make(params: list[nn.Parameter], lr: Tensor, momentum: Tensor, _: Tensor) -> Optimizer:
        return Muon(
            params, lr, 0.0, momentum, nesterov, adjust_lr_fn="unadjusted",
            orthogonalizer=orthogonalizer,
        )  # fmt: skip

    return make


def low_rank_muon(sketch: str, nesterov: bool = False, orthogonalizer: str = "svd") -> Make:
    """Muon within a sketch."""

    def make(params: list[nn.Parameter], lr: Tensor, momentum: Tensor, seed: Tensor) -> Optimizer:
        return LowRankMuon(
            params, lr, RANK, momentum, nesterov, sketch, seed=seed, orthogonalizer=orthogonalizer
        )

    return make


def sgd(params: list[nn.Parameter], lr: Tensor, _: Tensor, __: Tensor) -> Optimizer:
    """Plain SGD."""
    return MemberSGD(params, lr)


FULL, GAUSSIAN, COLUMNS = "full", f"Gaussian, r = {RANK}", f"columns, r = {RANK}"
METHODS: Mapping[str, Method] = {
    FULL: Method(muon(nesterov=False), polar(M)),
    GAUSSIAN: Method(low_rank_muon("gaussian"), gaussian(N, RANK), RANK),
    COLUMNS: Method(low_rank_muon("columns"), columns(N, RANK), RANK),
}
SGD = Method(sgd, None)


def start_and_target(setting: Setting) -> Tensor:
    """Y, (m, n), Gaussian; X begins at 0, where the gradient is -Y."""
    generator = torch.Generator().manual_seed(setting.seed)
    return TARGET * torch.randn(M, N, generator=generator, dtype=torch.float64)


def conformity(setting: Setting, methods: Iterable[Method]) -> tuple[Measurement, ...]:
    """Whether steps are those that the bounds are of, on a few Gaussian gradients.

    C_k = beta C_(k-1) + G_k, and D_k = C_k, with look-ahead beta C_k + G_k, is computed here. A
    step O = Q phi(Q^T D), phi >= 0 of singular values alone, has ||(Q^T D)(Q^T O)^T||_* = <D, O>,
    and no other has; Q is taken from the singular vectors of the step, r of them.
    """
    seeds, beta, off, missing = setting.seeds(4), 0.7, [], []
    gradients = gaussian_matrices(seeds, 4, M, N, stream=11).to(setting.device)
    own = torch.tensor([seeds], device=setting.device)
    rates = torch.ones_like(own, dtype=torch.float64)
    for method in methods:
        X = nn.Parameter(torch.zeros_like(gradients[None, :, 0]))
        optimizer, C = method.make([X], rates, beta * rates, own), torch.zeros_like(X)
        for G in gradients.unbind(1):
            before, X.grad = X.detach().clone(), G[None].clone()
            optimizer.step()
            C = beta * C + G
            D = beta * C + G if method.direction and method.direction.look_ahead else C
            O = before - X.detach()  # noqa: E741
            U, s, _ = torch.linalg.svd(O, full_matrices=False)
            kept = (s > 1e-8 * s[..., :1]).to(s)
            inner = (U * kept[..., None, :]).mT
            aligned = torch.linalg.matrix_norm(inner @ D @ (inner @ O).mT, ord="nuc")
            off.append((aligned / (D * O).sum((-2, -1)) - 1).abs().max())
            missing.append((kept.sum(-1) - method.rank).abs().max())
    return (
        Measurement(
            "||(Q^T D)(Q^T O)^T||_* / <D, O> off 1, most", float(torch.stack(off).max()), "<=",
            ROUND_OFF,
        ),
        Measurement("rank of a step off r, most", float(torch.stack(missing).max()), "<=", 0.0),
    )  # fmt: skip


@dataclass(frozen=True)
class Means:
    """Trajectory means of one method.

    Attributes:
        orders: (T,) moments a. horizons: (H,) steps K.
        values: (T, H, S), one a seed.
        bounds: (T, H), on their expectation; NaN without a known direction.
    """

    orders: Array
    horizons: Array
    values: Array
    bounds: Array

    def slopes(self, seed: int) -> Array:
        """(T, 3): of the mean over seeds on K, log-log, and its bootstrap interval.

        A direction of bounded length moves X by bounded steps, so the values have all moments,
        whatever the noise has, and the bootstrap over seeds is consistent.
        """
        found = log_slopes(self.horizons, self.values.mean(-1))
        resampled = log_slopes(self.horizons, resampled_means(self.values, seed))
        return np.stack([found, *percentile_interval(resampled)], -1)

    def intervals(self, seed: int) -> Array:
        """(T, H, 2): of the means."""
        return np.moveaxis(percentile_interval(resampled_means(self.values, seed)), 0, -1)


def trajectory_means(
    setting: Setting,
    methods: Mapping[str, tuple[Method, Sequence[float]]],
    horizons: Sequence[int],
    rates: Rates = tail_index_rates,
    quantity: Quantity = gradient_norm,
    scale: float = NOISE,
) -> dict[str, Means]:
    """Run every method at the orders that are named with it, a part of TAILS in its order."""
    wanted = [a for a in TAILS if any(a in orders for _, orders in methods.values())]
    seeds, Y = setting.seeds(setting["seeds"]), start_and_target(setting).to(setting.device)
    tails = torch.tensor([TAILS[a] for a in wanted], dtype=torch.float64)
    noise = Noise("pareto", tails.repeat_interleave(len(seeds)), scale)
    task = NoisyQuadratic(Y, noise=noise, seeds=[*seeds] * len(wanted))
    ensembles = {}
    for name, (method, orders) in methods.items():
        first, end = wanted.index(orders[0]), wanted.index(orders[-1]) + 1
        members = slice(first * len(seeds), end * len(seeds))
        ensembles[name] = _Ensemble(
            method.make, task, members, _rates(rates, horizons, wanted[first:end], len(seeds)),
            horizons, quantity,
        )  # fmt: skip
    # Work is members times steps.
    total = sum(horizons)
    for step in range(max(horizons)):
        for ensemble in ensembles.values():
            ensemble.advance(step)
        if step % 256 == 0:
            setting.means.progress(sum(min(step, K) for K in horizons) / total)
    return {
        name: Means(
            np.array(orders),
            np.array(horizons, dtype=float),
            ensembles[name].means(len(seeds)),
            _bounds(Y, method, orders, horizons, rates, quantity, scale),
        )
        for name, (method, orders) in methods.items()
    }


def _rates(
    rates: Rates, horizons: Sequence[int], orders: Sequence[float], seeds: int
) -> tuple[Tensor, Tensor]:
    """Rates and momenta, each (H, T S)."""
    found = torch.tensor([[rates(K, a) for a in orders] for K in horizons], dtype=torch.float64)
    lr, momentum = found.repeat_interleave(seeds, 1).unbind(-1)
    return lr.contiguous(), momentum.contiguous()


class _Ensemble:
    """The runs of one method: members (H, E), of which whole horizons leave."""

    def __init__(
        self,
        make: Make,
        task: NoisyQuadratic,
        members: slice,
        rates: tuple[Tensor, Tensor],
        horizons: Sequence[int],
        quantity: Quantity,
    ) -> None:
        self.task, self.members, self.quantity = task, members, quantity
        device = task.target.device
        self.horizons = torch.tensor(horizons, device=device)
        self.left = torch.arange(len(horizons), device=device)
        seeds = torch.tensor(task.seeds[members], device=device).expand(len(horizons), -1)
        # Of all runs, once they are over, and of those that are left.
        self.sums = task.target.new_zeros(seeds.shape)
        self.running = torch.zeros_like(self.sums)
        self.X = nn.Parameter(task.target.new_zeros(*seeds.shape, M, N))
        lr, momentum = (x.to(device) for x in rates)
        self.optimizer = make([self.X], lr, momentum, seeds.contiguous())
        self.ends = set(horizons)

    def advance(self, step: int) -> None:
        if step in self.ends:
            kept = (self.horizons[self.left] > step).nonzero().flatten()
            keep_members(self.optimizer, kept)
            self.sums[self.left] = self.running
            self.left, self.running = self.left[kept], self.running[kept]
        exact = self.task.exact_gradient(self.X.detach())
        self.X.grad = self.task.with_noise(exact, step, self.members)
        self.optimizer.step()
        momentum = self.optimizer.state[self.X]["momentum_buffer"]
        self.running += self.quantity(exact, momentum)

    def means(self, seeds: int) -> Array:
        """(T, H, S), when the longest runs are over."""
        self.sums[self.left] = self.running
        found = (self.sums / self.horizons[:, None]).unflatten(1, (-1, seeds))
        return np.asarray(found.movedim(1, 0).cpu().numpy())


def _bounds(
    Y: Tensor,
    method: Method,
    orders: Sequence[float],
    horizons: Sequence[int],
    rates: Rates,
    quantity: Quantity,
    scale: float,
) -> Array:
    """(T, H)."""
    K, start = np.array(horizons, dtype=float), float(Y.norm())
    bounds = np.full((len(orders), len(horizons)), np.nan)
    direction = method.direction
    if direction is None:
        return bounds
    for place, a in enumerate(orders):
        lr, momentum = np.array([rates(steps, a) for steps in horizons]).T
        sigma = float(Noise("pareto", TAILS[a], scale).sigmas(M, N, a)[0])
        known = {"sigma": sigma, "order": a, "start": start}
        if quantity is momentum_error:
            bounds[place] = direction.momentum_error(K, lr, 1 - momentum, **known)
        else:
            bounds[place] = direction.gradient(K, lr, 1 - momentum, gap=start**2 / 2, **known)
    return bounds
