"""No gauge matters to runs on the manifold, and round-off is all that tells gauges apart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from claims.measuring.draws import gaussian_there
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.riemannlora.points import PAPER, REFERENCE
from claims.riemannlora.runs import (
    ADAM,
    BESIDE,
    DESCENT,
    FACTOR_MUON,
    OF_THE_PAPER,
    ON_FACTORS,
    SETUP,
    STEPS,
    M,
    Make,
    N,
    R,
    differences,
    in_gauges,
    products,
    start_and_target,
)
from geometry.gauge import Pair
from geometry.scaling import unit_roundoff

CONDITIONS = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
# The largest condition at which the bound is below what two unrelated runs differ by.
JUDGED = {torch.float64: 1e6, torch.float32: 1e5}
# At which somebody else's optimiser runs.
SUBJECT_RATE = 0.02
# Directions in which the start is pushed, and how far, relative to every entry.
PUSHES, PUSH = 4, 1e-7


def _sensitivity(make: Make, setting: Setting, pair: Pair, Y: Tensor) -> float:
    """The most by which a run enlarges a random relative change of its start, at least 1."""
    pushed = [
        (
            pair[0] * (1 + PUSH * gaussian_there(setting, M, R, stream=20 + direction)),
            pair[1] * (1 + PUSH * gaussian_there(setting, R, N, stream=40 + direction)),
        )
        for direction in range(PUSHES)
    ]
    B, A = (torch.stack(factors) for factors in zip(pair, *pushed, strict=True))
    ends = products(make, (B, A), Y)
    before, after = (differences(x[1:], x[:1]) for x in ((B @ A).cpu(), ends))
    return max(1.0, float((after / before).max()))


def _gauges(setting: Setting, own: Mapping[str, Make], beside: Mapping[str, Make]) -> Evidence:
    """How far runs from other gauges end from that in the first, over the bound."""
    pair, Y = start_and_target(setting)
    starts = in_gauges(setting, pair, CONDITIONS)
    conditions = torch.tensor(CONDITIONS, dtype=torch.float64)
    # As much is lost by the factors' own condition.
    condition = float(torch.maximum(*(torch.linalg.cond(factor) for factor in pair)).max())
    constants = torch.tensor(
        [4 * R * condition * _sensitivity(make, setting, pair, Y) for make in own.values()],
        dtype=torch.float64,
    )
    # Of a run that comes less far than the bound nothing would be said.
    gone = [
        float(differences(products(make, pair, Y), (pair[0] @ pair[1]).cpu()).min())
        for make in own.values()
    ]
    measurements = []
    arrays: dict[str, NDArray[Any]] = {
        "optimizers": np.array([*own, *beside]),
        "judged": np.array([name in own for name in (*own, *beside)]),
        "conditions": conditions.numpy(),
    }
    remarks = []
    for dtype, most in JUDGED.items():
        kind, u = str(dtype).removeprefix("torch."), unit_roundoff(dtype)
        found = []
        for make in (*own.values(), *beside.values()):
            ends = products(make, starts, Y, dtype=dtype)
            found.append(differences(ends[1:], ends[:1]))
        bounds = constants[:, None] * u * (conditions + STEPS)
        over = (torch.stack(found[: len(own)]) / bounds[..., None]).amax((0, 2))
        measurements += [
            Measurement(f"difference over its bound, condition {at:g}, {kind}", share, "<=", 1.0)
            for at, share in zip(CONDITIONS, over.tolist(), strict=True)
            if at <= most
        ]
        largest = torch.stack(found[: len(own)]).amax((0, 2)).tolist()
        listed = ", ".join(f"{x:.1e}" for x in largest)
        remarks.append(f"largest differences at condition 1 to 1e6, {kind}: {listed}")
        arrays[f"difference, {kind}"] = torch.stack(found).numpy()
        arrays[f"round-off, {kind}"] = (u * conditions).numpy()
        arrays[f"bound, {kind}"] = bounds.numpy()
    share = constants * unit_roundoff(torch.float64) * (CONDITIONS[-1] + STEPS) / torch.tensor(gone)
    measurements.append(
        Measurement(
            f"bound at condition {CONDITIONS[-1]:g} over how far a run goes, float64",
            float(share.max()), "<=", 1.0,
        )
    )  # fmt: skip
    remarks.append(f"C = {', '.join(f'{constant:.0f}' for constant in constants.tolist())}")
    return Evidence(tuple(measurements), arrays, tuple(remarks))


def check_gauge(setting: Setting) -> Evidence:
    """Steps are made of X = B A, of P(G) and of earlier momenta as matrices: none knows a gauge.

    Round-off does. With B' = B C and A' = C^-1 A rounded, every entry a sum of r products, X' is
    off by up to 2 r u ||B|| ||C|| ||C^-1|| ||A||; the triangular factors from which G V is solved
    have the condition of B' and A', which costs as much again: together 4 r u cond(C) times the
    condition of the factors. That is the first step. It leaves balanced factors, so each of the
    STEPS adds what condition 1 costs. What is lost on the way grows or shrinks as any change of
    the start does, by a factor that is measured: the most by which random relative changes of the
    start by 1e-7 have grown at the end, in the first gauge. Hence the bound

        C u (cond(C) + STEPS),  C = 4 r max(cond B, cond A) growth.

    In float32 it passes 1 at condition 1e6, where it says nothing: measured and told there, not
    judged. Nor would it say anything of a run that stays where it is, or that enlarges any change
    of its start to all there is: in float64 it has to be less, at every condition, than how far
    the run comes from its start, relatively.
    """
    if setting.subject is not None:
        return _gauges(setting, {"subject": partial(setting.subject, lr=SUBJECT_RATE)}, {})
    return _gauges(setting, OF_THE_PAPER, BESIDE)


def _control(setting: Setting, name: str) -> Evidence:
    return _gauges(setting, {name: ON_FACTORS[name]}, {})


CLAIMS = (
    Claim(
        id="riemannlora.gauge",
        paper=PAPER,
        title="Runs on the manifold do not depend on the gauge",
        statement=(
            r"From $(BC, C^{-1}A)$ RiemannLoRA, plain and adaptive, and Riemannion reach the same "
            r"product as from $(B, A)$, up to round-off times the condition number of $C$."
        ),
        reference=f"{REFERENCE}, section 3",
        source="paper",
        setup=f"{SETUP}; C of condition 1 to 1e6; float64, and float32 judged to 1e5",
        criterion="relative difference of the products at most C u (condition + steps), with "
        "C = 4 r times the factors' condition times the growth of random changes of the start; "
        "that less than the run's way",
        check=check_gauge,
        devices=DEVICES,
        dtypes=(),
        subject="pairs",
        seconds=1.5,
        controls={name: partial(_control, name=name) for name in (DESCENT, ADAM, FACTOR_MUON)},
        tiers={"quick": {"seeds": 3}, "full": {"seeds": 64}},
    ),
)
