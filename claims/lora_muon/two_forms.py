"""Gram form and QR form of LoRA-Muon's step: one and the same, and what each loses to round-off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from claims.lora_muon.matrices import (
    REFERENCE,
    M,
    Make,
    N,
    R,
    noisy_quadratic,
    polar_factor,
    relative,
    relatives,
    trained,
)
from claims.measuring.draws import gaussian_there
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from geometry.gauge import Pair
from geometry.inverse_root import inverse_root
from geometry.lora import split_direction, split_direction_by_gram, split_direction_by_qr
from simulate.optimizers import LoRAMuon, LoRARite, LoRARiteCore
from simulate.tasks import NoisyQuadratic

Form = Callable[[Tensor, Tensor, Tensor, Tensor], Pair]

# By what a step may be off: u times the condition of the factors, or times its square.
QR, OF_FACTOR, OF_GRAM = "QR form", "root of the factor", "root of the Gram matrix"
# What the optimiser runs below float64.
WIDER = "Gram matrices in float64"
FORMS: Mapping[str, Form] = {
    QR: split_direction_by_qr,
    OF_FACTOR: split_direction,
    OF_GRAM: partial(split_direction, root=partial(inverse_root, method="eigh")),
    WIDER: split_direction_by_gram,
}
ORDERS = {QR: 1, OF_FACTOR: 1, OF_GRAM: 2, WIDER: 1}
GRAM = "Gram form"
RATE, MOMENTUM = 0.5, 0.9
U = torch.finfo(torch.float64).eps / 2
# Of gauges, as powers of two; up to where factors of small integers stay exact in the dtype.
EXPONENTS = {torch.float64: range(0, 27, 2), torch.float32: range(0, 13, 2)}


def integers(setting: Setting, *shape: int, stream: int) -> Tensor:
    """Gaussian entries of deviation 4, (seeds, *shape), rounded to integers."""
    return (4 * gaussian_there(setting, *shape, stream=stream)).round()


def exact_gauge(setting: Setting, exponent: int) -> tuple[Tensor, Tensor]:
    """C = H D K / 8 and its inverse, (seeds, 8, 8), of condition 2^exponent, without rounding.

    H and K are Hadamard matrices with random signs of their rows, H H^T = 8 I, and D has powers of
    two: products with small integers are sums of integers over a power of two.
    """
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    while len(hadamard) < R:
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1),
                              torch.cat([hadamard, -hadamard], 1)])  # fmt: skip
    signs = [gaussian_there(setting, R, 1, stream=stream).sign() for stream in (14, 15)]
    H, K = (sign * hadamard.to(sign) for sign in signs)
    powers = torch.linspace(0, exponent, R, dtype=torch.float64).round().to(H)
    return (H * 2.0**-powers) @ K / R, K.mT @ (2.0 ** powers[:, None] * H.mT) / R


def written_out(B: Tensor, A: Tensor, G_B: Tensor, G_A: Tensor) -> Pair:
    """msign(G_B T^-1) T^-T, and its like for A, by QR and SVD: what the forms are held to."""

    def core(G: Tensor, other: Tensor) -> Tensor:
        inverse = torch.linalg.inv(torch.linalg.qr(other).R)
        return polar_factor(G @ inverse, R) @ inverse.mT

    return core(G_B, A.mT), core(G_A.mT, B).mT


def moved(form: Form, pair: Pair, gradients: Pair) -> Tensor:
    """D_B A + B D_A, multiplied out in float64."""
    D_B, D_A = (x.double() for x in form(*pair, *gradients))
    B, A = (x.double() for x in pair)
    return D_B @ A + B @ D_A


def _losses(setting: Setting, forms: Mapping[str, Form]) -> Evidence:
    """How far the moves in an ill-conditioned gauge are from those in the first, of condition 2."""
    pair = integers(setting, M, R, stream=10), integers(setting, R, N, stream=11)
    gradients = integers(setting, M, R, stream=12), integers(setting, R, N, stream=13)
    reference = moved(written_out, pair, gradients)
    measurements, arrays = [], {}
    for dtype, exponents in EXPONENTS.items():
        u, kind = torch.finfo(dtype).eps / 2, str(dtype).removeprefix("torch.")
        # In float64 the last form is the one before it.
        tried = {name: form for name, form in forms.items() if name != WIDER or u > U}
        errors: dict[str, list[Tensor]] = {name: [] for name in tried}
        conditions = []
        for exponent in exponents:
            C, inverse = exact_gauge(setting, exponent)
            B, A = pair[0] @ C, inverse @ pair[1]
            G_B, G_A = gradients[0] @ inverse.mT, C.mT @ gradients[1]
            conditions.append(torch.maximum(torch.linalg.cond(B), torch.linalg.cond(A)))
            B, A, G_B, G_A = (x.to(dtype) for x in (B, A, G_B, G_A))
            for name, form in tried.items():
                errors[name].append(relatives(moved(form, (B, A), (G_B, G_A)), reference))
        condition = torch.stack(conditions)
        for name, found in errors.items():
            error, order = torch.stack(found), ORDERS[name]
            power = "condition" if order == 1 else f"condition^{order}"
            measurements.append(
                Measurement(
                    f"error over u {power}, {name}, {kind}",
                    float((error / (u * condition**order)).max()), "<=", 4.0 * R,
                )
            )  # fmt: skip
            arrays[f"{name}, {kind}"] = error.cpu().numpy()
        arrays[f"condition, {kind}"] = condition.median(-1).values.cpu().numpy()
    return Evidence(tuple(measurements), arrays)


def _run(pair: Pair, task: NoisyQuadratic, steps: int) -> Tensor:
    """The product after a run by the formula, with first moments of both factors."""
    B, A = pair
    m_B, m_A = torch.zeros_like(B), torch.zeros_like(A)
    for step in range(steps):
        G = task.gradient(B @ A, step)
        m_B = MOMENTUM * m_B + (1 - MOMENTUM) * (G @ A.mT)
        m_A = MOMENTUM * m_A + (1 - MOMENTUM) * (B.mT @ G)
        D_B, D_A = written_out(B, A, m_B, m_A)
        B, A = B - RATE / 2 * D_B, A - RATE / 2 * D_A
    return B @ A


def _qr_and_gram(setting: Setting, optimizers: Mapping[str, Make]) -> tuple[Measurement, ...]:
    """How far runs of the optimisers are from that by the formula."""
    pair, task = noisy_quadratic(setting)
    measurements = []
    for count in (1, setting["steps"]):
        reference, bound = _run(pair, task, count), 100 * R * count * U
        measurements += [
            Measurement(
                f"difference after {count} steps, {name}",
                relative(trained(make, pair, task, count, lr=RATE), reference), "<=", bound,
            )
            for name, make in optimizers.items()
        ]  # fmt: skip
    return tuple(measurements)


def check_forms(setting: Setting) -> Evidence:
    """A^T = U T gives T^T T = A A^T, so T^-1 = R_A O for an orthogonal O.

    msign(m T^-1) T^-T = msign(m R_A O) O^T R_A = msign(m R_A) R_A.

    In floating point T and the singular values of A are off by u ||A||, its smallest ones by
    u cond of themselves, and so are the step's halves msign(m T^-1) T^-T A, of norm 1. A A^T is off
    by u ||A||^2, its smallest eigenvalues by u cond^2. 4 r roundings at most, as for the gauge.

    The error is that of the move of W from factors of integers, regauged without rounding to a
    condition of up to 2^26 in float64 and 2^12 in float32: W moves as from the first ones. Gram
    matrices in float64 of factors in float32 lose u_64 cond^2, less than u_32 cond for conditions
    below u_32 / u_64 = 2^29.

    Neither form is held to the other: both are to the formula, written out here.
    """
    losses = _losses(setting, FORMS)
    runs = _qr_and_gram(setting, {GRAM: LoRAMuon, QR: LoRARiteCore})
    return Evidence(runs + losses.measurements, losses.arrays)


def control_full_lora_rite(setting: Setting) -> Evidence:
    """LoRA-RITE with second moments, betas .9 and .999."""
    return Evidence(_qr_and_gram(setting, {QR: LoRARite}))


def control_gram(setting: Setting) -> Evidence:
    """The root of the Gram matrix where the root of the factor is claimed."""
    return _losses(setting, {OF_FACTOR: FORMS[OF_GRAM]})


CLAIMS = (
    Claim(
        id="lora-muon.qr-equals-gram",
        paper="lora-muon",
        title="LoRA-RITE's core is LoRA-Muon in QR coordinates",
        statement=(
            r"$\mathrm{msign}(m T^{-1}) T^{-\top} = \mathrm{msign}(m R_A) R_A$ for $A^\top = UT$: "
            r"one step and 50. Round-off costs either $u\,\kappa$ of a step if $R_A$ is the root "
            r"of the factor, and $u\,\kappa^2$ if it is that of $AA^\top$."
        ),
        reference=f"{REFERENCE}, Proposition 6",
        source="paper",
        setup=f"Gaussian factors and gradient, {M} x {N}, r = {R}, noisy quadratic, momentum .9, "
        "float64; integer factors in gauges of condition 1 to 2^26, float32 to 2^12",
        criterion="difference of W from runs by the formula at most 100 r u a step; error of a "
        "step at most 4 r u times the factors' condition, or its square",
        check=check_forms,
        devices=DEVICES,
        dtypes=(),
        controls={
            "LoRA-RITE with second moments": control_full_lora_rite,
            "root of the Gram matrix": control_gram,
        },
        tiers={"quick": {"seeds": 4, "steps": 50}, "full": {"seeds": 32, "steps": 50}},
    ),
)
