"""Which mode arrives first: the smallest under SpecGF, the largest under GF."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from claims.measuring.flowing import integrate_there
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
from flows import Field, Trajectory, gradient_flow, spectral_flow
from flows.closed_forms import (
    escape_lag,
    gradient_flow_balanced_arrival,
    gradient_flow_lora_arrival,
    unit_rate_arrival,
)

TARGETS = np.array(SINGULAR_VALUES)
BETAS = (0.03, 0.01)
DRAWN_BETA = 0.01
SPECTRAL_END, GRADIENT_END = 3.0, 18.0


def predicted_arrivals(beta: float, gamma: float) -> NDArray[np.float64]:
    """sqrt(.9 sigma_i) + tau_i: growth at the unit rate after an escape from gamma / 2."""
    return np.asarray(
        unit_rate_arrival(ARRIVED * TARGETS, 0.0) + escape_lag(beta, TARGETS, gamma / 2)
    )


def _from_lora(field: Field, setting: Setting, end: float) -> Trajectory:
    start = field.problem.lora_init(GAMMA, seed=setting.seeds(setting["seeds"]))
    times = torch.linspace(0.0, end, setting["times"], dtype=torch.float64)
    return integrate_there(setting, field, start, times)


def _spectra(trajectory: Trajectory) -> dict[str, NDArray[Any]]:
    return {
        "times": trajectory.times.numpy(),
        "singular_values": trajectory.singular_values.numpy(),
        "mode_values": trajectory.mode_values.numpy(),
        "arrival_times": trajectory.arrival_times(ARRIVED).numpy(),
        "targets": TARGETS,
    }


def _smallest_first(fields: dict[float, Field], end: float, setting: Setting) -> Evidence:
    measurements, drawn = [], None
    for beta, field in fields.items():
        trajectory = _from_lora(field, setting, end)
        arrivals = trajectory.arrival_times(ARRIVED).numpy()
        astray = float((~increases_with(TARGETS, arrivals)).mean())
        measurements.append(
            Measurement(f"share of seeds not smallest-first, beta {beta:g}", astray, "<=", 0.0)
        )
        if beta == DRAWN_BETA:
            drawn = trajectory
    assert drawn is not None
    predicted = predicted_arrivals(DRAWN_BETA, GAMMA)
    arrivals = drawn.arrival_times(ARRIVED).numpy()
    off = np.abs(np.median(arrivals, axis=0) - predicted)
    name = f"largest distance of a median arrival from its prediction, beta {DRAWN_BETA:g}"
    measurements.append(Measurement(name, float(off.max()), "<=", 0.02))
    arrays = {**_spectra(drawn), "predicted_arrivals": predicted, "beta": np.array(DRAWN_BETA)}
    worst = float(np.abs(arrivals - predicted).max())
    remark = (
        f"Median arrivals {np.round(np.median(arrivals, axis=0), 4).tolist()} against "
        f"{np.round(predicted, 4).tolist()}; the farthest single seed is {worst:.3g} away."
    )
    return Evidence(tuple(measurements), arrays, (remark,))


def check_smallest_first(setting: Setting) -> Evidence:
    """Under SpecGF arrival times increase with sigma_i.

    After an escape that costs tau_i = (beta/sigma_i) (ln(2 beta / (sigma_i x0)) - 1), x0 = gamma/2,
    every mode grows like sqrt(d_i) = t - tau_i, so d_i reaches .9 sigma_i at
    sqrt(.9 sigma_i) + tau_i: the smaller target is reached first as long as this increases.
    """
    problem = toy(setting.seed)
    fields = {beta: spectral_flow(problem, beta) for beta in BETAS}
    return _smallest_first(fields, SPECTRAL_END, setting)


def control_gradient_flow(setting: Setting) -> Evidence:
    """Gradient flow from the same starts, by the same criterion."""
    field = gradient_flow(toy(setting.seed))
    return _smallest_first(dict.fromkeys(BETAS, field), GRADIENT_END, setting)


def _largest_first(field: Field, end: float, setting: Setting) -> Evidence:
    trajectory = _from_lora(field, setting, end)
    arrivals = trajectory.arrival_times(ARRIVED).numpy()
    astray = float((~increases_with(-TARGETS, arrivals)).mean())

    strength = torch.full((len(TARGETS),), setting["balanced_start"], dtype=torch.float64)
    start = field.problem.aligned_init(strength, strength, seed=setting.seed)
    aligned = integrate_there(setting, field, start, [end], rtol=1e-10, atol=1e-13)
    exact = gradient_flow_balanced_arrival(
        ARRIVED * TARGETS, TARGETS, setting["balanced_start"] ** 2
    )
    error = np.abs(aligned.arrival_times(ARRIVED).numpy() - exact).max()
    measurements = (
        Measurement("share of seeds not largest-first", astray, "<=", 0.0),
        Measurement("error of aligned arrivals against the logistic form", error, "<=", 1e-6),
    )
    predicted = gradient_flow_lora_arrival(ARRIVED * TARGETS, TARGETS, GAMMA)
    return Evidence(measurements, {**_spectra(trajectory), "predicted_arrivals": predicted})


def check_largest_first(setting: Setting) -> Evidence:
    """Under GF the largest mode arrives first, stepwise.

    On the aligned manifold, balanced, s = sigma / (1 + (sigma/s0 - 1) exp(-2 sigma t)): the time to
    .9 sigma falls like ln(1/s0) / (2 sigma).
    """
    return _largest_first(gradient_flow(toy(setting.seed)), GRADIENT_END, setting)


def control_spectral_flow(setting: Setting) -> Evidence:
    """SpecGF from the same starts, by the same criterion."""
    return _largest_first(spectral_flow(toy(setting.seed), DRAWN_BETA), SPECTRAL_END, setting)


CLAIMS = (
    Claim(
        id="usg.smallest-first",
        paper=PAPER,
        title="SpecGF learns the smallest mode first",
        statement=(
            r"Under spectral gradient flow the times at which $d_i \geq 0.9\,\sigma_i$ increase "
            r"with $\sigma_i$; they are $\sqrt{0.9\,\sigma_i} + \tau_i$ with the escape lag "
            r"$\tau_i = \frac{\beta}{\sigma_i}\left(\ln\frac{2\beta}{\sigma_i x_0} - 1\right)$, "
            r"$x_0 = \gamma/2$."
        ),
        reference=REFERENCE,
        source="paper",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1, r = 5, LoRA start gamma = 1e-3, beta .03 and .01",
        criterion="every seed in order; median arrivals at beta .01 within .02 of the prediction",
        check=check_smallest_first,
        devices=DEVICES,
        controls={"gradient flow": control_gradient_flow},
        tiers={"quick": {"seeds": 16, "times": 301}, "full": {"seeds": 100}},
    ),
    Claim(
        id="usg.gf-largest-first",
        paper=PAPER,
        title="GF learns the largest mode first",
        statement=(
            r"Under gradient flow the times at which $d_i \geq 0.9\,\sigma_i$ decrease with "
            r"$\sigma_i$; on the aligned manifold, balanced, "
            r"$s = \sigma / (1 + (\sigma/s_0 - 1)\, e^{-2\sigma t})$."
        ),
        reference=REFERENCE,
        source="paper",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1, r = 5; LoRA starts, and an aligned balanced start",
        criterion="every seed in order; aligned arrivals within 1e-6 of the logistic form",
        check=check_largest_first,
        devices=DEVICES,
        controls={"spectral flow": control_spectral_flow},
        tiers={
            "quick": {"seeds": 10, "times": 301, "balanced_start": 0.03},
            "full": {"seeds": 100},
        },
    ),
)
