"""What cannot be integrated is refused: what was given, what was expected, the nearest name."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from flows import (
    MatrixFactorization,
    gradient_flow,
    integrate,
    orthogonalized_flow,
    spectral_flow,
)

PROBLEM = MatrixFactorization.planted(m=6, n=5, singular_values=[2.0, 1.0], rank=2)
FIELD = gradient_flow(PROBLEM)
START = PROBLEM.gaussian_init(0.1, seed=0)


@pytest.mark.parametrize("rank", [0, -1, 6, 2.5])
def test_rank_beyond_the_matrix(rank: Any) -> None:
    message = (
        rf"rank: an int between 1 and min\(m, n\) = 5 is expected for a 6 x 5 target; given {rank}"
    )
    with pytest.raises(ValueError, match=message):
        MatrixFactorization.planted(m=6, n=5, singular_values=[1.0], rank=rank)
    with pytest.raises(ValueError, match=message):
        MatrixFactorization(torch.ones(6, 5, dtype=torch.float64), rank)


@pytest.mark.parametrize("l2", [-0.1, math.nan, math.inf])
def test_l2_has_to_be_nonnegative(l2: float) -> None:
    with pytest.raises(ValueError, match="l2 must be finite and >= 0"):
        MatrixFactorization.planted(m=6, n=5, singular_values=[1.0], rank=1, l2=l2)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.full((3, 3), math.nan), "target must be finite, got 9 NaN"),
        (torch.ones(3), "target must have shape"),
        (torch.ones(2, 3, 3), r"one \(m, n\) matrix is expected; given \(2, 3, 3\)"),
        (torch.ones(3, 3, dtype=torch.long), "floating-point dtype"),
        ([[1.0]], "must be a torch.Tensor"),
    ],
)
def test_targets(target: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatrixFactorization(target, rank=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.0], "descending order"),
        ([1.0, -1.0], "positive numbers"),
        ([1.0, 0.0], "positive numbers"),
        ([1.0, math.nan], "positive numbers"),
        ([], "between 1 and"),
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.5], r"between 1 and min\(m, n\) = 5"),
    ],
)
def test_planted_singular_values(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatrixFactorization.planted(m=6, n=5, singular_values=values, rank=1)


def test_factored_targets_have_orthonormal_factors() -> None:
    sigma = torch.tensor([2.0, 1.0], dtype=torch.float64)
    with pytest.raises(ValueError, match="left: orthonormal columns are expected"):
        MatrixFactorization.from_factors(2 * PROBLEM.left, sigma, PROBLEM.right, 1)
    with pytest.raises(ValueError, match=r"right: shape \(..., 2\)"):
        MatrixFactorization.from_factors(PROBLEM.left, sigma, PROBLEM.right[:, :1], 1)


@pytest.mark.parametrize("gamma", [-1e-3, math.nan, math.inf])
def test_scales_of_starts_are_nonnegative(gamma: float) -> None:
    for start in (
        PROBLEM.lora_init,
        PROBLEM.gaussian_init,
        PROBLEM.orthogonal_init,
        PROBLEM.balanced_init,
    ):
        with pytest.raises(ValueError, match=r"(gamma|scale) must be finite and >= 0"):
            start(gamma)
    with pytest.raises(ValueError, match="at least one seed"):
        PROBLEM.lora_init(1.0, seed=[])


@pytest.mark.parametrize("modes", [[0, 2], [0], [0, -1], [1, 1]])
def test_aligned_starts_name_modes_of_the_target(modes: list[int]) -> None:
    ones = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="aligned start"):
        PROBLEM.aligned_init(ones, ones, modes)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.0, 0.5], "ascending numbers are expected; given 1 before 0.5 at position 0"),
        ([0.5, 0.5], "ascending"),
        ([-1.0, 1.0], "none negative"),
        ([0.0], "the last positive"),
        ([], "numbers in a row"),
        ([[1.0]], "numbers in a row"),
        (1.0, "numbers in a row"),
        ([1.0, math.nan], "times must be finite"),
        ([1.0, math.inf], "times must be finite"),
    ],
)
def test_times(times: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        integrate(FIELD, START, times)


def test_unknown_methods_offer_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown method 'dormand_price'.*'dormand_prince'\?"):
        integrate(FIELD, START, [1.0], method="dormand_price")


@pytest.mark.parametrize("method", ["euler", "runge_kutta_4"])
def test_methods_without_an_estimate_need_a_step(method: str) -> None:
    with pytest.raises(ValueError, match=rf"{method}.*needs a fixed step"):
        integrate(FIELD, START, [1.0], method=method)


def test_fields_that_jump_take_no_adaptive_method() -> None:
    for field in (
        spectral_flow(PROBLEM, 0.0),
        spectral_flow(PROBLEM, torch.zeros(1, dtype=torch.float64)),
        orthogonalized_flow(PROBLEM, "muon", 5),
        orthogonalized_flow(PROBLEM, "svd", 1),
    ):
        with pytest.raises(ValueError, match="the field jumps"):
            integrate(field, START, [1.0])


@pytest.mark.parametrize("name", ["rtol", "atol"])
@pytest.mark.parametrize("value", [0.0, -1e-6, math.nan])
def test_tolerances_are_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be finite and > 0"):
        integrate(FIELD, START, [1.0], **{name: value})  # type: ignore[arg-type]


def test_starts_of_the_wrong_kind() -> None:
    B, A = START
    wrong = [
        ((B.mT, A), r"B: shape \(..., 6, 2\) is expected"),
        ((B, A[:, :4]), r"A: shape \(..., 2, 5\) is expected.*given \(2, 4\)"),
        ((B.to(torch.float32), A), "B: the problem's torch.float64 on cpu is expected"),
        ((B, A.to(torch.float32)), "A: the problem's torch.float64.*given torch.float32"),
        ((B.expand(3, 6, 2), A), r"same leading batch dimensions.*\(3,\) and \(\)"),
        ((B, torch.full_like(A, math.nan)), "A must be finite, got 10 NaN"),
        ((torch.full_like(B, math.inf), A), "B must be finite"),
        ((B[0], A), r"B must have shape \(..., m, n\)"),
    ]
    for start, message in wrong:
        with pytest.raises(ValueError, match=message):
            integrate(FIELD, start, [1.0])


def test_a_problem_is_no_field() -> None:
    message = r"such as spectral_flow\(problem, beta\), is expected; given MatrixFactorization"
    with pytest.raises(ValueError, match=message):
        integrate(PROBLEM, START, [1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("tolerances", [{"rtol": 1e-6}, {"atol": 1e-8}])
def test_a_fixed_step_controls_no_error(tolerances: dict[str, Any]) -> None:
    message = rf"given step = 0.1 and {next(iter(tolerances))}"
    with pytest.raises(ValueError, match=message):
        integrate(FIELD, START, [1.0], method="euler", step=0.1, **tolerances)
