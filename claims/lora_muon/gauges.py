"""Gauge covariance: what a step does to the product, whatever its factorisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from claims.lora_muon.matrices import (
    REFERENCE,
    M,
    Make,
    N,
    R,
    noisy_quadratic,
    pair_and_gradient,
    relative,
    relatives,
    signs,
    stepped,
)
from claims.measuring.draws import gauge_there, orthonormal_there
from claims.registry import DEVICES, ROUNDS_IN, Claim, Evidence, Measurement, Setting
from geometry.gauge import Pair, regauged, regauged_gradients
from geometry.lora import split_direction
from simulate.optimizers import FactorMuon, LoRAMuon, Spectron
from simulate.optimizers.pair_optimizer import Batch
from simulate.tasks import NoisyQuadratic

PAPER = "lora-muon"
Gauges = Mapping[str, tuple[Tensor, float]]


def gauges(setting: Setting) -> Gauges:
    """The changes of gauge, (seeds, r, r), with their condition numbers."""
    turned = orthonormal_there(setting, R, R, stream=6)
    one = torch.eye(R).to(turned).expand_as(turned)
    return {
        "c = 9": (9.0 * one, 1.0),
        "c = 1000": (1000.0 * one, 1.0),
        "orthogonal": (turned, 1.0),
        **{
            f"condition {condition}": (gauge_there(setting, R, condition, top=0.0), condition)
            for condition in (10, 100, 1000)
        },
    }


def _named(setting: Setting) -> dict[str, NDArray[Any]]:
    """Names and conditions of the gauges: what arrays by gauge are to be read with."""
    drawn = gauges(setting)
    conditions = np.array([float(condition) for _, condition in drawn.values()])
    return {"gauge": np.array(list(drawn)), "condition": conditions}


# Steps of about the size of W: what is relative to W is then relative to the step.
LENGTH = 100.0


def _one_step(setting: Setting, make: Make, **options: Any) -> Evidence:
    """How far apart the products are after a step in either gauge, over u condition."""
    measurements, arrays = [], _named(setting)
    for dtype in (torch.float64, torch.float32):
        pair, G = pair_and_gradient(setting)
        B, A = (factor.to(dtype) for factor in pair)
        G = G.to(dtype)
        u = torch.finfo(dtype).eps / 2
        kind = str(dtype).removeprefix("torch.")
        here = stepped(make, (B, A), [G], lr=LENGTH, **options)
        # As much is lost by the factors' own condition.
        own = float(torch.maximum(torch.linalg.cond(B), torch.linalg.cond(A)).max())
        found = []
        for name, (C, condition) in gauges(setting).items():
            there = stepped(make, regauged(B, A, C.to(dtype)), [G], lr=LENGTH, **options)
            W, other = (x.double() @ y.double() for x, y in (here, there))
            errors = relatives(other, W)
            found.append(errors)
            measurements.append(
                Measurement(
                    f"difference over u condition, {name}, {kind}",
                    float(errors.max()) / (u * condition * own), "<=", 4.0 * R,
                )
            )  # fmt: skip
        arrays[f"difference, {kind}"] = torch.stack(found).cpu().numpy()
        arrays[f"round-off, {kind}"] = u * arrays["condition"]
        arrays[f"bound, {kind}"] = 4 * R * own * arrays[f"round-off, {kind}"]
    return Evidence(tuple(measurements), arrays)


def check_gauge(setting: Setting) -> Evidence:
    """B' = B C and A' = C^-1 A have D_B' = D_B C and D_A' = C^-1 D_A.

    G_B' = G_B C^-T and R_A' = (C^-1 A A^T C^-T)^(-1/2) = O^T R_A C for an orthogonal O, so that
    G_B' R_A' is G_B R_A times a rotation, which the polar factor passes on. Hence the whole step,
    second order included, is that of W. In floating point every quantity is off by the condition
    of what it was made of: u times that of the gauge and of the factors, 4 r roundings at most.
    """
    return _one_step(setting, setting.optimizer(LoRAMuon, momentum=0.0))


def control_spectron(setting: Setting) -> Evidence:
    """Spectron with exact norms and polar factors."""
    return _one_step(setting, Spectron, momentum=0.0, orthogonalizer="svd", norms="exact")


def control_factor_muon(setting: Setting) -> Evidence:
    """Muon on each factor."""
    return _one_step(setting, FactorMuon, momentum=0.0)


def control_signs(setting: Setting) -> Evidence:
    """Descent along the signs of each factor's gradient."""
    return _one_step(setting, signs)


# What a damping of 1e-5 leaves of covariance, as a share of the step: the catalogue's levels.
LEVELS = {"condition 10": 2.3e-4, "condition 100": 2.2e-2, "condition 1000": 0.28}
WITHIN = 3.0


def _shares(setting: Setting, make: Make, dtype: torch.dtype) -> dict[str, Tensor]:
    """By how much of itself a step differs in each gauge, one number a seed."""
    (B, A), G = pair_and_gradient(setting)
    B, A, G = (x.to(dtype) for x in (B, A, G))

    def moved(pair: Pair) -> Tensor:
        return _product(stepped(make, pair, [G], lr=1.0)) - _product((B, A))

    step = moved((B, A))
    return {
        name: relatives(moved(regauged(B, A, C.to(dtype))), step)
        for name, (C, _) in gauges(setting).items()
    }


def _damped(setting: Setting, make: Make) -> Evidence:
    found = _shares(setting, make, torch.float64)
    # Below float64 the optimiser makes its step of Gram matrices, with the same damping.
    narrow = _shares(setting, make, torch.float32)
    measurements = [
        Measurement(f"share of the step, {name}{kind}", float(shares[name].median()), "within",
                    (level / WITHIN, level * WITHIN))
        for shares, kind in ((found, ""), (narrow, ", float32"))
        for name, level in LEVELS.items()
    ]  # fmt: skip
    measurements += [
        Measurement(f"share of the step, {name}", float(found[name].max()), "<=", 1e-9)
        for name in ("c = 9", "c = 1000", "orthogonal")
    ]
    levels = np.array([LEVELS.get(name, np.nan) for name in found])
    arrays = _named(setting) | {
        "share": torch.stack(list(found.values())).cpu().numpy(),
        "level": levels,
        "band": np.stack([levels / WITHIN, levels * WITHIN], axis=1),
    }
    return Evidence(tuple(measurements), arrays)


def _product(pair: Pair) -> Tensor:
    """In float64, whatever the factors are in."""
    return pair[0].double() @ pair[1].double()


def check_damping(setting: Setting) -> Evidence:
    """The paper's own numerics: damping 1e-5 of the Gram matrix's norm, eight steps of msign.

    (C^T S C + eps ||C^T S C|| I)^(-1/2) is the regauged root only where C is a multiple of an
    orthogonal matrix; else the damping weighs the directions by the gauge, and a singular value
    of size 1 / cond^2 is lost in it once eps cond^2 is 1.
    """
    own = partial(LoRAMuon, momentum=0.0, orthogonalizer="lora_muon", root="newton_schulz")
    return _damped(setting, own)


def control_exact(setting: Setting) -> Evidence:
    """Exact numerics, which keep every gauge."""
    return _damped(setting, partial(LoRAMuon, momentum=0.0))


class AbsolutelyDamped(LoRAMuon):
    """LoRA-Muon with a damping that is the same whatever the size of the factor."""

    def __init__(self, *args: Any, amount: float, **options: Any) -> None:
        self.amount = amount
        super().__init__(*args, **options)

    def direction(self, batch: Batch, moments: Pair) -> Pair:
        B, A = batch.factors
        return split_direction(B, A, moments[0], moments[1], root=self._root)

    def _root(self, X: Tensor) -> Tensor:
        w, V = torch.linalg.eigh(X @ X.mT)
        return (V * (w.clamp_min(0) + self.amount).rsqrt()[..., None, :]) @ V.mT


def control_absolute(setting: Setting) -> Evidence:
    """An absolute damping, which keeps orthogonal gauges alone."""
    return _damped(setting, partial(AbsolutelyDamped, amount=1e-3, momentum=0.0))


START, MID_RUN = "at the start", "mid-run"


def _trajectories(
    setting: Setting, make: Make, occasions: Sequence[str], *, transported: bool
) -> Evidence:
    """A noisy quadratic, regauged on each of the occasions."""
    pair, task = noisy_quadratic(setting)
    steps = setting["steps"]
    straight = _trained(make, pair, task, steps, None, None, transported)
    found, arrays = [], {}
    for name, (C, condition) in gauges(setting).items():
        if condition > 10:
            continue
        for when in occasions:
            at = 0 if when == START else steps // 2
            W = _trained(make, pair, task, steps, C, at, transported)
            error = relative(W, straight)
            arrays[f"{when}, {name}"] = torch.tensor(error).numpy()
            # Every step adds its round-off, amplified by the gauge.
            u = torch.finfo(straight.dtype).eps / 2
            bound = 4 * R * steps * u * condition
            found.append(Measurement(f"difference, {when}, {name}", error, "<=", bound))
    return Evidence(tuple(found), arrays)


def _trained(
    make: Make,
    pair: Pair,
    task: NoisyQuadratic,
    steps: int,
    C: Tensor | None,
    when: int | None,
    transported: bool,
) -> Tensor:
    B, A = (nn.Parameter(factor.clone()) for factor in pair)
    optimizer = make([(B, A)], lr=0.5)
    for step in range(steps):
        if C is not None and step == when:
            for p, new in zip((B, A), regauged(B.detach(), A.detach(), C), strict=True):
                p.data.copy_(new)
            if step and transported:
                moments = [optimizer.state[p]["momentum_buffer"] for p in (B, A)]
                carried = regauged_gradients(moments[0], moments[1], C)
                for m, new in zip(moments, carried, strict=True):
                    m.copy_(new)
        task.give(B, A, step)
        optimizer.step()
    return (B @ A).detach()


def check_trajectory(setting: Setting) -> Evidence:
    """First moments are covectors: m_B' = m_B C^-T and m_A' = C^T m_A go on as if nothing was.

    By induction over the steps: the step is covariant in the moments, and the gradients at the
    new factors are the carried ones.
    """
    return _trajectories(setting, LoRAMuon, (START, MID_RUN), transported=True)


def control_without_transport(setting: Setting) -> Evidence:
    """The moments stay what they were in the other gauge."""
    return _trajectories(setting, LoRAMuon, (MID_RUN,), transported=False)


def control_spectron_from_another_gauge(setting: Setting) -> Evidence:
    """Spectron, regauged before it has moments to carry."""
    return _trajectories(setting, Spectron, (START,), transported=True)


_SETUP = f"Gaussian factors and gradient, {M} x {N}, r = {R}"

CLAIMS = (
    Claim(
        id="lora-muon.gauge",
        paper=PAPER,
        title="One step does not depend on the gauge",
        statement=(
            r"The step from $(BC, C^{-1}A)$ leads to the same $W$ as that from $(B, A)$, for every "
            r"invertible $C$, second order included."
        ),
        reference=f"{REFERENCE}, Corollary 1",
        source="paper",
        setup=f"{_SETUP}, eta = {LENGTH:g}, float64 and float32; C = 9, 1000, orthogonal, of "
        "condition 10, 100, 1000",
        criterion="difference of W at most 4 r u times the conditions of gauge and factors",
        check=check_gauge,
        subject="pairs",
        devices=DEVICES,
        dtypes=(),
        controls={
            "Spectron": control_spectron,
            "Muon on each factor": control_factor_muon,
            "signs": control_signs,
        },
        tiers={"quick": {"seeds": 8}, "full": {"seeds": 128}},
    ),
    Claim(
        id="lora-muon.gauge-damping",
        paper=PAPER,
        title="What the paper's own numerics keep of it",
        statement=(
            r"With a relative damping of $10^{-5}$ only $C = cQ$, $Q$ orthogonal, is exact; a "
            r"gauge of condition 10, 100, 1000 changes the step by $2.3\cdot 10^{-4}$, "
            r"$2.2\cdot 10^{-2}$, $.28$ of itself."
        ),
        reference=f"{REFERENCE}, Algorithm 4",
        source="derived",
        setup=f"{_SETUP}, float64 and float32; root by seven, msign by eight steps of the paper's "
        "tables",
        criterion="medians within a factor of 3 of the levels; "
        "multiples of orthogonal ones to 1e-9, in float64",
        check=check_damping,
        devices=DEVICES,
        dtypes=(),
        controls={"exact numerics": control_exact, "absolute damping": control_absolute},
        tiers={"quick": {"seeds": 8}, "full": {"seeds": 128}},
    ),
    Claim(
        id="lora-muon.gauge-trajectory",
        paper=PAPER,
        title="Whole runs do not depend on the gauge, once the moments are carried",
        statement=(
            r"Regauged at any step, with $m_B \to m_B C^{-\top}$ and $m_A \to C^\top m_A$, a run "
            r"with momentum goes through the same products."
        ),
        reference=f"{REFERENCE}, Proposition 7",
        source="paper",
        setup=f"{_SETUP}, noisy quadratic, momentum .9; C = 9, 1000, orthogonal, of condition 10",
        criterion="difference of W at most 4 r u steps times the gauge's condition",
        check=check_trajectory,
        devices=DEVICES,
        dtypes=ROUNDS_IN,
        controls={
            "moments not carried": control_without_transport,
            "Spectron": control_spectron_from_another_gauge,
        },
        tiers={"quick": {"seeds": 4, "steps": 50}, "full": {"seeds": 32, "steps": 50}},
    ),
)
