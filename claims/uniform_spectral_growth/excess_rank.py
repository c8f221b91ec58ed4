"""More columns than the target has modes: harmless without noise, worse than GF with it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array, geometric_mean_with_interval
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.toy import GAMMA, PAPER, REFERENCE, toy
from flows import Field, MatrixFactorization, gradient_flow, spectral_flow
from geometry.gauge import Pair

BETA = 0.01
SIGNAL = (5.0, 4.0, 3.0)
NOISE = 0.02
EXCESS, EXACT = 8, 3
SPECTRAL_END, GRADIENT_END = 3.0, 12.0


def _best_clean_error(
    setting: Setting, field: Field, signal: Tensor, end: float, seed: int
) -> float:
    """The smallest ||W(t) - signal||_F / ||signal||_F over time: the best stopping time's."""
    grid = torch.linspace(0.0, end, setting["times"], dtype=torch.float64)
    start = field.problem.lora_init(GAMMA, seed=[seed])
    path = integrate_there(setting, field, start, grid, rtol=1e-6, atol=1e-9)
    norm = torch.linalg.matrix_norm
    return float((norm(path.products - signal) / norm(signal)).min())


def _clean_errors(setting: Setting, rank: int) -> Array:
    """Best clean errors of SpecGF and of GF, (seeds, 2), each seed with its own noise."""
    m, n = setting["shape"]
    errors = []
    for seed in setting.seeds(setting["seeds"]):
        planted = MatrixFactorization.planted(
            m=m, n=n, singular_values=SIGNAL, rank=len(SIGNAL), seed=seed
        )
        signal = planted.dense_target()
        generator = torch.Generator().manual_seed(seed)
        noise = NOISE * torch.randn(m, n, generator=generator, dtype=torch.float64)
        problem = MatrixFactorization(signal + noise, rank=rank)
        errors.append(
            [
                _best_clean_error(setting, field, signal, end, seed)
                for field, end in (
                    (spectral_flow(problem, BETA), SPECTRAL_END),
                    (gradient_flow(problem), GRADIENT_END),
                )
            ]
        )
    return np.array(errors)


def _noisy(setting: Setting, rank: int) -> Evidence:
    errors = _clean_errors(setting, rank)
    mean, lower, upper = geometric_mean_with_interval(errors[:, 0] / errors[:, 1])
    name = "best clean error, SpecGF over GF, lower end of the interval of the mean ratio"
    remark = (
        f"Rank {rank}: mean best clean error {errors[:, 0].mean():.4f} under SpecGF, "
        f"{errors[:, 1].mean():.4f} under GF; ratio {mean:.3f}, 95% interval "
        f"[{lower:.3f}, {upper:.3f}] over {len(errors)} draws of the noise."
    )
    return Evidence(
        (Measurement(name, lower, ">=", 1.1),), {"best_clean_errors": errors}, (remark,)
    )


def _noiseless(setting: Setting, start: Pair) -> Evidence:
    """In the factors themselves: the reduction has no room for more than rank Y modes."""
    problem = toy(setting.seed, rank=EXCESS)
    grid = torch.linspace(0.0, SPECTRAL_END, 61, dtype=torch.float64)
    path = integrate_there(
        setting, spectral_flow(problem, BETA), start, grid, rtol=1e-6, atol=1e-9, reduce=False
    )
    spurious = path.singular_values[..., len(problem.singular_values) :]
    name = "largest sixth singular value of W, r = 8, rank Y = 5"
    return Evidence(
        (Measurement(name, float(spurious.max()), "<=", 1e-13),),
        {"times": grid.numpy(), "spurious": spurious.numpy()},
    )


def check_excess_rank(setting: Setting) -> Evidence:
    """Without noise no spurious mode appears; with noise SpecGF fits it at the signal's own rate.

    From a LoRA start B's columns stay in span U (usg.reduction with B0 = 0), so W has rank at most
    k whatever r is. With noise every direction is a target: GF grows modes in the order of their
    size and can be stopped before the noise, while SpecGF grows all of them at unit rate and has
    fitted the small ones first.
    """
    problem = toy(setting.seed, rank=EXCESS)
    start = problem.lora_init(GAMMA, seed=setting.seeds(setting["seeds"]))
    noiseless, noisy = _noiseless(setting, start), _noisy(setting, EXCESS)
    return Evidence(
        noiseless.measurements + noisy.measurements,
        {**noisy.arrays, **noiseless.arrays},
        noisy.remarks,
    )


def control_gaussian_start(setting: Setting) -> Evidence:
    """No noise, but both factors Gaussian: B has columns outside of span U, as small as gamma."""
    problem = toy(setting.seed, rank=EXCESS)
    start = problem.gaussian_init(GAMMA, seed=setting.seeds(setting["seeds"]))
    return _noiseless(setting, start)


def control_exact_rank(setting: Setting) -> Evidence:
    """r = 3, the rank of the signal: there is no room for noise, and the flows are even."""
    return _noisy(setting, EXACT)


CLAIMS = (
    Claim(
        id="usg.excess-rank",
        paper=PAPER,
        title="Excess rank: no spurious modes, but no protection from noise",
        statement=(
            r"With $r > \operatorname{rank} Y$ and no noise SpecGF grows no spurious mode; with "
            r"noise its best clean error $\min_t \|W(t) - Y_{\text{clean}}\|_F$ is worse than "
            r"gradient flow's."
        ),
        reference=REFERENCE,
        source="paper",
        setup="noiseless: 60 x 70, sigma = 5, 4, 3, 2, 1, r = 8, not reduced; noisy: sigma = 5, 4, "
        "3 with Gaussian entries of .02 added, r = 8; LoRA start gamma = 1e-3, beta .01",
        criterion="sixth singular value at most 1e-13; the interval of the ratio of best clean "
        "errors, SpecGF over GF, above 1.1",
        check=check_excess_rank,
        devices=DEVICES,
        controls={
            "Gaussian start": control_gaussian_start,
            "rank of the signal": control_exact_rank,
        },
        tiers={
            "quick": {"seeds": 4, "shape": (30, 35), "times": 151},
            "full": {"seeds": 24, "shape": (60, 70), "times": 301},
        },
    ),
)
