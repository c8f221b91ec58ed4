"""Low-rank descent along matrix signs: what a step is worth."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from claims.low_rank_orthogonalization.quadratics import curvatures
from claims.measuring.draws import gaussian
from claims.registry import DEVICES, Claim, Evidence, Make, Measurement, Setting
from geometry.philox import uniforms
from simulate.optimizers import LowRankMSGD
from simulate.tasks import NoisyQuadratic

REFERENCE = "He, Deng, Lu, arXiv 2509.11983"
M, N = 12, 16
SKETCHES = ("columns", "weighted", "gaussian")
FULL, HALF = 1.0, 0.5
# Of sums of M N products, of entries that are sums of M + N, and of the SVD.
ROUND_OFF = 1e3 * torch.finfo(torch.float64).eps


def kept_nuclear_norm(step: Tensor, G: Tensor) -> Tensor:
    """||Q^T G||_*, with Q the left singular vectors of a step (..., m, n) by its own SVD."""
    U, s, _ = torch.linalg.svd(step, full_matrices=False)
    # They are the rate, or 0.
    Q = U * (s > s[..., :1] / 2).to(s)[..., None, :]
    return torch.linalg.matrix_norm(Q.mT @ G, ord="nuc")


def _optimizers(setting: Setting, seeds: Tensor, subject: Make | None) -> dict[int, list[Make]]:
    """By rank, which is full for a subject."""
    if subject is not None:
        return {M: [subject]}
    return {
        rank: [partial(LowRankMSGD, rank=rank, sketch=sketch, seed=seeds) for sketch in SKETCHES]
        for rank in setting["ranks"]
    }


def _descent(setting: Setting, share: float, subject: Make | None = None) -> Evidence:
    """With ``share`` times the constants of smoothness in the bounds."""
    seeds = setting.seeds(setting["members"])
    # Drawn on the CPU, and moved.
    X, left, right = (
        x.to(setting.device)
        for x in (gaussian(seeds, M, N, stream=5), *curvatures(seeds, M, N, decades=2))
    )
    own = torch.tensor(seeds, device=X.device)
    optimizers = _optimizers(setting, own, subject)
    ranks = [*optimizers]
    f = NoisyQuadratic(X.new_zeros(M, N), noise=0.0, seeds=seeds, curvature=(left, right))
    G, before = f.exact_gradient(X), f.loss(X)
    frobenius, spectral = f.frobenius_smoothness, f.spectral_smoothness
    # From a tenth to ten times of what is best at full rank.
    wide = 10 ** (2 * uniforms(own, 1, stream=6)[:, 0] - 1)
    eta = wide * torch.linalg.matrix_norm(G, ord="nuc") / (frobenius * M)
    taken = []
    for rank in ranks:
        for make in optimizers[rank]:
            W = nn.Parameter(X.clone())
            W.grad = G
            make([W], lr=eta).step()
            if subject is None:
                gain = eta * kept_nuclear_norm(X - W.detach(), G)
            else:
                gain = eta * torch.linalg.matrix_norm(G, ord="nuc")
            after = f.loss(W.detach())
            curved = after - before + gain
            bounds = torch.stack([frobenius * rank, spectral]) * share * eta.square() / 2
            above = (curved - bounds) / (before + after + gain)
            # What overflowed is above as well.
            taken.append((curved / bounds, ~(above <= ROUND_OFF)))
    shares, violated = (
        torch.stack(x).unflatten(0, (len(ranks), -1)).cpu() for x in zip(*taken, strict=True)
    )
    names = "L_F eta^2 r / 2", "L_* eta^2 / 2"
    return Evidence(
        tuple(
            Measurement(f"steps above f - eta ||Q^T G||_* + {name}", int(count), "<=", 0)
            for name, count in zip(names, violated.sum((0, 1, 3)), strict=True)
        ),
        {
            "shares": shares.numpy(),
            "ranks": np.array(ranks),
            "sketches": np.array(SKETCHES),
        },
        tuple(
            f"of {name}, at most {float(of.max()):.3f} is taken; "
            + ", ".join(
                f"r = {rank}: {float(x.max()):.3f}" for rank, x in zip(ranks, of, strict=True)
            )
            for name, of in zip(names, shares.movedim(2, 0), strict=True)
        ),
    )


def check_descent(setting: Setting) -> Evidence:
    """X+ = X - eta O with O = Q msign(Q^T G): rank(O) <= r, all its singular values are 1 or 0, and
    <G, O> = <Q^T G, msign(Q^T G)> = ||Q^T G||_*.

    Where ||grad f(X) - grad f(Y)||_F <= L ||X - Y||_F, integrating along the step gives f(X+) <=
    f - eta <G, O> + L eta^2 ||O||_F^2 / 2, and ||O||_F^2 <= r. Where ||grad f(X) - grad f(Y)||_*
    <= L_* ||X - Y||_2, the same with ||O||_2^2 = 1, by the duality of the two norms.

    Here f(X) = tr X^T A X B / 2, with gradient A X B. L is the largest eigenvalue of A (x) B, a_1
    b_1. L_* = max <Z, A X B> over ||X||_2, ||Z||_2 <= 1; singular values of a product are weakly
    majorised by the products of those of its factors (Horn), so it is at most sum_i a_i b_i, both
    descending, i up to min(m, n); the X = Z that take the eigenvectors of B to those of A have it.
    Both are the least constants there are.

    Q is taken from the singular vectors of the step, the two losses from the two points. Of any
    optimiser of matrices the bound at full rank is asked, where ||Q^T G||_* is ||G||_*.
    """
    return _descent(setting, FULL, setting.subject)


def control_half_smooth(setting: Setting) -> Evidence:
    """L and L_* halved: smoother than f is."""
    return _descent(setting, HALF)


CLAIMS = (
    Claim(
        id="low-rank.descent",
        paper="low-rank",
        title="What a step is worth: the nuclear norm it keeps, less a half of its own smoothness",
        statement=(
            r"$f(X^+) \le f(X) - \eta \|Q^\top G\|_* + \frac{\eta^2}{2} \min(L r, L_*)$, with $L$ "
            r"the smoothness in the Frobenius norm and $L_*$ from the spectral to the nuclear norm."
        ),
        reference=f"{REFERENCE}, the algorithm; the constants are derived",
        source="derived",
        setup=f"{M} x {N} quadratics tr X^T A X B / 2, conditions of A and B up to 100 each, "
        "Gaussian X, rates over two decades, r = 1, 3, 12, three sketches, one step of "
        "LowRankMSGD; full rank for a --subject",
        criterion="no step above either bound by more than round-off",
        check=check_descent,
        subject="matrices",
        devices=DEVICES,
        controls={"half of the smoothness": control_half_smooth},
        tiers={
            "quick": {"members": 300, "ranks": (1, 3, 12)},
            "full": {"members": 3000},
        },
    ),
)
