"""What a step along the LMO is worth on a smooth function, and what that says of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from claims.measuring.draws import gaussian_there
from claims.registry import DEVICES, Claim, Evidence, Make, Measurement, Setting
from claims.tensorion.tensors import (
    ALONG_THE_LMO,
    MATRICES,
    PAPER,
    RECONSTRUCTED,
    inner,
    largest_rank,
    nuclear_norms,
    rotations,
)
from geometry.philox import uniforms
from geometry.unfolding import mode_products
from simulate.optimizers import Tensorion

SHAPES = ((4, 4, 4), (6, 4, 3, 3))
STEP = "f(W - eta S) above f - eta N* + L r* eta^2 / 2, over the sizes of the terms, largest"
RUN = "min N*(G_k) over Delta / (eta K) + L r* eta / 2, largest"
ROUND_OFF = 1e-12


@dataclass(frozen=True)
class _Quadratic:
    """f(X) = <X, H X> / 2, H the product of symmetric A_k along the modes: one a seed.

    Attributes:
        curvatures: of every mode (E, n, n), with largest eigenvalue 1, so that L = 1.
    """

    curvatures: list[Tensor]

    def gradient(self, X: Tensor) -> Tensor:
        return mode_products(X, self.curvatures)

    def loss(self, X: Tensor) -> Tensor:
        return inner(X, self.gradient(X)) / 2


def _quadratic(setting: Setting, shape: tuple[int, ...]) -> _Quadratic:
    """Eigenvalues of 10^(-c u), u uniform up to 1 and c up to .7: from round to conditions of 5 a
    mode."""
    seeds = torch.tensor(setting.seeds(setting["seeds"]))
    spread = 0.7 * uniforms(seeds, 1, stream=40)
    curvatures = []
    for place, axes in enumerate(rotations(setting, shape, stream=50)):
        drawn = uniforms(seeds, axes.shape[-1], stream=60 + place)
        drawn[:, 0] = 0.0
        eigenvalues = (10 ** (-spread * drawn)).to(axes)
        curvatures.append((axes * eigenvalues[:, None]) @ axes.mT)
    return _Quadratic(curvatures)


def _descent(setting: Setting, share: float, subject: Make | None = None) -> Evidence:
    """With ``share`` times the constant of smoothness in the bounds."""
    seeds, steps = setting.seeds(setting["seeds"]), setting["steps"]
    above, run = [], []
    shapes = SHAPES if subject is None else MATRICES
    for shape in shapes:
        order = len(shape)
        f = _quadratic(setting, shape)
        widest = largest_rank(shape)
        X = gaussian_there(setting, *shape, stream=70)
        # Rates with which the run comes a tenth of the way, to ten times the way.
        spread = 10 ** (2 * uniforms(torch.tensor(seeds), 1, stream=80)[:, 0].to(X) - 1)
        eta = spread * nuclear_norms(X, order).amax(0) / (widest * steps)
        W = nn.Parameter(X.clone())
        make: Make = subject or partial(Tensorion, order=order, **ALONG_THE_LMO)
        optimizer = make([W], lr=eta)
        curved = share * widest * eta.square() / 2
        start = before = f.loss(X)
        duals = []
        for _ in range(steps):
            G = f.gradient(W.detach())
            duals.append(nuclear_norms(G, order).amax(0))
            W.grad = G
            optimizer.step()
            after = f.loss(W.detach())
            worth = eta * duals[-1]
            sizes = before + after + worth + curved
            above.append(float(((after - before + worth - curved) / sizes).max()))
            before = after
        bound = start / (eta * steps) + curved / eta
        run.append(float((torch.stack(duals).amin(0) / bound).max()))
    return Evidence(
        (
            Measurement(STEP, np.max(above), "<=", ROUND_OFF),
            Measurement(RUN, np.max(run), "<=", 1.0),
        ),
        remarks=(f"{len(shapes) * len(seeds) * steps:,} steps",),
    )


def check_descent(setting: Setting) -> Evidence:
    """The step is W - eta S with <G, S> = N*(G) and, S having min(m_tau, n_tau) singular values of
    1 in an unfolding, ||S||_F^2 <= r* = max_tau min(m_tau, n_tau). Where gradients are L-Lipschitz
    in the Frobenius norm, f(W - eta S) <= f(W) - eta N*(G) + L eta^2 ||S||_F^2 / 2. Summed over K
    steps, with Delta = f(W_0) - inf f: the least N*(G_k) is at most Delta / (eta K) + L r* eta / 2.

    Steps are the optimiser's, without momentum and decay; N* is taken by an SVD of every unfolding,
    and f(W - eta S) - f(W) as the difference of two losses. L = 1 is the largest eigenvalue. Of an
    optimiser of matrices it is asked of these, with N* the nuclear norm and r* = min(m, n).
    """
    return _descent(setting, 1.0, setting.subject)


def control_quarter(setting: Setting) -> Evidence:
    """A quarter of L: smoother than f is."""
    return _descent(setting, 0.25)


CLAIMS = (
    Claim(
        id="tensorion.descent",
        paper=PAPER,
        title="What a step is worth, and what the best of K gradients is",
        statement=(
            r"$f(W - \eta S) \le f(W) - \eta N^*(G) + \frac{L r^*}{2} \eta^2$ for $f$ that is "
            r"$L$-smooth in the Frobenius norm, and $\min_k N^*(G_k) \le \frac{\Delta}{\eta K} + "
            r"\frac{L r^*}{2} \eta$, with $r^* = \max_\tau \min(m_\tau, n_\tau)$."
        ),
        reference=RECONSTRUCTED,
        source="derived",
        setup="quadratics of 4 x 4 x 4 and 6 x 4 x 3 x 3 with curvatures along every mode, rates "
        "over two decades, the optimiser without momentum and decay; matrices of 3 x 5, 6 x 6, "
        "7 x 4 for a --subject",
        criterion=f"no step above its bound by more than {ROUND_OFF:g} of the sizes of its terms; "
        "no run above its own",
        check=check_descent,
        devices=DEVICES,
        subject="matrices",
        controls={"a quarter of L": control_quarter},
        tiers={"quick": {"seeds": 24, "steps": 20}, "full": {"seeds": 100, "steps": 400}},
    ),
)
