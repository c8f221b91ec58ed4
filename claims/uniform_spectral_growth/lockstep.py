"""The optimisers themselves beside the flow: SpecGD keeps in step, Newton–Schulz does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.toy import GAMMA, PAPER, REFERENCE, SINGULAR_VALUES, toy
from flows import Field, MatrixFactorization, orthogonalized_flow, spectral_flow
from flows.closed_forms import smoothed_state
from flows.moving import moved
from flows.trajectory import States
from simulate.optimizers import Muon, SpectralDescent
from simulate.tasks import Iterates, iterate

ETA, BETA = 0.01, 0.01
TARGETS = np.array(SINGULAR_VALUES)
# The slope at 0 of Muon's polynomial, five times composed: by how much it may amplify round-off.
SLOPE = 3.4445**5

Start = tuple[Tensor, Tensor]
Make = Callable[[list[Any], Any], Optimizer]


def _muon(orthogonalizer: str, **momentum: Any) -> Make:
    """Muon whose steps are eta long whatever the shape, and without decay."""
    return lambda pairs, rate: Muon(
        pairs[0], rate, 0.0, orthogonalizer=orthogonalizer, adjust_lr_fn="unadjusted", **momentum
    )


def _spectral_descent(pairs: list[Any], rate: Any) -> Optimizer:
    return SpectralDescent(pairs[0], rate)


STILL = {"momentum": 0.0, "nesterov": False}
NEWTON_SCHULZ, WITH_MOMENTUM = _muon("muon", **STILL), _muon("muon")
OPTIMIZERS = {
    "specgd": _spectral_descent,
    "newton_schulz": NEWTON_SCHULZ,
    "momentum": WITH_MOMENTUM,
}


def _starts(problem: MatrixFactorization, setting: Setting) -> Start:
    """LoRA's, one a seed, and behind them a balanced aligned one; (seeds + 1, ...)."""
    strength = torch.full((problem.rank,), GAMMA, dtype=torch.float64)
    lora = problem.lora_init(GAMMA, seed=setting.seeds(setting["seeds"]))
    aligned = problem.aligned_init(strength, strength, seed=[setting.seed])
    B, A = (torch.cat(factors) for factors in zip(lora, aligned, strict=True))
    return B, A


def _run(setting: Setting, problem: MatrixFactorization, start: Start, make: Make) -> Iterates:
    steps = range(setting["steps"] + 1)
    return moved(iterate(problem, start, make, ETA, steps, device=setting.device), "cpu")


def _times(setting: Setting) -> Tensor:
    return ETA * torch.arange(setting["steps"] + 1, dtype=torch.float64)


def _roots(states: States) -> Array:
    """sqrt(d_i), (seeds + 1, T, k)."""
    return np.asarray(states.mode_values.clamp_min(0.0).sqrt().numpy())


def _bound(setting: Setting) -> Array:
    """How far SpecGD may be from SpecGF by then, (T, k), from the aligned start."""
    times = _times(setting).numpy()[:, None]
    unit_rate = np.minimum(GAMMA + times, np.sqrt(TARGETS))
    behind = unit_rate - smoothed_state(times, TARGETS, BETA, GAMMA)
    return ETA + np.maximum.accumulate(behind, axis=0)


def _apart(setting: Setting, run: Iterates, field: Field, start: Start) -> float:
    """The products from Euler's before arrivals, over sigma_1, at their worst."""
    times = _times(setting)[: setting["before_arrivals"] + 1]
    b, a = run.coordinates.factors(run.states[:, : len(times)])
    euler = integrate_there(
        setting, field, start, times, method="euler", step=ETA, coordinates=run.coordinates
    )
    there_b, there_a = euler.coordinates.factors(euler.states)
    return float(torch.linalg.matrix_norm(b @ a - there_b @ there_a).max()) / TARGETS[0]


def _measured(
    setting: Setting,
    problem: MatrixFactorization,
    start: Start,
    exact: Iterates,
    newton_schulz: Iterates,
) -> tuple[Measurement, ...]:
    B, A = start
    flow = integrate_there(setting, spectral_flow(problem, BETA), (B[-1:], A[-1:]), _times(setting))
    share = abs(_roots(exact)[-1] - _roots(flow)[-1]) / _bound(setting)
    rounding = setting["before_arrivals"] * 4 * problem.rank * torch.finfo(torch.float64).eps / 2
    polar, polynomial = spectral_flow(problem, 0.0), orthogonalized_flow(problem, "muon", 5)
    return (
        Measurement(
            "SpecGD from Euler's iterates of SpecGF at beta 0, before arrivals",
            _apart(setting, exact, polar, start), "<=", rounding,
        ),
        Measurement(
            "Muon from Euler's iterates by Newton-Schulz, before arrivals",
            _apart(setting, newton_schulz, polynomial, start), "<=", SLOPE * rounding,
        ),
        Measurement(
            "largest distance of SpecGD from SpecGF, aligned, over its bound",
            float(share.max()), "<=", 1.0,
        ),
    )  # fmt: skip


def check_lockstep(setting: Setting) -> Evidence:
    """SpectralDescent is Euler's method for SpecGF, and Muon without momentum for its own flow.

    W <- W - eta O(G) is a step of eta along -O(G): the same arithmetic in another order, so that
    iterates differ by round-off, 4 r u a step; where O is Muon's polynomial, amplified by its
    slope at 0, 3.4445^5 = 485. That is until a mode arrives: then its gradient passes through 0,
    where both functions are steep, and round-off grows from step to step.

    Aligned and balanced, SpecGD goes sqrt(d_i) = x0 + eta n to within eta of sqrt(sigma_i) and
    stays there, so that it is eta from the unit-rate solution at most; SpecGF is behind that by
    what the closed forms say. Their sum bounds the distance at every time, and Newton-Schulz, at
    .68 to 1.13 of the rate, does not keep it.
    """
    problem = toy(setting.seed)
    start = _starts(problem, setting)
    runs = {name: _run(setting, problem, start, make) for name, make in OPTIMIZERS.items()}
    flow = _roots(integrate_there(setting, spectral_flow(problem, BETA), start, _times(setting)))
    arrays: dict[str, Array] = {
        "times": _times(setting).numpy(),
        "specgf_sqrt_mode_values": flow[0],
        "aligned_bound": _bound(setting).max(-1),
    }
    for name, run in runs.items():
        roots = _roots(run)
        distance = abs(roots - flow).max(-1)
        arrays[f"{name}_sqrt_mode_values"] = roots[0]
        arrays[f"{name}_distance"], arrays[f"{name}_aligned_distance"] = distance[:-1], distance[-1]
    measured = _measured(setting, problem, start, runs["specgd"], runs["newton_schulz"])
    return Evidence(measured, arrays)


def _control(setting: Setting, exact: Make, newton_schulz: Make) -> Evidence:
    problem = toy(setting.seed)
    start = _starts(problem, setting)
    first = _run(setting, problem, start, exact)
    second = first if newton_schulz is exact else _run(setting, problem, start, newton_schulz)
    return Evidence(_measured(setting, problem, start, first, second))


def control_momentum(setting: Setting) -> Evidence:
    """Muon's default momentum, .95 and Nesterov's, with both orthogonalisers."""
    return _control(setting, _muon("svd"), WITH_MOMENTUM)


def control_newton_schulz(setting: Setting) -> Evidence:
    """Five steps of Newton-Schulz where SpecGD has the exact polar factor."""
    return _control(setting, NEWTON_SCHULZ, NEWTON_SCHULZ)


CLAIMS = (
    Claim(
        id="usg.lockstep",
        paper=PAPER,
        title="The optimisers in lockstep with the flow",
        statement=(
            r"SpecGD and Muon without momentum, run as optimisers, make Euler's iterates of their "
            r"flows. From a balanced aligned start $\sqrt{d_i}$ of SpecGD stays within "
            r"$\eta + \max_{s \le t} (\min(x_0 + s, \sqrt{\sigma_i}) - x_i(s))$ of SpecGF's $x_i$."
        ),
        reference=REFERENCE,
        source="derived",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1, eta = beta = .01, 300 steps; LoRA starts and an "
        "aligned one, gamma = 1e-3; Muon's five steps in float64, without decay",
        criterion="75 steps to 4 r u each, times 485 for Newton-Schulz; distance within the bound "
        "at all 300",
        check=check_lockstep,
        devices=DEVICES,
        seconds=4,
        controls={"momentum": control_momentum, "Newton-Schulz": control_newton_schulz},
        # Newton-Schulz moves a mode by 1.2 eta a step at most: the first arrives after a time of
        # sqrt(.9) / 1.2, which is .79.
        tiers={
            "quick": {"seeds": 10, "steps": 300, "before_arrivals": 75},
            "full": {"seeds": 64},
        },
    ),
)
