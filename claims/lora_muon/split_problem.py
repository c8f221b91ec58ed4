"""The split trust region: LoRA-Muon's update solves it; what its step is in W, and what not."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from claims.lora_muon.matrices import (
    REFERENCE,
    M,
    Make,
    N,
    R,
    pair_and_gradient,
    polar_factor,
    relative,
    spectral_norm,
    stepped,
)
from claims.measuring.draws import gaussian_there
from claims.registry import DEVICES, ROUNDS_IN, Claim, Evidence, Measurement, Setting, Verdict
from geometry.gauge import Pair
from geometry.lora import split_direction
from geometry.polar import msign
from geometry.tangent_lmo import tangent_lmo
from simulate.optimizers import FactorMuon, LoRAMuon, Spectron

PAPER = "lora-muon"
# Steps of the size of the factors: their difference before and after then loses no digits.
ETA = 10.0
# Of gradients with a few large directions, how large the others are.
SMALL = (1e-3, 1e-9)
PER_FACTOR = partial(FactorMuon, momentum=0.0)


def _moves(before: Pair, after: Pair) -> Pair:
    return after[0] - before[0], after[1] - before[1]


def _projectors(B: Tensor, A: Tensor) -> Pair:
    """The orthogonal projectors on the columns of B and on the rows of A."""
    Q, L = torch.linalg.qr(B).Q, torch.linalg.qr(A.mT).Q
    return Q @ Q.mT, L @ L.mT


def _halves(make: Make, pair: Pair, G: Tensor) -> Pair:
    """Both halves of the step in W, dB A and B dA."""
    dB, dA = _moves(pair, stepped(make, pair, [G], lr=ETA))
    return dB @ pair[1], pair[0] @ dA


def _few_large(setting: Setting, small: float) -> Tensor:
    """Gradients (seeds, m, n) with R / 2 large directions: their halves have both sizes.

    Of a Gaussian matrix the halves' singular values are within a factor of two.
    """
    X, Y = (
        gaussian_there(setting, M, R // 2, stream=7),
        gaussian_there(setting, R // 2, N, stream=8),
    )
    return X @ Y + small * gaussian_there(setting, M, N, stream=3)


def _solves(setting: Setting, per_factor: bool) -> Evidence:
    make = PER_FACTOR if per_factor else setting.optimizer(LoRAMuon, momentum=0.0)
    (B, A), even = pair_and_gradient(setting)
    left, right = _projectors(B, A)
    sizes, shortfalls, wholes = [], [], []
    for G in (even, *(_few_large(setting, small) for small in SMALL)):
        halves = _halves(make, (B, A), G)
        if per_factor:
            # Brought into the trust region, so that its value can be compared.
            dB_A, B_dA = (X * (ETA / 2 / spectral_norm(X))[:, None, None] for X in halves)
            halves = dB_A, B_dA
        sizes += [spectral_norm(half) / (ETA / 2) for half in halves]
        best = sum(torch.linalg.svdvals(X).sum(-1) for X in (G @ right, left @ G))
        value = (G * (halves[0] + halves[1])).sum((-2, -1))
        shortfalls.append(1 + value / (ETA / 2 * best))
        wholes.append(spectral_norm(halves[0] + halves[1]) / ETA)
    shortfall, whole = torch.stack(shortfalls), torch.stack(wholes)
    return Evidence(
        (
            Measurement(
                "largest | ||half|| / (eta / 2) - 1 |",
                float((torch.stack(sizes) - 1).abs().max()), "<=", 1e-10,
            ),
            Measurement(
                "largest distance from the dual bound, relative",
                float(shortfall.abs().max()), "<=", 1e-10,
            ),
            Measurement("largest ||dW|| / eta, first order", float(whole.max()), "<=", 1.0),
        ),
        {"whole": whole.cpu().numpy(), "shortfall": shortfall.cpu().numpy()},
        (f"||dW|| / eta is {float(whole.mean()):.2f} on average",),
    )  # fmt: skip


def check_solves(setting: Setting) -> Evidence:
    r"""The optimum by duality: no feasible step has a smaller value than the step has.

    For ||dB A|| <= eta/2, <G_B, dB> = <G, dB A> = <G Pi_A, dB A> >= -(eta/2) ||G Pi_A||_*, Pi_A the
    projector on the rows of A; B dA likewise. The bound is taken of the dense projected gradient,
    without an inverse root. Both halves lie on the boundary, and the whole is inside eta. So it is
    for gradients with a few large directions, whose small ones count as well.
    """
    return _solves(setting, per_factor=False)


def control_per_factor(setting: Setting) -> Evidence:
    """Muon on each factor, scaled to the boundary of the trust region."""
    return _solves(setting, per_factor=True)


def _projector_form(setting: Setting, swapped: bool) -> Evidence:
    (B, A), G = pair_and_gradient(setting)
    halves = _halves(setting.optimizer(LoRAMuon, momentum=0.0), (B, A), G)
    left, right = _projectors(B, A)
    expected = (left @ G, G @ right) if swapped else (G @ right, left @ G)
    errors = [
        relative(half, -ETA / 2 * polar_factor(X, R))
        for half, X in zip(halves, expected, strict=True)
    ]
    return Evidence((Measurement("relative error of the halves", np.max(errors), "<=", 1e-13),))


def check_projector_form(setting: Setting) -> Evidence:
    """dB A = -(eta/2) msign(G Pi_A) and B dA = -(eta/2) msign(Pi_B G).

    G_B R_A R_A = G A^T (A A^T)^-1, and R_A A has orthonormal rows, so msign(G_B R_A) R_A A is the
    polar factor of G A^T R_A R_A A = G Pi_A.
    """
    return _projector_form(setting, swapped=False)


def control_swapped(setting: Setting) -> Evidence:
    """The projectors exchanged."""
    return _projector_form(setting, swapped=True)


def _dense(setting: Setting, m: int) -> Evidence:
    n = setting["size"]
    (B, A), G = pair_and_gradient(setting, m, n, n)
    halves = _halves(partial(LoRAMuon, momentum=0.0), (B, A), G)
    error = relative(halves[0] + halves[1], -ETA * polar_factor(G, n))
    condition = float(torch.maximum(torch.linalg.cond(B), torch.linalg.cond(A)).max())
    u = torch.finfo(torch.float64).eps / 2
    return Evidence(
        (Measurement("error over u times the factors' condition", error / (u * condition), "<=",
                     8.0 * n),)
    )  # fmt: skip


def check_dense_limit(setting: Setting) -> Evidence:
    """At r = m = n both projectors are the identity: the step is -eta msign(G), Muon's own.

    Round-off grows with the condition of the Gaussian factors, about n; the bound allows for 8 n
    roundings.
    """
    return _dense(setting, setting["size"])


def control_tall(setting: Setting) -> Evidence:
    """r = n < m: the projector on the columns of B is not the identity."""
    return _dense(setting, 2 * setting["size"])


def _remainder(setting: Setting, spectron: bool) -> Evidence:
    pair, G = pair_and_gradient(setting)
    make, options = (Spectron, {"orthogonalizer": "svd"}) if spectron else (LoRAMuon, {})
    dB, dA = _moves(pair, stepped(make, pair, [G], lr=ETA, momentum=0.0, **options))
    smallest = torch.linalg.svdvals(pair[0] @ pair[1])[:, R - 1]
    ratio = spectral_norm(dB @ dA) * 4 * smallest / ETA**2
    return Evidence(
        (Measurement("largest | ratio - 1 |", float((ratio - 1).abs().max()), "<=", 1e-11),),
        {"ratio": ratio.cpu().numpy()},
    )


def check_remainder(setting: Setting) -> Evidence:
    """dB dA = (eta/2)^2 O_1 R_A R_B O_2 with O_1, O_2 of orthonormal columns and rows.

    ||R_A R_B|| = 1 / s_r(W), for R_A R_B has the singular values of (B A)'s pseudo-inverse: with
    A = R_A^-1 L and B = Q R_B^-1, B A = Q R_B^-1 R_A^-1 L. Round-off is that of the difference of
    factors before and after: u ||B|| / ||dB||, about 1e-12 here.
    """
    return _remainder(setting, spectron=False)


def control_spectron(setting: Setting) -> Evidence:
    """Spectron, whose remainder is rho^2."""
    return _remainder(setting, spectron=True)


def _decay(setting: Setting, per_factor: bool) -> Evidence:
    pair, G = pair_and_gradient(setting)
    decay, eta = 0.7, 0.5
    left = 1 - decay * eta
    step = partial(stepped, LoRAMuon, pair, [G], lr=eta, momentum=0.0)
    (B, A), (dB, dA) = pair, _moves(pair, step())
    new_B, new_A = (left * B + dB, left * A + dA) if per_factor else step(weight_decay=decay)
    expected = left * B @ A + dB @ A + B @ dA + dB @ dA / left
    return Evidence(
        (Measurement("relative error of W", relative(new_B @ new_A, expected), "<=", 1e-13),)
    )


def check_decay(setting: Setting) -> Evidence:
    """With s^2 = 1 - lambda eta: (s B + dB / s)(s A + dA / s) = s^2 W + dB A + B dA + dB dA / s^2.

    Every term is the same in every gauge. dB and dA are those of the step without decay.
    """
    return _decay(setting, per_factor=False)


def control_decay_per_factor(setting: Setting) -> Evidence:
    """Decoupled decay of each factor: W decays by (1 - lambda eta)^2."""
    return _decay(setting, per_factor=True)


def _in_tangent(left: Tensor, right: Tensor, X: Tensor) -> Tensor:
    """X projected on the tangent space, from the projectors on columns and rows."""
    return left @ X + X @ right - left @ X @ right


def _decrease(G: Tensor, Z: Tensor) -> Tensor:
    """<G, Z> of Z brought to unit spectral norm."""
    decrease: Tensor = (G * Z).sum((-2, -1)) / spectral_norm(Z)
    return decrease


def _against_tangent(setting: Setting, ranks: tuple[int, ...]) -> Evidence:
    n, gaps = 24, []
    as_it_is, at_unit, projected = [], [], []
    for r in ranks:
        (B, A), G = pair_and_gradient(setting, n, n, r)
        oracle = tangent_lmo(B, A, G)
        D_B, D_A = split_direction(B, A, G @ A.mT, B.mT @ G)
        step = (D_B @ A + B @ D_A) / 2
        in_tangent = partial(_in_tangent, *_projectors(B, A))
        other = in_tangent(msign(in_tangent(G)))
        # What the oracle says of its point is not taken on trust.
        best = _decrease(G, in_tangent(oracle.Z))
        as_it_is.append((G * step).sum((-2, -1)) / best)
        at_unit.append(_decrease(G, step) / best)
        projected.append(_decrease(G, other) / best)
        gaps.append(((oracle.upper - best) / oracle.upper).max())
    shares = {
        "split": torch.stack(as_it_is),
        "unit": torch.stack(at_unit),
        "projected": torch.stack(projected),
    }
    means = {name: share.mean(-1) for name, share in shares.items()}
    low, at = float(means["unit"].min()), ranks[int(means["unit"].argmin())]
    return Evidence(
        (
            Measurement("lowest share of the optimum, at unit norm", low, "<=", 0.97),
            Measurement("share of the optimum, as it is", float(means["split"].min()), "<=",
                        0.97),
            Measurement("largest gap of the optimum's bounds", float(torch.stack(gaps).max()),
                        "<=", 0.01),
        ),
        {
            "ranks": torch.tensor(ranks).numpy(),
            **{name: share.cpu().numpy() for name, share in shares.items()},
        },
        (
            "shares of the optimum over r = "
            + ", ".join(f"{r}: {float(x):.2f}" for r, x in zip(ranks, means["split"], strict=True)),
            f"projected polar factor: at least {float(means['projected'].min()):.2f}",
        ),
        counterexample=(
            f"24 x 24, r = {at}: rescaled to unit spectral norm the split step attains "
            f"{low:.2f} of the best linear decrease in the tangent space"
        ),
    )  # fmt: skip


def check_tangent(setting: Setting) -> Evidence:
    """The linear minimisation oracle over the whole tangent space does better than the split.

    The split bounds dB A and B dA apart; steepest descent in the spectral norm would bound their
    sum. The optimum over the tangent space is known between a feasible point and a dual bound,
    and the split step, rescaled to the same spectral norm, is beneath it at every rank below n.
    """
    return _against_tangent(setting, (1, 2, 4, 8, 16))


def control_full_rank(setting: Setting) -> Evidence:
    """r = n, where the split step is Muon's and optimal."""
    return _against_tangent(setting, (24,))


_SETUP = f"Gaussian factors and gradient, {M} x {N}, r = {R}, float64"

CLAIMS = (
    Claim(
        id="lora-muon.solves-split",
        paper=PAPER,
        title="The update solves the split trust region",
        statement=(
            r"The step minimises $\langle G, dB\,A + B\,dA\rangle$ over $\|dB\,A\|_2, \|B\,dA\|_2 "
            r"\le \eta/2$; its value is $-\frac{\eta}{2}(\|G_B R_A\|_* + \|R_B G_A\|_*)$, each "
            r"half has norm $\eta/2$, and $\|dW\|_2 \le \eta$."
        ),
        reference=REFERENCE,
        source="paper",
        setup=f"{_SETUP}, eta = {ETA}",
        criterion="norms and value to 1e-10; ||dW|| at most eta",
        check=check_solves,
        devices=DEVICES,
        subject="pairs",
        controls={"Muon on each factor": control_per_factor},
        tiers={"quick": {"seeds": 16}, "full": {"seeds": 256}},
    ),
    Claim(
        id="lora-muon.projector-form",
        paper=PAPER,
        title="The step in W is made of projected gradients",
        statement=(
            r"$dW = -\frac{\eta}{2}\,\mathrm{msign}(G\,\Pi_A) - \frac{\eta}{2}\,"
            r"\mathrm{msign}(\Pi_B\,G)$ with the projectors on the rows of $A$ and the columns of "
            r"$B$."
        ),
        reference=f"{REFERENCE}, Proposition 1",
        source="paper",
        setup=f"{_SETUP}, eta = {ETA}",
        criterion="each half to 1e-13",
        check=check_projector_form,
        devices=DEVICES,
        subject="pairs",
        controls={"projectors exchanged": control_swapped},
        tiers={"quick": {"seeds": 16}, "full": {"seeds": 256}},
    ),
    Claim(
        id="lora-muon.dense-limit",
        paper=PAPER,
        title="At full rank LoRA-Muon is Muon",
        statement=r"At $r = m = n$ the step in $W$ is $-\eta\,\mathrm{msign}(G)$, to first order.",
        reference=REFERENCE,
        source="derived",
        setup="Gaussian square factors, 24 x 24 (quick), 96 x 96 (full), float64",
        criterion="relative error at most 8 n u times the factors' condition number",
        check=check_dense_limit,
        devices=DEVICES,
        controls={"r = n < m": control_tall},
        tiers={"quick": {"seeds": 16, "size": 24}, "full": {"seeds": 64, "size": 96}},
    ),
    Claim(
        id="lora-muon.second-order",
        paper=PAPER,
        title="How far a step is from its linearisation",
        statement=r"$\|dB\,dA\|_2 = \eta^2 / (4\,\sigma_r(W))$.",
        reference=REFERENCE,
        source="derived",
        setup=f"{_SETUP}, eta = {ETA}",
        criterion="to 1e-11, the round-off of dB as a difference of factors",
        check=check_remainder,
        devices=DEVICES,
        controls={"Spectron": control_spectron},
        tiers={"quick": {"seeds": 16}, "full": {"seeds": 256}},
    ),
    Claim(
        id="lora-muon.split-decay",
        paper=PAPER,
        title="Split weight decay decays the product once",
        statement=(r"$W^+ = (1 - \lambda\eta) W + dB\,A + B\,dA + (1 - \lambda\eta)^{-1} dB\,dA$."),
        reference=f"{REFERENCE}, Proposition 4",
        source="paper",
        setup=f"{_SETUP}, eta = .5, lambda = .7",
        criterion="to 1e-13",
        check=check_decay,
        devices=DEVICES,
        controls={"decay of each factor": control_decay_per_factor},
        tiers={"quick": {"seeds": 16}, "full": {"seeds": 256}},
    ),
    Claim(
        id="lora-muon.split-is-not-tangent-optimum",
        paper=PAPER,
        title="The split step is not steepest descent in the tangent space",
        statement=(
            r"Read without the split, 'spectral steepest descent on the low-rank manifold': the "
            r"step maximises the linear decrease over $\{Z \in T_W : \|Z\|_2 \le \eta\}$."
        ),
        reference=REFERENCE,
        source="derived",
        setup="Gaussian factors and gradient, 24 x 24, r = 1, 2, 4, 8, 16",
        criterion="a share below .97 of the optimum, which is known to 1%",
        expected=Verdict.REFUTED,
        check=check_tangent,
        devices=DEVICES,
        dtypes=ROUNDS_IN,
        controls={"r = n": control_full_rank},
        tiers={"quick": {"seeds": 8}, "full": {"seeds": 64}},
    ),
)
