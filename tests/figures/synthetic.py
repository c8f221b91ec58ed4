"""Evidence as the claims record it, made from the closed forms: what a healthy run looks like."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.figures import (
    synthetic_cost,
    synthetic_finetuning,
    synthetic_gauges,
    synthetic_heavy_tails,
    synthetic_pairs,
    synthetic_pretraining,
    synthetic_riemannlora,
    synthetic_sketches,
    synthetic_tensors,
)

Array = NDArray[Any]
Arrays = dict[str, Array]
TARGETS = np.array([5.0, 4.0, 3.0, 2.0, 1.0])


def spectral_root(times: Array, sigma: float, beta: float, start: float) -> Array:
    """x(t) of dx/dt = g / sqrt(g^2 + beta^2), g = x (sigma - x^2), by its quadrature t(x)."""
    top = np.sqrt(sigma)
    low = np.geomspace(start, top / 2, 1500)
    x = np.concatenate([low, top - np.geomspace(top / 2, 1e-9, 1500)[1:]])
    slowness = np.sqrt(1 + (beta / (x * (sigma - x**2))) ** 2)
    time = np.concatenate([[0], np.cumsum(np.diff(x) * (slowness[1:] + slowness[:-1]) / 2)])
    return np.asarray(np.interp(times, time, x))


def logistic(times: Array, sigma: float, start: float) -> Array:
    """Gradient flow of a balanced mode."""
    return sigma / (1 + (sigma / start - 1) * np.exp(-2 * sigma * times))


def lag(sigma: Array, beta: Array | float, start: Array | float) -> Array:
    """Escape lag of spectral gradient flow from a small start."""
    return np.asarray(beta / sigma * (np.log(2 * beta / (sigma * start)) - 1))


def _starts(rng: np.random.Generator, seeds: int, gamma: float = 1e-3) -> Array:
    return gamma / 2 * np.exp(0.4 * rng.standard_normal((seeds, len(TARGETS))))


def _flow(times: Array, starts: Array, beta: float | None) -> Array:
    """Mode values (S, T, k): spectral with ``beta``, gradient flow without."""
    rows = [
        [
            logistic(times, s, x0**2) if beta is None else spectral_root(times, s, beta, x0) ** 2
            for s, x0 in zip(TARGETS, row, strict=True)
        ]
        for row in starts
    ]
    return np.array(rows).transpose(0, 2, 1)


def _arrivals(times: Array, modes: Array) -> Array:
    reached = modes >= 0.9 * TARGETS
    return np.where(reached.any(axis=1), times[reached.argmax(axis=1)], np.nan)


def _flow_arrays(times: Array, modes: Array) -> Arrays:
    return {
        "times": times,
        "singular_values": np.sort(modes, axis=2)[:, :, ::-1],
        "mode_values": modes,
        "arrival_times": _arrivals(times, modes),
        "targets": TARGETS,
    }


def smallest_first(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    starts, beta = _starts(rng, seeds), 0.01
    times, long = np.linspace(0, 3, 301), np.linspace(0, 14, 561)
    check = _flow_arrays(times, _flow(times, starts, beta)) | {"beta": np.array(beta)}
    check["predicted_arrivals"] = np.sqrt(0.9 * TARGETS) + lag(TARGETS, beta, 5e-4)
    return {"check": check, "control/gradient flow": _flow_arrays(long, _flow(long, starts, None))}


def equal_rate(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    starts, times = _starts(rng, seeds), np.linspace(0, 3, 301)
    shared = {"times": times, "window": np.array([0.5, 0.7]), "targets": TARGETS}
    betas = np.array([0.003, 0.01, 0.03])
    deviation = 6.4 * betas[:, None] ** 2 * np.exp(0.1 * rng.standard_normal((3, seeds)))
    check = shared | {
        "sqrt_mode_values": np.sqrt(_flow(times, starts, 0.01)),
        "betas": betas,
        "max_deviation": deviation,
        "slope": np.array(1.99),
        "slope_interval": np.array([1.96, 2.03]),
    }
    control = shared | {"sqrt_mode_values": np.sqrt(_flow(times, starts, None))}
    return {"check": check, "control/gradient flow": control}


def gf_largest_first(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    starts, times = _starts(rng, seeds), np.linspace(0, 14, 561)
    check = _flow_arrays(times, _flow(times, starts, None))
    check["predicted_arrivals"] = np.log(9 * (TARGETS / 5e-4**2 - 1)) / (2 * TARGETS)
    return {"check": check}


def smallest_first_limit(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    betas, gammas = np.geomspace(0.01, 0.5, 9), np.geomspace(1e-6, 1e-1, 8)
    fine = np.geomspace(0.008, 0.6, 120)

    def slack(beta: Array, gamma: Array) -> Array:
        arrival = np.sqrt(TARGETS) + np.stack(
            [lag(np.array(s), beta, gamma / 2) for s in TARGETS], -1
        )
        return np.asarray((arrival[..., :-1] - arrival[..., 1:]).min(axis=-1))

    margin = slack(betas[:, None], gammas[None, :])
    grid = np.geomspace(1e-8, 1, 4000)
    boundary = np.array(
        [grid[np.argmin(np.abs(slack(np.full_like(grid, beta), grid)))] for beta in fine]
    )
    share = np.clip(0.5 + 8 * margin, 0, 1)
    share = np.round(share * seeds) / seeds
    share[4, 0] = 1 - share[4, 0]
    return {
        "check": {
            "betas": betas,
            "gammas": gammas,
            "predicted_smallest_first": margin > 0,
            "measured_fraction": share,
            "boundary_gammas": boundary,
            "boundary_betas": fine,
        }
    }


def saddle_escape(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    offsets = np.log(10.0) * np.arange(2, 10)
    beta, curvature = np.array([0.1, 0.1, 0.05]), np.array([-1.0, -3.0, -1.0])
    slope = beta / -curvature
    times = slope[:, None] * (offsets - 1.2) + 0.05
    return {
        "check": {
            "log_inverse_offset": offsets,
            "escape_times": times,
            "predicted_slope": slope,
            "measured_slope": slope * 1.0003,
            "beta": beta,
            "curvature": curvature,
        }
    }


def local_rate(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    beta = np.array([0.1, 0.01, 0.001])
    times = np.linspace(0, 16, 81) * beta[:, None]
    norms = np.array([0.03, 0.02, 0.015])[:, None] * np.exp(-times / beta[:, None])
    return {
        "check": {
            "times": times,
            "gradient_norms": norms * (1 + 2 * norms),
            "predicted_rate": 1 / beta,
            "measured_rate": np.array([9.9988, 100.0003, 1000.005]),
            "beta": beta,
        }
    }


def specgd_tracks_flow(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    steps, times = np.array([0.01, 0.005, 0.0025]), np.linspace(0, 3, 301)
    drawn = np.array([0.2, 0.1, 0.05, 0.02])
    flow = np.minimum(times[:, None] + 5e-4, np.sqrt(TARGETS))
    descents = np.full((len(drawn), *flow.shape), np.nan)
    for row, step in zip(descents, drawn, strict=True):
        every = round(step / 0.01)
        taken = np.arange(0, len(times), every)
        root = np.full(len(TARGETS), 5e-4)
        for time in taken:  # the exact polar step of one mode is a step of its sign
            row[time] = root
            root = root + step * np.sign(TARGETS - root**2)
    distance = 0.8 * steps[:, None] * np.exp(0.08 * rng.standard_normal((len(steps), seeds)))
    tail = np.maximum(TARGETS - flow**2, 0) ** 2
    floor = 1.4e-3 * np.exp(0.15 * rng.standard_normal((seeds, len(times))))
    return {
        "check": {
            "step_sizes": steps,
            "distance_to_flow": distance,
            "slope": np.array(1.004),
            "slope_interval": np.array([0.985, 1.022]),
            "drawn_steps": drawn,
            "trajectory_times": times,
            "specgd_sqrt_mode_values": descents,
            "specgf_sqrt_mode_values": flow,
            "loss_times": times,
            "loss": 0.5 * tail.sum(axis=1) + floor,
            "loss_bound": np.array(3e-3),
        }
    }


def lockstep(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    times, eta = np.linspace(0, 3, 301), 0.01
    tops = np.sqrt(TARGETS)
    flow = np.minimum(times[:, None] + 5e-4, tops)
    spread = np.array([0.7, 0.85, 1.1, 0.95, 0.75])
    cycle = np.where(flow < tops, 0.0, 0.4 * eta * (-1) ** np.arange(len(times))[:, None])
    runs = {
        "specgd": flow + cycle,
        "newton_schulz": np.minimum(spread * times[:, None], tops) + cycle / 2,
        "momentum": np.minimum(spread * times[:, None], 1.1 * tops),
    }
    check = {
        "times": times,
        "specgf_sqrt_mode_values": flow,
        "aligned_bound": eta + 0.02 * np.minimum(20 * times, 1),
    }
    for name, roots in runs.items():
        distance = abs(roots - flow).max(axis=1) + 1e-3
        check[f"{name}_sqrt_mode_values"] = roots
        check[f"{name}_aligned_distance"] = np.where(times == 0, 0, distance)
        check[f"{name}_distance"] = distance * np.exp(0.3 * rng.standard_normal((seeds, 1)))
    return {"check": check}


def l2_convergence(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    times, decay = np.linspace(0, 8, 321), 0.5
    shrunk = TARGETS - decay
    starts = _starts(rng, seeds)
    roots = np.minimum(times[:, None] + starts[:, None, :], np.sqrt(shrunk))
    scale = 0.02 * np.exp(0.5 * rng.standard_normal((seeds, 1)))
    check = {
        "times": times,
        "imbalance": scale * np.exp(-2 * times / 0.8) + 1e-9,
        "singular_values": roots**2,
        "targets": TARGETS,
        "shrunk_targets": shrunk,
    }
    settle = np.minimum(roots**2 * 1.06, 0.92 * TARGETS)
    control = check | {"imbalance": scale * (1 + 0 * times) * 2, "singular_values": settle}
    return {"check": check, "control/decoupled decay": control}


EVIDENCE = {
    "usg.smallest-first": smallest_first,
    "usg.equal-rate": equal_rate,
    "usg.gf-largest-first": gf_largest_first,
    "usg.smallest-first-limit": smallest_first_limit,
    "usg.saddle-escape": saddle_escape,
    "usg.local-rate": local_rate,
    "usg.specgd-tracks-flow": specgd_tracks_flow,
    "usg.lockstep": lockstep,
    "usg.l2-convergence": l2_convergence,
    **synthetic_pairs.EVIDENCE,
    **synthetic_gauges.EVIDENCE,
    **synthetic_finetuning.EVIDENCE,
    **synthetic_sketches.EVIDENCE,
    **synthetic_riemannlora.EVIDENCE,
    **synthetic_cost.EVIDENCE,
    **synthetic_pretraining.EVIDENCE,
    **synthetic_heavy_tails.EVIDENCE,
    **synthetic_tensors.EVIDENCE,
}


def all_arrays(seeds: int = 10) -> dict[str, dict[str, Any]]:
    """Every claim's arrays, keyed as in its npz file: ``check/times``, ``control/NAME/times``."""
    result: dict[str, dict[str, Any]] = {}
    for number, (claim, make) in enumerate(EVIDENCE.items()):
        made = make(np.random.default_rng(number), seeds)
        result[claim] = {
            f"{prefix}/{name}": np.asarray(array)
            for prefix, arrays in made.items()
            for name, array in arrays.items()
        }
    return result
