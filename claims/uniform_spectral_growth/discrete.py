"""SpecGD: the flow's Euler iterates with the exact polar factor, and with Newton–Schulz."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array, slope_with_interval
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.arrival_order import increases_with
from claims.uniform_spectral_growth.toy import (
    ARRIVED,
    GAMMA,
    PAPER,
    REFERENCE,
    SINGULAR_VALUES,
    toy,
)
from flows import Field, Trajectory, orthogonalized_flow, spectral_flow

ETA = 0.01
STEPS = 400
TARGETS = np.array(SINGULAR_VALUES)
LOSS_FLOOR = 2 * ETA**2 * TARGETS.sum()
WINDOW = slice(50, 71)
DRAWN_STEPS = (0.2, 0.1, 0.05, 0.02)


def _march(
    setting: Setting, field: Field, start: tuple[Tensor, Tensor], step: float, count: int
) -> Trajectory:
    times = step * torch.arange(count + 1, dtype=torch.float64)
    return integrate_there(
        setting, field, start, times, method="euler", step=step, arrivals=(ARRIVED, 1.0)
    )


def _rates(path: Trajectory, step: float) -> Array:
    """Growth of sqrt(d_i) a step, over the step, within the window t in [.5, .7]."""
    roots = path.mode_values[:, WINDOW].clamp_min(0.0).sqrt()
    return np.asarray((roots.diff(dim=1) / step).numpy())


def _exact_polar(field: Field, setting: Setting, step: float = ETA) -> Evidence:
    """The measurements of SpecGD that controls share, its step held to the laws of one of eta."""
    problem = field.problem
    x0 = setting["aligned_start"]
    strength = torch.full((problem.rank,), x0, dtype=torch.float64)
    aligned = _march(
        setting, field, problem.aligned_init(strength, strength, seed=[setting.seed]), step, STEPS
    )
    steps = aligned.arrival_times(1.0).numpy()[0] / ETA
    expected = np.array([math.ceil((math.sqrt(sigma) - x0) / ETA) for sigma in TARGETS])

    lora = _march(
        setting, field, problem.lora_init(GAMMA, seed=setting.seeds(setting["seeds"])), step, STEPS
    )
    rates = _rates(lora, ETA)
    tail = torch.cat([aligned.mode_values, lora.mode_values])[:, -100:]
    amplitude = (tail.clamp_min(0.0).sqrt() - problem.singular_values.sqrt()).abs().max()
    floor = torch.cat([aligned.loss, lora.loss])[:, -100:]
    measurements = (
        Measurement("largest distance of a rate from 1", float(abs(rates - 1).max()), "<=", 2e-3),
        Measurement(
            "largest difference from the predicted number of steps",
            float(np.abs(steps - expected).max()), "<=", 1e-6,
        ),
        Measurement("amplitude of the limit cycle", float(amplitude), "<=", ETA),
        Measurement("loss of the limit cycle", float(floor.max()), "<=", float(LOSS_FLOOR)),
        Measurement("loss of the limit cycle, at least", float(floor.amin()), ">=", ETA**2 / 4),
    )  # fmt: skip
    arrays = {
        "loss_times": lora.times.numpy(),
        "loss": lora.loss.numpy(),
        "loss_bound": np.array(LOSS_FLOOR),
    }
    return Evidence(measurements, arrays)


def _order(setting: Setting, method: str = "euler") -> Evidence:
    """Distance of smoothed SpecGD from SpecGF, halving the step, at common times."""
    problem = toy(setting.seed)
    field = spectral_flow(problem, 0.03)
    start = problem.gaussian_init(0.1, seed=setting.seeds(setting["seeds"]))
    common = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    flow = integrate_there(setting, field, start, common, rtol=1e-9, atol=1e-11).products
    steps = np.array(setting["step_sizes"])
    distances = []
    for step in steps:
        iterates = integrate_there(
            setting, field, start, common, method=method, step=float(step)
        ).products
        distances.append(torch.linalg.matrix_norm(iterates - flow).amax(-1).numpy())
    logs = np.log(np.array(distances))
    slope, interval = slope_with_interval(np.log(steps), logs.T)
    return Evidence(
        (
            Measurement("order of SpecGD in its step, lower end", float(interval[0]), ">=", 0.9),
            Measurement("order of SpecGD in its step, upper end", float(interval[1]), "<=", 1.1),
        ),
        {
            "step_sizes": steps,
            "distance_to_flow": np.array(distances),
            "slope": np.array(slope),
            "slope_interval": interval,
        },
    )


def _drawn(setting: Setting) -> dict[str, Array]:
    """One seed of SpecGD at falling steps, and of SpecGF, for the figure."""
    problem = toy(setting.seed)
    start = problem.lora_init(GAMMA, seed=[setting.seed])
    grid = 0.01 * np.arange(301)
    roots = np.full((len(DRAWN_STEPS), len(grid), len(TARGETS)), np.nan)
    exact = spectral_flow(problem, 0.0)
    for row, step in zip(roots, DRAWN_STEPS, strict=True):
        path = _march(setting, exact, start, step, round(3.0 / step))
        every = round(step / 0.01)
        row[::every] = path.mode_values[0].clamp_min(0).sqrt().numpy()
    flow = integrate_there(setting, spectral_flow(problem, 0.01), start, torch.from_numpy(grid))
    return {
        "drawn_steps": np.array(DRAWN_STEPS),
        "trajectory_times": grid,
        "specgd_sqrt_mode_values": roots,
        "specgf_sqrt_mode_values": flow.mode_values[0].clamp_min(0).sqrt().numpy(),
    }


def check_specgd(setting: Setting) -> Evidence:
    """SpecGD with the exact polar factor grows every sqrt(d_i) by eta a step, then cycles.

    Aligned and balanced, x <- x + eta sign(sigma - x^2): d_i reaches sigma_i after
    ceil((sqrt(sigma_i) - x0) / eta) steps and then moves between two values at most eta apart, so
    |x - sqrt(sigma)| <= eta and the loss is at most 1/2 sum (2 sqrt(sigma) eta)^2 to leading order,
    2 eta^2 sum sigma_i. It is Euler's method for the flow, of order 1 in eta where the field is
    smooth (beta = .03 here).
    """
    polar = _exact_polar(spectral_flow(toy(setting.seed), 0.0), setting)
    order = _order(setting)
    return Evidence(
        polar.measurements + order.measurements,
        {**polar.arrays, **order.arrays, **_drawn(setting)},
    )


def control_smoothed(setting: Setting) -> Evidence:
    """Smoothed SpecGD, beta = .06 > sigma_1 eta: below the threshold it settles, and cycles not."""
    return _exact_polar(spectral_flow(toy(setting.seed), 0.06), setting)


def control_longer_steps(setting: Setting) -> Evidence:
    """Steps of 2 eta: the cycle is twice as wide, and its loss four times as large."""
    return _exact_polar(spectral_flow(toy(setting.seed), 0.0), setting, 2 * ETA)


def control_higher_order(setting: Setting) -> Evidence:
    """Runge and Kutta's method in SpecGD's place, by the order alone: it is 4."""
    return Evidence(_order(setting, "runge_kutta_4").measurements)


def _settles(setting: Setting, share: float) -> Evidence:
    beta = 0.01
    step = share * beta / TARGETS[0]
    problem = toy(setting.seed)
    start = problem.lora_init(GAMMA, seed=setting.seeds(setting["seeds"]))
    end = step * round(8.0 / step)
    path = integrate_there(
        setting, spectral_flow(problem, beta), start, [end], method="euler", step=step
    )
    return Evidence((Measurement("largest final loss", float(path.loss.max()), "<=", 1e-24),))


def check_threshold(setting: Setting) -> Evidence:
    """Smoothed SpecGD converges to machine zero if and only if eta < beta / sigma_1.

    At the optimum the Jacobian of SpecGF is -Hess L / beta, whose largest eigenvalue is
    2 sigma_1 / beta; Euler's method is stable while eta times it stays below 2.
    """
    return _settles(setting, 0.95)


def control_above_threshold(setting: Setting) -> Evidence:
    """A step 5% above the threshold."""
    return _settles(setting, 1.05)


def _newton_schulz(field: Field, setting: Setting) -> Evidence:
    start = field.problem.lora_init(GAMMA, seed=setting.seeds(setting["seeds"]))
    path = _march(setting, field, start, ETA, STEPS)
    rates = _rates(path, ETA)
    spread = rates.max(axis=(1, 2)) - rates.min(axis=(1, 2))
    arrivals = path.arrival_times(ARRIVED).numpy()
    ordered = float(increases_with(TARGETS, arrivals).mean())
    measurements = (
        Measurement("smallest rate", float(rates.min()), ">=", 0.65),
        Measurement("largest rate", float(rates.max()), "<=", 1.2),
        Measurement("smallest spread of the rates over seeds", float(spread.min()), ">=", 0.1),
        Measurement("share of seeds without an inversion", ordered, "<=", 0.0),
    )
    arrays = {"rates": rates, "arrival_times": arrivals, "targets": TARGETS}
    return Evidence(measurements, arrays)


def check_newton_schulz(setting: Setting) -> Evidence:
    """Muon's quintic, five steps, sends singular values anywhere between .68 and 1.13.

    Its limit does not converge to 1: growth rates inherit that spread and strict smallest-first
    order breaks. Run as Euler iterates of the orthogonalised flow, Muon without momentum.
    """
    return _newton_schulz(orthogonalized_flow(toy(setting.seed), "muon", 5), setting)


def control_exact_polar(setting: Setting) -> Evidence:
    """The exact polar factor, by the same criterion."""
    return _newton_schulz(spectral_flow(toy(setting.seed), 0.0), setting)


def control_one_step(setting: Setting) -> Evidence:
    """One step of the quintic: small singular values are still small, and so are their rates."""
    return _newton_schulz(orthogonalized_flow(toy(setting.seed), "muon", 1), setting)


CLAIMS = (
    Claim(
        id="usg.specgd-tracks-flow",
        paper=PAPER,
        title="SpecGD tracks the flow, then cycles",
        statement=(
            r"SpecGD with the exact polar factor grows every $\sqrt{d_i}$ at unit rate, reaches "
            r"$\sigma_i$ in $\lceil (\sqrt{\sigma_i} - x_0)/\eta \rceil$ steps, and then cycles "
            r"with amplitude at most $\eta$ and loss at most $2\eta^2 \sum_i \sigma_i$; its "
            r"distance to SpecGF is of order 1 in $\eta$."
        ),
        reference=REFERENCE,
        source="paper",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1, eta = .01, 400 steps; aligned and LoRA starts; "
        "order at beta = .03 from Gaussian starts",
        criterion="rates within .002 of 1; exact step counts; amplitude <= eta; loss within "
        "[eta^2/4, 2 eta^2 sum sigma_i]; interval of the order inside 1 +- .1",
        check=check_specgd,
        devices=DEVICES,
        controls={
            "smoothed below its threshold": control_smoothed,
            "steps of 2 eta": control_longer_steps,
            "method of order 4": control_higher_order,
        },
        tiers={
            "quick": {
                "seeds": 10,
                "aligned_start": 0.005,
                "step_sizes": [0.01, 0.005, 0.0025, 0.00125],
            },
            "full": {"seeds": 64, "step_sizes": [0.01, 0.005, 0.0025, 0.00125, 0.000625]},
        },
    ),
    Claim(
        id="usg.specgd-threshold",
        paper=PAPER,
        title="Smoothed SpecGD has a largest stable step",
        statement=(
            r"Smoothed SpecGD converges to machine zero for $\eta < \beta/\sigma_1$ and not above."
        ),
        reference=REFERENCE,
        source="derived",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1, LoRA start gamma = 1e-3, beta .01, to t = 8",
        criterion="final loss at most 1e-24, 5% below the threshold",
        check=check_threshold,
        devices=DEVICES,
        controls={"5% above the threshold": control_above_threshold},
        tiers={"quick": {"seeds": 10}, "full": {"seeds": 64}},
    ),
    Claim(
        id="usg.newton-schulz-breaks-order",
        paper=PAPER,
        title="Newton–Schulz breaks the order",
        statement=(
            r"With Muon's five-step quintic in place of the polar factor the growth rates spread "
            r"over $[0.68, 1.13]$ and strict smallest-first order breaks."
        ),
        reference="arXiv 2602.11948",
        source="related",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1, LoRA start gamma = 1e-3, eta = .01, rates over t in "
        "[.5, .7]; Muon without momentum",
        criterion="rates inside [.65, 1.2] and spread by .1 at least; an inversion in every seed",
        check=check_newton_schulz,
        devices=DEVICES,
        controls={
            "exact polar factor": control_exact_polar,
            "one step of the quintic": control_one_step,
        },
        tiers={"quick": {"seeds": 10}, "full": {"seeds": 64}},
    ),
)
