"""Single precision: the same laws, to the accuracy that 24 bits allow."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from flows import Field, MatrixFactorization, Trajectory, gradient_flow, integrate, spectral_flow

Build = Callable[[MatrixFactorization], Field]
FIELDS: dict[str, tuple[Build, float]] = {
    "gradient flow": (gradient_flow, 8.0),
    "gram": (lambda problem: spectral_flow(problem, 0.1, route="gram"), 3.0),
    "svd": (lambda problem: spectral_flow(problem, 0.02, route="svd"), 3.0),
    "auto": (lambda problem: spectral_flow(problem, 0.02), 3.0),
}


def planted(dtype: torch.dtype, device: torch.device | str = "cpu") -> MatrixFactorization:
    return MatrixFactorization.planted(
        m=8, n=9, singular_values=[2.0, 1.5, 1.0], rank=3, dtype=dtype, device=device
    )


@cache
def reference(name: str) -> Trajectory:
    build, end = FIELDS[name]
    problem = planted(torch.float64)
    times = torch.linspace(0, end, 16, dtype=torch.float64)
    return integrate(
        build(problem), problem.lora_init(1e-2, seed=[0, 1]), times, rtol=1e-9, arrivals=(0.5,)
    )


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("rtol", [1e-4, 1e-5])
def test_single_precision_meets_the_tolerance(name: str, rtol: float, device: torch.device) -> None:
    build, _ = FIELDS[name]
    exact = reference(name)
    problem = planted(torch.float32, device)
    start = problem.lora_init(1e-2, seed=[0, 1])
    rough = integrate(
        build(problem), start, exact.times, rtol=rtol, atol=1e-2 * rtol, arrivals=(0.5,)
    )
    assert rough.states.dtype is torch.float32
    assert rough.arrival_times(0.5).dtype is torch.float32
    # 5 for the tolerance, as in double precision, and what rounding each step by 6e-8 adds up to.
    bound = 5 * rtol + 1e-5
    assert float((rough.products.cpu().double() - exact.products).abs().max()) <= bound
    assert float((rough.mode_values.cpu().double() - exact.mode_values).abs().max()) <= bound
    arrivals = rough.arrival_times(0.5).cpu().double() - exact.arrival_times(0.5)
    assert float(arrivals.abs().max()) <= 10 * bound


def test_auto_never_takes_the_gram_matrix_of_a_small_beta_in_single_precision() -> None:
    # u (||G|| / beta)^2 exceeds 1e-8 in float32 whatever the beta of interest.
    problem = planted(torch.float32)
    B, A = problem.gaussian_init(0.5, seed=0)
    auto, svd = (spectral_flow(problem, 0.1, route=route)(B, A)[0] for route in ("auto", "svd"))
    assert torch.equal(auto, svd)


@pytest.mark.parametrize("count", [3, 7, 10, 31, 97, 333])
@pytest.mark.parametrize("step", [0.01, 0.1, 0.3])
def test_rounded_multiples_of_a_step_are_multiples(count: int, step: float) -> None:
    problem = planted(torch.float32)
    times = torch.linspace(0, count * step, count + 1)
    trajectory = integrate(
        spectral_flow(problem, 0.0), problem.lora_init(1e-2), times, method="euler", step=step
    )
    assert trajectory.work.accepted.tolist() == [count]
    assert bool(torch.isfinite(trajectory.states).all())


def test_euler_in_single_precision_is_the_optimiser() -> None:
    single, double = planted(torch.float32), planted(torch.float64)
    times = 0.1 * torch.arange(31, dtype=torch.float64)
    rough, exact = (
        integrate(
            gradient_flow(problem),
            problem.gaussian_init(0.3, seed=0),
            times,
            method="euler",
            step=0.1,
        ).products
        for problem in (single, double)
    )
    assert float((rough.double() - exact).abs().max()) <= 1e-5


def test_the_default_tolerance_fits_the_dtype() -> None:
    problem = planted(torch.float32)
    start = problem.lora_init(1e-2, seed=[0, 1])
    rough = integrate(spectral_flow(problem, 0.1), start, [1.0])
    exact = planted(torch.float64)
    fine = integrate(spectral_flow(exact, 0.1), exact.lora_init(1e-2, seed=[0, 1]), [1.0])
    assert float((rough.products.double() - fine.products).abs().max()) <= 1e-4
    assert int(rough.work.evaluations.max()) < int(fine.work.evaluations.max())


def test_tolerances_below_round_off_are_refused() -> None:
    problem = planted(torch.float32)
    start = problem.lora_init(1e-2, seed=0)
    with pytest.raises(
        ValueError, match=r"rtol: at least 9\.5e-07, 8 eps, is expected.*given 1e-09"
    ):
        integrate(gradient_flow(problem), start, [1.0], rtol=1e-9)
