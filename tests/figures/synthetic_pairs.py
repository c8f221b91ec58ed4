"""Evidence of the claims on LoRA pairs as it is recorded: from the laws that they state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
GAUGES = ("c = 9", "c = 1000", "orthogonal", "condition 10", "condition 100", "condition 1000")
CONDITIONS = np.array([1.0, 1.0, 1.0, 10.0, 100.0, 1000.0])
ROUND_OFF = {"float64": 2.0**-53, "float32": 2.0**-24}


def spread(rng: np.random.Generator, level: Array, seeds: int, by: float = 0.05) -> Array:
    """``level`` (...) of every member (..., seeds), a few percent apart."""
    return np.asarray(level[..., None] * np.exp(by * rng.standard_normal((*level.shape, seeds))))


def _by_gauge(**arrays: Array) -> Arrays:
    return {"gauge": np.array(GAUGES), "condition": CONDITIONS, **arrays}


def gauge(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    levels = {
        "Spectron": np.array([6e-3, 6e-3, 0, 6e-3, 7e-3, 7e-3]),
        "Muon on each factor": np.array([1, 120, 0, 0.4, 4, 40]),
        "signs": np.array([4, 500, 0.8, 3, 30, 340]),
    }

    def recorded(level: Array | None) -> Arrays:
        arrays = _by_gauge()
        for dtype, u in ROUND_OFF.items():
            rounding = (0.2 + 1.3 / CONDITIONS) * u * CONDITIONS
            size = rounding if level is None else np.maximum(level, rounding)
            arrays[f"difference, {dtype}"] = spread(rng, size, seeds)
            arrays[f"round-off, {dtype}"] = u * CONDITIONS
            arrays[f"bound, {dtype}"] = 72 * u * CONDITIONS
        return arrays

    controls = {f"control/{name}": recorded(level) for name, level in levels.items()}
    return {"check": recorded(None), **controls}


def gauge_damping(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    levels = np.array([np.nan, np.nan, np.nan, 2.3e-4, 2.2e-2, 0.28])
    claimed: Arrays = {"level": levels, "band": levels[:, None] * np.array([1 / 3, 3])}
    exact = 2e-14 * CONDITIONS**0.7
    relative = np.where(np.isnan(levels), exact, levels)
    absolute = np.array([5e-4, 0.5, 3e-14, 1.6e-4, 1.3e-2, 0.19])
    rows = {
        "check": relative,
        "control/exact numerics": exact,
        "control/absolute damping": absolute,
    }
    return {
        name: _by_gauge(share=spread(rng, level, seeds), **claimed) for name, level in rows.items()
    }


def tangent_optimum(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    ranks = np.array([1, 2, 4, 8, 16])
    split = spread(rng, np.array([0.51, 0.53, 0.55, 0.61, 0.79]), seeds, 0.02)
    size = np.array([0.57, 0.71, 0.82, 0.92, 1.0])
    projected = 1 - spread(rng, np.array([0.03, 0.07, 0.09, 0.09, 0.11]), seeds)
    check = {
        "ranks": ranks,
        "split": split,
        "unit": split / size[:, None],
        "projected": projected,
    }
    full = {name: np.ones((1, seeds)) for name in ("split", "unit", "projected")}
    return {"check": check, "control/r = n": {"ranks": np.array([24]), **full}}


def rank_step_scale(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    ranks = 2 ** np.arange(8)
    share = np.sqrt(ranks / ranks[-1])
    rows = {
        "check": 0.5 + 0.5 * share,
        "control/Muon on each factor": 1 + 2.2 * share,
        "control/signs": 11 + 52 * share,
    }
    return {
        name: {"ranks": ranks, "sizes": spread(rng, level, seeds, 0.02)}
        for name, level in rows.items()
    }


def not_invariant(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    scales = 3.0 ** np.arange(-4, 5)
    larger = np.maximum(scales, 1 / scales)
    spectron = spread(rng, 1 - 0.55 / larger**0.8, seeds, 0.01)
    lora_muon = np.broadcast_to(spread(rng, np.array(0.77), seeds), (len(scales), seeds))
    return {
        "check": {"scales": scales, "sizes": spectron},
        "control/LoRA-Muon": {"scales": scales, "sizes": lora_muon},
    }


def zero_init_kick(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    rates = np.array([0.1, 0.01, 0.001])
    moves = spread(rng, np.array([0, 1, 0.39, 0.26, 0.2, 0.16]), seeds, 0.02)
    in_proportion = rates[:, None] * np.ones(6)
    damped = 0.6 * in_proportion
    damped[:, 0] = 0
    return {
        "check": {"rates": rates, "shares": np.stack([moves] * 3)},
        "control/Gaussian start": {
            "rates": rates,
            "shares": spread(rng, 6.7e-3 * in_proportion, seeds),
        },
        "control/absolute damping": {"rates": rates, "shares": spread(rng, damped, seeds)},
    }


def two_forms(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    arrays: Arrays = {}
    for (dtype, u), top in zip(ROUND_OFF.items(), (26, 12), strict=True):
        condition = 2.0 * 2.0 ** np.arange(0, top + 1, 2)
        levels = {
            "QR form": 4 * u + 0.3 * u * condition,
            "root of the factor": 4 * u + 0.5 * u * condition,
            "root of the Gram matrix": np.minimum(4 * u + 0.2 * u * condition**2, 0.5),
        }
        arrays[f"condition, {dtype}"] = condition
        for name, level in levels.items():
            arrays[f"{name}, {dtype}"] = spread(rng, level, seeds)
    return {"check": arrays}


def _curves(rng: np.random.Generator, seeds: int, best: Array, least: Array) -> Arrays:
    """Parabolas in log rate, the last with a rate less and a run that diverged."""
    rates = np.tile(10.0 ** np.arange(-2, 0.25, 0.25), (len(best), 1))
    losses = spread(rng, least[:, None] + 0.4 * np.log10(rates / best[:, None]) ** 2, seeds, 0.01)
    rates[-1, -1], losses[-1, -1] = np.nan, np.nan
    losses[-1, -2, 0] = np.nan
    return {
        "rates": rates,
        "losses": losses,
        "best": best[:, None] * np.array([1.0, 0.8, 1.3]),
        "ranks": np.zeros(len(best), dtype=int),
        "widths": np.full(len(best), 64),
        "depths": np.full(len(best), 2),
        "rescalings": np.ones(len(best)),
        "at_edge": np.zeros(len(best), dtype=bool),
    }


def _grouped(rows: dict[str, Arrays]) -> Arrays:
    """Arrays of several contestants, those of all but the first after its name and a slash."""
    return {
        (f"{group}/{name}" if number else name): values
        for number, (group, arrays) in enumerate(rows.items())
        for name, values in arrays.items()
    }


def lr_transfer_rank(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    ranks = np.array([0, 2, 8, 32])
    least = np.array([0.9, 1.5, 1.3, 1.0])
    moves = {"LoRA-Muon": 0.1, "Muon on each factor": 0.04, "Spectron": 0.2, "AdamW": 0.015}
    rows = {
        name: _curves(rng, seeds, best * np.array([1, 1.3, 0.8, 0.9]), least) | {"ranks": ranks}
        for name, best in moves.items()
    }
    return {"check": _grouped(rows)}


def lr_transfer_size(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    sizes = {"widths": np.array([64, 32, 128, 64]), "depths": np.array([2, 2, 2, 4])}
    least = np.array([1.2, 1.4, 1.0, 1.1])
    ones = np.ones(4)
    return {
        "check": _curves(rng, seeds, 0.1 * ones, least) | sizes,
        "control/AdamW": _curves(rng, seeds, 0.02 * sizes["widths"] ** -0.5, least) | sizes,
    }


def best_rate_rescaling(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    scales, least = np.array([1.0, 3.0, 9.0, 27.0]), np.full(4, 1.2)
    moves = {"LoRA-Muon": 0.0, "Spectron": -0.3, "AdamW": -0.3, "Muon on each factor": -0.7}
    rows = {
        name: _curves(rng, seeds, 0.1 * scales**power, least) | {"rescalings": scales}
        for name, power in moves.items()
    }
    controls = {f"control/{name}": rows.pop(name) for name in ("Muon on each factor", "AdamW")}
    return {"check": _grouped(rows), **controls}


def adapter_step_time(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    contestants = [
        "LoRA-Muon",
        "LoRA-Muon, matrix products",
        "LoRA-RITE's core",
        "LoRA-RITE's core, matrix products",
        "LoRA-RITE",
    ]
    sizes, ranks = np.array([1024, 2048]), np.array([4, 16, 64])
    factor = sizes[:, None, None] * ranks[:, None]
    work = 5e-4 + 2e-9 * factor * ranks[:, None] ** 0.5
    seconds = work * np.array([1, 1.2, 1.5, 1.9, 1.4]) * np.exp(0.01 * rng.random((2, 3, 5)))
    return {
        "check": {
            "sizes": sizes,
            "ranks": ranks,
            "contestants": np.array(contestants),
            "seconds": seconds,
            "seconds_interval": seconds[..., None] * np.array([0.97, 1.04]),
            "kept": 2.0 * factor * np.array([1, 1, 1, 1, 2.01]),
            "largest_bytes": 8.0 * factor * np.ones(5),
            "dense_seconds": np.array([0.19, np.nan]),
            "dense_kept": np.array([1024.0**2, np.nan]),
            "dense_largest_bytes": np.array([4 * 1024.0**2, np.nan]),
        }
    }


EVIDENCE = {
    "lora-muon.split-is-not-tangent-optimum": tangent_optimum,
    "lora-muon.gauge": gauge,
    "lora-muon.gauge-damping": gauge_damping,
    "lora-muon.qr-equals-gram": two_forms,
    "lora-muon.rank-step-scale": rank_step_scale,
    "lora-muon.zero-init-kick": zero_init_kick,
    "spectron.not-invariant": not_invariant,
    "lora-muon.lr-transfer-rank": lr_transfer_rank,
    "lora-muon.lr-transfer-width-depth": lr_transfer_size,
    "lora-muon.best-rate-rescaling": best_rate_rescaling,
    "lora-muon.adapter-step-time": adapter_step_time,
}
