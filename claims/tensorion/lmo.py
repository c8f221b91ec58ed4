"""The step is the best in the unit ball of the norm, and turns with the axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from claims.measuring.draws import gaussian_there
from claims.registry import DEVICES, ROUNDS_IN, Claim, Evidence, Measurement, Setting
from claims.tensorion.hull import Hull
from claims.tensorion.tensors import (
    ALONG_THE_LMO,
    MATRICES,
    PAPER,
    RECONSTRUCTED,
    first_step,
    inner,
    nuclear_norms,
    rotations,
    spectral_norms,
    split,
    splits,
)
from geometry.polar import msign
from geometry.tensor import online_unfolding
from geometry.unfolding import (
    distinct_unfoldings,
    fold,
    mode_products,
    unfolded_shape,
)
from simulate.optimizers import MemberAdamW, Tensorion

Array = NDArray[np.float64]
SHAPES = ((2, 3, 4), (3, 3, 3), (3, 2, 2, 2))
GAP, UNIT = "relative gap to the convex optimum, largest", "min ||S_tau||_2 - 1, largest"
DRAWS = 3000
# Of the histogram of what random extreme points are worth.
EDGES = np.linspace(-1, 1, 61)
# Of all the solver's values are worth.
SOLVED = 1e-9


def _gap(values: Array, best: Array) -> Measurement:
    return Measurement(GAP, float(np.abs(values / best - 1).max()), "<=", SOLVED)


def _gradients(setting: Setting, shapes: Sequence[tuple[int, ...]]) -> list[tuple[Hull, Tensor]]:
    return [(Hull(shape), gaussian_there(setting, *shape)) for shape in shapes]


def _optima(hull: Hull, G: Tensor) -> Array:
    return np.array([hull.dual_norm(member) for member in G.cpu().numpy()])


def check_lmo(setting: Setting) -> Evidence:
    """A linear function has its maximum over the convex hull of the balls {||X_tau||_2 <= 1} where
    it has it over one of them, and over that ball it is ||G_tau||_*, attained by the polar factor.

    The convex program knows neither: max <G, sum Y_tau> over ||Y_tau||_2 <= t_tau, sum t_tau <= 1,
    solved as a semidefinite one. <G, S> is taken entry by entry, and S lies in the hull because it
    lies in one of the balls.

    S is a step of the optimiser with rate 1 from W = 0. A matrix has one unfolding, so of an
    optimiser of matrices it is asked whether its step is the polar factor.
    """
    shapes = SHAPES if setting.subject is None else MATRICES
    values, best, sizes, shares, rivals, extremes = [], [], [], [], [], []
    for number, (hull, G) in enumerate(_gradients(setting, shapes)):
        order = len(hull.shape)
        make = setting.optimizer(Tensorion, order=order, **ALONG_THE_LMO)
        S = first_step(make, G)
        values.append(inner(G, S).cpu().numpy())
        best.append(_optima(hull, G))
        sizes.append(spectral_norms(S, order).amin(0).cpu().numpy())
        shares.append(_padded(nuclear_norms(G, order).cpu().numpy() / best[-1]))
        rivals.append(_in_the_smaller_ball(hull, G) / best[-1])
        seed = setting.seed + number
        extremes.append(_values_of_extremes(G, seed, setting["drawn"]) / best[-1])
    return Evidence(
        (
            _gap(np.stack(values), np.stack(best)),
            Measurement(UNIT, float(np.max(sizes)) - 1, "<=", 1e-12),
        ),
        {
            "shapes": np.array([" x ".join(map(str, shape)) for shape in shapes]),
            "unfoldings": np.stack(shares),
            "max_norm": np.stack(rivals),
            "best_extremes": np.stack([values.max(0) for values in extremes]),
            "edges": EDGES,
            "extremes": np.stack([np.histogram(values, EDGES)[0] for values in extremes]),
        },
        (
            f"the best point of the max-norm ball is worth {_range(np.stack(rivals))} of it; "
            f"single unfoldings are worth {_range(np.concatenate([x.ravel() for x in shares]))}",
        ),
    )


def _padded(shares: Array) -> Array:
    """(7, seeds), with NaN for the unfoldings that there are not."""
    return np.pad(shares, ((0, 7 - len(shares)), (0, 0)), constant_values=np.nan)


def _range(values: Array) -> str:
    return f"{np.nanmin(values):.3f} to {np.nanmax(values):.3f}"


def _in_the_smaller_ball(hull: Hull, G: Tensor) -> Array:
    members = G.cpu().numpy()
    return np.array([hull.largest_where_every_unfolding_is_small(member) for member in members])


def _values_of_extremes(G: Tensor, seed: int, count: int) -> Array:
    """<G, E> (count, seeds) of random extreme points: Haar isometries in random unfoldings."""
    shape, found = G.shape[1:], []
    known = distinct_unfoldings(shape)
    for place, modes in enumerate(known):
        own = count // len(known) + (place < count % len(known))
        generator = torch.Generator().manual_seed(1009 * seed + place)
        drawn = torch.randn(
            own, *unfolded_shape(shape, modes), generator=generator, dtype=torch.float64
        ).to(G)  # fmt: skip
        found.append(fold(msign(drawn), modes, shape).flatten(1) @ G.flatten(1).T)
    return torch.cat(found).cpu().numpy()


def _control(setting: Setting, value: Callable[[int, Hull, Tensor], Array]) -> Evidence:
    found = [
        (value(number, hull, G), _optima(hull, G))
        for number, (hull, G) in enumerate(_gradients(setting, SHAPES))
    ]
    values, best = (np.stack(x) for x in zip(*found, strict=True))
    return Evidence(
        (_gap(values, best),), remarks=(f"worth {_range(values / best)} of the optimum",)
    )


def control_max_norm(setting: Setting) -> Evidence:
    """The best point of the ball of max_tau ||X_tau||_2, the intersection and not the hull."""
    return _control(setting, lambda _, hull, G: _in_the_smaller_ball(hull, G))


def control_random(setting: Setting) -> Evidence:
    """The best of random extreme points."""
    return _control(
        setting,
        lambda number, _, G: _values_of_extremes(G, setting.seed + number, DRAWS).max(0),
    )


TURNED = ((5, 6, 7), (8, 4, 3, 3), (3, 3, 3, 3))
TURN = "||LMO(Q . G) - Q . LMO(G)||_F over min ||LMO(G)_tau||_2 and round-off, largest"


def _turned(
    setting: Setting,
    direction: Callable[[Tensor], Tensor],
    shapes: Sequence[tuple[int, ...]] = TURNED,
) -> Evidence:
    worst, absolute = [], []
    for shape in shapes:
        order, G = len(shape), gaussian_there(setting, *shape)
        axes = rotations(setting, shape, stream=10)
        S = direction(G)
        difference = direction(mode_products(G, axes)) - mode_products(S, axes)
        # Nothing over nothing, of a step that is none, is no number and never holds.
        error = difference.flatten(1).norm(dim=1) / spectral_norms(S, order).amin(0)
        # What the polar factor of its unfolding is known to.
        place = online_unfolding(G, order)
        bounds = torch.stack([_round_off(split(G, modes, order)) for modes in splits(order)])
        worst.append(float((error / bounds.gather(0, place[None])[0]).max()))
        absolute.append(float(difference.abs().max()))
    told = ", ".join(
        f"{' x '.join(map(str, shape))}: {x:.1e}" for shape, x in zip(shapes, absolute, strict=True)
    )
    return Evidence(
        (Measurement(TURN, np.max(worst), "<=", 1.0),),
        remarks=(f"entries differ by {told} at most",),
    )


def _round_off(matrix: Tensor) -> Tensor:
    """8 p u ||A||_F / s_min, p the larger dimension: a polar factor's condition number is 1/s_min,
    and turning and the SVD have backward errors of p u ||A||_F or so."""
    s = torch.linalg.svdvals(matrix)
    u = torch.finfo(matrix.dtype).eps / 2
    return 8 * max(matrix.shape[-2:]) * u * s.norm(dim=-1) / s[..., -1]


def check_turned(setting: Setting) -> Evidence:
    """Turned by an orthogonal Q_k along every mode, an unfolding becomes P G_tau R with orthogonal
    P and R, Kronecker products of the Q_k. Its singular values are those of G_tau, so the choice of
    tau stays; its polar factor is P U V^T R.

    The direction is a step of the optimiser with rate 1 from W = 0. Of an optimiser of matrices it
    is asked whether P G R leads to P step R.
    """

    def step(G: Tensor) -> Tensor:
        return first_step(setting.optimizer(Tensorion, order=G.ndim - 1, **ALONG_THE_LMO), G)

    return _turned(setting, step, TURNED if setting.subject is None else MATRICES)


def control_adam(setting: Setting) -> Evidence:
    """The first step of Adam, which is taken entry by entry."""
    return _turned(setting, partial(first_step, partial(MemberAdamW, weight_decay=0.0)))


CLAIMS = (
    Claim(
        id="tensorion.lmo-optimal",
        paper=PAPER,
        title="The step is the best in the unit ball of the norm",
        statement=(
            r"With $\hat\tau$ the unfolding of the largest nuclear norm, the folded polar factor "
            r"$S$ of $G_{\hat\tau}$ has $N(S) = 1$ and $\langle G, S\rangle = \max_{N(X) \le 1} "
            r"\langle G, X\rangle = \max_\tau \|G_\tau\|_*$."
        ),
        reference=RECONSTRUCTED,
        source="paper",
        setup="Gaussian G of 2 x 3 x 4, 3 x 3 x 3, 3 x 2 x 2 x 2; both sides as semidefinite "
        "programs over the hull, by Clarabel on the CPU; matrices of 3 x 5, 6 x 6, 7 x 4 for a "
        "--subject",
        criterion=f"gap within {SOLVED:g}, the solver's accuracy; S feasible to round-off",
        check=check_lmo,
        devices=DEVICES,
        subject="matrices",
        controls={"max-norm ball": control_max_norm, "random extreme points": control_random},
        tiers={"quick": {"seeds": 2, "drawn": 300}, "full": {"seeds": 20, "drawn": DRAWS}},
    ),
    Claim(
        id="tensorion.equivariance",
        paper=PAPER,
        title="Turned axes, turned step",
        statement=(
            r"$\mathrm{LMO}(Q \cdot G) = Q \cdot \mathrm{LMO}(G)$ for orthogonal $Q_k$ along every "
            r"mode."
        ),
        reference=RECONSTRUCTED,
        source="derived",
        setup="Gaussian G of 5 x 6 x 7, 8 x 4 x 3 x 3, 3 x 3 x 3 x 3, Haar axes; matrices of "
        "3 x 5, 6 x 6, 7 x 4 for a --subject",
        criterion="within 8 max(m, n) u ||G||_F / s_min of the unfolding that is chosen, for a "
        "step of norm 1",
        check=check_turned,
        devices=DEVICES,
        dtypes=ROUNDS_IN,
        subject="matrices",
        controls={"Adam": control_adam},
        tiers={"quick": {"seeds": 20}, "full": {"seeds": 500}},
    ),
)
