"""What a user hands in beside plain floats: parameters, numpy's numbers, and much that is wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from flows import (
    MatrixFactorization,
    gradient_flow,
    integrate,
    orthogonalized_flow,
    spectral_flow,
)

PROBLEM = MatrixFactorization.planted(m=7, n=6, singular_values=[2.0, 1.0], rank=2)
START = PROBLEM.gaussian_init(0.1, seed=0)
FIELD = spectral_flow(PROBLEM, 0.1)
TIMES = [0.0, 0.5, 1.0]


def run(**given: Any) -> Any:
    return integrate(FIELD, START, TIMES, **{"rtol": 1e-6, "kernel": "plain", **given})


@pytest.mark.parametrize("reduce", [True, False])
def test_parameters_start_a_flow_by_their_values(reduce: bool) -> None:
    B, A = (Parameter(x.clone()) for x in START)
    given = {"rtol": 1e-6, "kernel": "plain", "reduce": reduce}
    found = integrate(FIELD, (B, A), torch.tensor(TIMES, requires_grad=True), **given)  # type: ignore[arg-type]
    expected = integrate(FIELD, START, TIMES, **given)  # type: ignore[arg-type]
    assert torch.equal(found.states, expected.states)
    assert not found.singular_values.requires_grad


def test_a_target_that_is_a_parameter_is_read() -> None:
    Y = PROBLEM.dense_target()
    found, expected = (MatrixFactorization(x, rank=2) for x in (Parameter(Y), Y))
    paths = [
        integrate(spectral_flow(p, 0.1), START, TIMES, rtol=1e-6, kernel="plain")
        for p in (found, expected)
    ]
    assert torch.equal(paths[0].loss, paths[1].loss)


@pytest.mark.parametrize("kernel", ["plain", "auto"])
def test_a_target_of_zero_pulls_a_start_to_it(kernel: Any) -> None:
    problem = MatrixFactorization(torch.zeros(4, 3, dtype=torch.float64), rank=1)
    start = problem.gaussian_init(0.5, seed=0)
    path = integrate(spectral_flow(problem, 0.1), start, [0.0, 20.0], rtol=1e-6, kernel=kernel)
    assert path.loss[-1] < 1e-3 * path.loss[0]
    assert path.arrival_times(0.9).shape == (0,)


@pytest.mark.parametrize(
    ("beta", "dtype", "message"),
    [
        # Of float32 this was the exact polar factor, another field.
        (1e-50, torch.float32, "from 1.18e-38 to 3.4e[+]38 in torch.float32.*given 1e-50"),
        # The compiled kernel ran for ever.
        (1e200, torch.float64, "from 2.23e-308 to 1e[+]150 in torch.float64.*given 1e[+]200"),
        ([0.1, 1e-320], torch.float64, "given 9.99989e-321"),
        ([], torch.float64, "one number, or one a lane, is expected; given none"),
        (None, torch.float64, "one number, or one a lane, is expected; given None"),
        ("0.1", torch.float64, "one number, or one a lane, is expected; given '0.1'"),
    ],
)
def test_a_scale_is_a_number_of_the_problem(beta: Any, dtype: torch.dtype, message: str) -> None:
    with pytest.raises(ValueError, match=f"beta: .*{message}"):
        spectral_flow(PROBLEM.to(dtype=dtype), beta)


def test_scales_may_be_of_any_size_in_between() -> None:
    for beta in (1e-300, 1e150):
        velocity = spectral_flow(PROBLEM, beta)(*START)
        assert all(bool(torch.isfinite(x).all()) for x in velocity)
    for kernel in ("plain", "auto"):
        path = integrate(spectral_flow(PROBLEM, 1e150), START, [1.0], kernel=kernel)
        torch.testing.assert_close(path.loss[0], PROBLEM.loss(*START), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("fraction", [torch.tensor(0.9), np.float32(0.9), 1])
def test_a_fraction_may_be_any_number(fraction: Any) -> None:
    found, expected = (run().arrival_times(f) for f in (fraction, float(fraction)))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("seed", [np.int64(3), torch.tensor(3), 3])
def test_a_seed_may_be_any_integer(seed: Any) -> None:
    assert torch.equal(PROBLEM.lora_init(1.0, seed)[1], PROBLEM.lora_init(1.0, seed=3)[1])


@pytest.mark.parametrize("seed", [np.arange(3), torch.arange(3), (0, 1, 2)])
def test_seeds_may_be_any_integers(seed: Any) -> None:
    assert torch.equal(PROBLEM.lora_init(1.0, seed)[1], PROBLEM.lora_init(1.0, range(3))[1])


@pytest.mark.parametrize("seed", [1.5, "ab", None, [0.5], True, 2**64])
def test_other_seeds_are_told(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed: an int"):
        PROBLEM.lora_init(1.0, seed)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arrivals": 0.9}, r"arrivals: fractions in a row, such as \(0.9,\), are expected; given"),
        ({"arrivals": "ab"}, "arrivals: fractions in a row"),
        ({"arrivals": ["a"]}, "arrivals must be a number, got str 'a'"),
        ({"max_steps": 0}, "max_steps must be a positive int, got 0"),
        ({"max_steps": -1}, "max_steps must be a positive int"),
        ({"max_steps": math.nan}, "max_steps must be a positive int"),
        ({"rtol": "a"}, "rtol must be a number, got str 'a'"),
        ({"rtol": [1e-6]}, "rtol must be a number, got list"),
        ({"rtol": None, "step": "a"}, "step must be a number, got str 'a'"),
    ],
)
def test_other_arguments_are_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**given)


@pytest.mark.parametrize("times", [None, "ab", {1.0}, (x for x in [1.0])])
def test_times_are_numbers_in_a_row(times: Any) -> None:
    with pytest.raises(ValueError, match="times: numbers in a row are expected; given"):
        integrate(FIELD, START, times)


@pytest.mark.parametrize("start", [None, START[0], (START[0],), [*START, START[0]]])
def test_a_start_is_a_pair(start: Any) -> None:
    with pytest.raises(ValueError, match=r"start: \(B, A\) is expected; given"):
        integrate(FIELD, start, TIMES)


def test_tolerances_may_be_tensors() -> None:
    assert torch.equal(run(rtol=torch.tensor(1e-6, dtype=torch.float64)).loss, run().loss)


def test_a_field_is_told_what_it_cannot_be_asked_at() -> None:
    B, A = START
    cases: list[tuple[Tensor, Tensor, str]] = [
        (A, B, r"B: shape \(..., 7, 2\) is expected for a 7 x 6 target and rank 2"),
        (B.float(), A.float(), "B: the problem's torch.float64 on cpu is expected"),
        (B.expand(3, 7, 2), A, "the same leading batch dimensions"),
    ]
    for wrong_B, wrong_A, message in cases:
        with pytest.raises(ValueError, match=message):
            FIELD(wrong_B, wrong_A)


def test_orthogonalisers_of_fields_are_known() -> None:
    with pytest.raises(ValueError, match=r"unknown method 'muo'.*did you mean 'muon'"):
        orthogonalized_flow(PROBLEM, "muo", 5)
    with pytest.raises(ValueError, match="steps must be a positive int"):
        orthogonalized_flow(PROBLEM, "muon", 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_problems_are_of_dtypes_that_can_be_factorised(dtype: torch.dtype) -> None:
    message = f"dtype: float32 or float64 is expected; given {dtype}"
    with pytest.raises(ValueError, match=message):
        MatrixFactorization(torch.eye(3, dtype=dtype), rank=1)
    with pytest.raises(ValueError, match=message):
        MatrixFactorization.planted(m=4, n=3, singular_values=[1.0], rank=1, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        PROBLEM.to(dtype=dtype)


def test_singular_values_are_finite_numbers_in_a_row() -> None:
    U, V = PROBLEM.left, PROBLEM.right
    for wrong in (2.0, "ab", [[2.0, 1.0]], [math.inf, 1.0]):
        with pytest.raises(ValueError, match="singular_values"):
            MatrixFactorization.planted(m=7, n=6, singular_values=wrong, rank=2)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="singular_values"):
            MatrixFactorization.from_factors(U, wrong, V, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="right: the dtype and device of left"):
        MatrixFactorization.from_factors(U, PROBLEM.singular_values, V.float(), 2)
    with pytest.raises(ValueError, match=r"m must be a positive int, got 7.0"):
        MatrixFactorization.planted(m=7.0, n=6, singular_values=[1.0], rank=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [[2, 1], torch.tensor([2, 1]), torch.tensor([2.0, 1.0])])
def test_singular_values_have_the_dtype_of_the_vectors(values: Any) -> None:
    problem = MatrixFactorization.from_factors(PROBLEM.left, values, PROBLEM.right, rank=1)
    assert problem.singular_values.dtype == torch.float64
    assert problem.optimal_loss == 0.5


def test_strengths_of_aligned_starts_are_finite() -> None:
    ones = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="b must be finite"):
        PROBLEM.aligned_init(ones * math.nan, ones)
    with pytest.raises(ValueError, match=r"a must be a torch.Tensor, got list"):
        PROBLEM.aligned_init(ones, [1.0, 1.0])  # type: ignore[arg-type]


def test_gradient_flow_is_not_differentiated_either() -> None:
    B, A = (Parameter(x.clone()) for x in START)
    path = integrate(gradient_flow(PROBLEM), (B, A), [1.0], method="euler", step=0.25)
    assert not path.loss.requires_grad
