"""How large a step is, whatever the rank and from the zero start; and what it keeps and makes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from claims.lora_muon.gauges import AbsolutelyDamped
from claims.lora_muon.matrices import (
    REFERENCE,
    M,
    Make,
    N,
    R,
    factors_of,
    give,
    pair_and_gradient,
    signs,
    spectral_norm,
    stepped,
)
from claims.measuring.draws import gaussian_there
from claims.registry import DEVICES, ROUNDS_IN, Claim, Evidence, Measurement, Setting
from geometry.gauge import Pair
from simulate.optimizers import FactorMuon, LoRAMuon, LoRARite, LoRARiteCore
from simulate.optimizers.pair_optimizer import Batch
from simulate.step_costs import Trace, numbers_kept

PAPER = "lora-muon"
ETA = 0.1


def _sizes(setting: Setting, make: Make, **options: Any) -> Evidence:
    size, ranks, found = setting["size"], setting["ranks"], []
    for r in ranks:
        (B, A), G = pair_and_gradient(setting, size, size, r)
        # Factors of about unit norm at rank 1.
        pair = B / size**0.5, A / size**0.5
        dB, dA = (
            after - before
            for after, before in zip(stepped(make, pair, [G], lr=ETA, **options), pair, strict=True)
        )
        found.append(spectral_norm(dB @ pair[1] + pair[0] @ dA) / ETA)
    sizes = torch.stack(found)
    return Evidence(
        (
            Measurement("smallest ||dW|| / eta", float(sizes.min()), ">=", 0.5),
            # At full rank both halves are one, and the bound is attained.
            Measurement("largest ||dW|| / eta", float(sizes.max()), "<=", 1 + 1e-10),
        ),
        {"ranks": torch.tensor(ranks).numpy(), "sizes": sizes.cpu().numpy()},
        (f"from {float(sizes[0].mean()):.2f} at r = {ranks[0]} to "
         f"{float(sizes[-1].mean()):.2f} at r = {ranks[-1]}",),
    )  # fmt: skip


def check_sizes(setting: Setting) -> Evidence:
    """Each half has norm eta / 2: their sum at most eta, and at least that of either half.

    The halves share no less than Pi_B (dB A) (1 - Pi_A) = 0 and (1 - Pi_B) dB A, which the other
    half cannot cancel where m > r.
    """
    return _sizes(setting, setting.optimizer(LoRAMuon, momentum=0.0))


def control_factor_muon(setting: Setting) -> Evidence:
    """Muon on each factor at the same rate: the step grows with the factors' norms."""
    return _sizes(setting, FactorMuon, momentum=0.0)


def control_signs(setting: Setting) -> Evidence:
    """Descent along signs, whose norm grows with the size."""
    return _sizes(setting, signs)


RATES = (0.1, 0.01, 0.001)


def _kick(setting: Setting, make: Make, zero: bool) -> Evidence:
    pair, _ = pair_and_gradient(setting)
    B0 = torch.zeros_like(pair[0]) if zero else pair[0]
    gradients = [gaussian_there(setting, M, N, stream=100 + step) for step in range(6)]
    measurements, shares, remarks = [], [], []
    for eta in RATES:
        B, A = nn.Parameter(B0.clone()), nn.Parameter(pair[1].clone())
        optimizer = make([(B, A)], lr=eta)
        ratios: list[Tensor] = []
        for step, G in enumerate(gradients):
            before = A.detach().clone()
            give(B, A, G)
            optimizer.step()
            if step == 0:
                first = spectral_norm((B - B0).detach() @ before) / (eta / 2)
            norm = torch.linalg.matrix_norm
            ratios.append(norm(A.detach() - before) / norm(before))
        shares.append(torch.stack(ratios))
        measurements += [
            Measurement(
                f"largest | ||dB A|| / (eta / 2) - 1 | of the first step, eta = {eta:g}",
                float((first - 1).abs().max()), "<=", 1e-6,
            ),
            Measurement(
                f"largest | ||dA|| / ||A|| - 1 | of the second step, eta = {eta:g}",
                float((ratios[1] - 1).abs().max()), "<=", 1e-6,
            ),
        ]  # fmt: skip
        means = ", ".join(f"{float(x.mean()):.2f}" for x in ratios)
        remarks.append(f"eta = {eta:g}: ||dA|| / ||A|| is {means} over the first steps")
    arrays = {"rates": torch.tensor(RATES).double(), "shares": torch.stack(shares)}
    return Evidence(
        tuple(measurements), {name: x.cpu().numpy() for name, x in arrays.items()}, tuple(remarks)
    )


def check_kick(setting: Setting) -> Evidence:
    """After one step B = -(eta/2) O R_A with O of orthonormal columns, so R_B = (2/eta) R_A^-1.

    The second step of A is (eta/2) R_B msign(R_B G_A): (A A^T)^(1/2) times orthonormal rows, of the
    norm of A whatever eta is. Momentum changes the direction alone.
    """
    return _kick(setting, LoRAMuon, zero=True)


def control_balanced(setting: Setting) -> Evidence:
    """A start with both factors Gaussian: the share is in proportion to eta."""
    return _kick(setting, LoRAMuon, zero=False)


def control_damped(setting: Setting) -> Evidence:
    """An absolute damping of 1e-2, beside which B's Gram matrix is nothing."""
    return _kick(setting, partial(AbsolutelyDamped, amount=1e-2), zero=True)


def _kept(setting: Setting, make: Make) -> Evidence:
    m, n, r = setting["shape"]
    generator = torch.Generator().manual_seed(setting.seed)
    B, A, G_B, G_A = (
        torch.randn(shape, generator=generator).to(setting.device, setting.dtype(torch.float32))
        for shape in ((m, r), (r, n), (m, r), (r, n))
    )
    pair = nn.Parameter(B), nn.Parameter(A)
    pair[0].grad, pair[1].grad = G_B, G_A
    optimizer = make([pair])
    optimizer.step()
    kept = numbers_kept(optimizer)
    with Trace() as seen:
        optimizer.step()
    factorised = sum(count for name, count in seen.operations.items() if "linalg_qr" in name)
    return Evidence(
        (
            Measurement("numbers kept over (m + n) r", kept / ((m + n) * r), "<=", 1.0),
            Measurement(
                "largest tensor made over max(m, n) r", seen.largest / (max(m, n) * r), "<=", 1.0
            ),
            Measurement("QR factorisations", factorised, "<=", 0),
        ),
        remarks=("operations: " + ", ".join(sorted(seen.operations)),),
    )


def check_kept(setting: Setting) -> Evidence:
    """The state is one first moment a factor; every operation of a step is looked at."""
    own = partial(LoRAMuon, orthogonalizer="lora_muon", root="newton_schulz")
    return _kept(setting, own)


def control_lora_rite(setting: Setting) -> Evidence:
    """LoRA-RITE, with second moments and QR."""
    return _kept(setting, LoRARite)


def control_core(setting: Setting) -> Evidence:
    """LoRA-RITE's core, which keeps as much and makes nothing larger, by QR."""
    return _kept(setting, LoRARiteCore)


class _MultipliedOut(LoRAMuon):
    """LoRA-Muon that forms the product."""

    def direction(self, batch: Batch, moments: Pair) -> Pair:
        B, A = batch.factors
        torch.matmul(B, A)
        return super().direction(batch, moments)


def control_multiplied_out(setting: Setting) -> Evidence:
    """The same step with B A formed once on the way: no more is kept."""
    return _kept(setting, _MultipliedOut)


def _adamw(pairs: list[Pair]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(factors_of(pairs))


def control_adamw(setting: Setting) -> Evidence:
    """AdamW, with two moments a number."""
    return _kept(setting, _adamw)


CLAIMS = (
    Claim(
        id="lora-muon.rank-step-scale",
        paper=PAPER,
        title="The step in W is as large at every rank",
        statement=r"$\|dW\|_2 / \eta \in [\frac12, 1]$ to first order, from $r = 1$ to $r = n$.",
        reference=REFERENCE,
        source="derived",
        setup="Gaussian factors over the root of the size, 128 x 128, r = 1 to 128",
        criterion="every member inside the band",
        check=check_sizes,
        devices=DEVICES,
        subject="pairs",
        controls={"Muon on each factor": control_factor_muon, "signs": control_signs},
        tiers={
            "quick": {"seeds": 4, "size": 128, "ranks": (1, 2, 4, 8, 16, 32, 64, 128)},
            "full": {"seeds": 32},
        },
    ),
    Claim(
        id="lora-muon.zero-init-kick",
        paper=PAPER,
        title="From the zero start, the second step moves A by its own size",
        statement=(
            r"From $B = 0$, without damping, $\|W\|_2 = \eta/2$ after the first step, and "
            r"$\|dA\|_F = \|A\|_F$ in the second, whatever $\eta$ is."
        ),
        reference=REFERENCE,
        source="derived",
        setup=f"A Gaussian, gradients Gaussian, {M} x {N}, r = {R}, eta = .1, .01, .001",
        criterion="both ratios 1 to 1e-6",
        check=check_kick,
        devices=DEVICES,
        controls={"Gaussian start": control_balanced, "absolute damping": control_damped},
        tiers={"quick": {"seeds": 16}, "full": {"seeds": 256}},
    ),
    Claim(
        id="lora-muon.no-second-moments",
        paper=PAPER,
        title="First moments are all that is kept, and nothing is m x n",
        statement=(
            r"The state is $(m + n) r$ numbers a pair; a step makes no tensor larger than a factor "
            r"and needs no QR."
        ),
        reference=REFERENCE,
        source="paper",
        setup="4096 x 4096, r = 16, float32, the paper's own numerics; every operation traced",
        criterion="counted",
        check=check_kept,
        devices=DEVICES,
        dtypes=ROUNDS_IN,
        controls={
            "LoRA-RITE": control_lora_rite,
            "LoRA-RITE's core": control_core,
            "product formed": control_multiplied_out,
            "AdamW": control_adamw,
        },
        tiers={"quick": {"shape": (4096, 4096, 16)}},
    ),
)
