"""The global minimum: its loss, spectrum, curvature and the gap to the saddles, by Hessians."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
import torch
from torch import Tensor

from flows import MatrixFactorization

# (sigma, rank, l2) for a 5 x 6 target: a fit that is exact, too poor, too rich; a regulariser that
# keeps all modes, drops the last, lies between kept and dropped, and drops everything.
CASES: list[tuple[Sequence[float], int, float]] = [
    ([3.0, 2.0, 1.0], 3, 0.0),
    ([3.0, 2.0, 1.0], 2, 0.0),
    ([3.0, 2.0, 1.0], 1, 0.0),
    ([3.0, 2.0, 1.0], 4, 0.0),
    ([3.0, 2.0, 1.0], 3, 0.3),
    ([3.0, 2.0, 1.0], 2, 0.3),
    ([3.0, 2.0, 1.0], 2, 1.9),
    ([3.0, 2.0, 1.0], 3, 1.6),
    ([3.0, 2.0, 1.0], 4, 0.3),
    ([3.0, 2.0, 1.0], 3, 0.6),
    ([3.0, 2.0, 1.9], 2, 1.95),
    ([1.0], 1, 0.4),
    ([1.0, 0.5], 2, 1.5),
]


def problem_of(sigma: Sequence[float], rank: int, l2: float) -> MatrixFactorization:
    return MatrixFactorization.planted(m=5, n=6, singular_values=sigma, rank=rank, l2=l2, seed=2)


def critical_point(problem: MatrixFactorization, modes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The balanced factors that keep ``modes``, each shrunk by l2."""
    B = torch.zeros(problem.shape[0], problem.rank, dtype=torch.float64)
    A = torch.zeros(problem.rank, problem.shape[1], dtype=torch.float64)
    for column, mode in enumerate(modes):
        root = float(problem.singular_values[mode] - problem.l2) ** 0.5
        B[:, column] = root * problem.left[:, mode]
        A[column] = root * problem.right[:, mode]
    return B, A


def numeric_loss(problem: MatrixFactorization, B: Tensor, A: Tensor) -> Tensor:
    target = (problem.left * problem.singular_values) @ problem.right.mT
    squares = (B**2).sum() + (A**2).sum()
    return 0.5 * ((B @ A - target) ** 2).sum() + 0.5 * problem.l2 * squares


def hessian_eigenvalues(problem: MatrixFactorization, B: Tensor, A: Tensor) -> Tensor:
    size = B.numel()

    def flat(x: Tensor) -> Tensor:
        return numeric_loss(problem, x[:size].view_as(B), x[size:].view_as(A))

    hessian = torch.autograd.functional.hessian(flat, torch.cat([B.flatten(), A.flatten()]))
    return torch.linalg.eigvalsh(hessian)


def keepable(problem: MatrixFactorization) -> list[int]:
    return [i for i, s in enumerate(problem.singular_values.tolist()) if s > problem.l2]


def orbit_dimension(problem: MatrixFactorization, kept: int) -> int:
    """Dimension of the set of minima at a balanced one, where the Hessian vanishes.

    Without a regulariser it is the orbit of GL(r) for r kept modes (r^2), with one that of O(r),
    which moves the kept columns only: j (j - 1) / 2 rotations within and j (r - j) with the spare.
    """
    rank = problem.rank
    return rank**2 if problem.l2 == 0 else kept * (kept - 1) // 2 + kept * (rank - kept)


@pytest.mark.parametrize(("sigma", "rank", "l2"), CASES)
def test_optimum_is_critical_and_has_the_optimal_loss(
    sigma: Sequence[float], rank: int, l2: float
) -> None:
    problem = problem_of(sigma, rank, l2)
    B, A = critical_point(problem, keepable(problem)[:rank])
    assert max(float(G.abs().max()) for G in problem.gradients(B, A)) <= 1e-14
    assert problem.optimal_loss == pytest.approx(float(numeric_loss(problem, B, A)), abs=1e-14)
    spectrum = torch.linalg.svdvals(B @ A)[: len(problem.shrunk_singular_values)]
    assert float((spectrum - problem.shrunk_singular_values).abs().max()) <= 1e-14
    assert float(hessian_eigenvalues(problem, B, A).min()) >= -1e-13


@pytest.mark.parametrize(("sigma", "rank", "l2"), CASES)
def test_saddle_gap_is_that_of_an_enumeration(sigma: Sequence[float], rank: int, l2: float) -> None:
    problem = problem_of(sigma, rank, l2)
    kept = keepable(problem)
    losses = [
        float(numeric_loss(problem, *critical_point(problem, modes)))
        for count in range(min(rank, len(kept)) + 1)
        for modes in combinations(kept, count)
    ]
    above = [loss - min(losses) for loss in losses if loss > min(losses) + 1e-12]
    assert problem.saddle_gap == pytest.approx(min(above, default=float("inf")), abs=1e-13)


@pytest.mark.parametrize(("sigma", "rank", "l2"), CASES)
def test_optimal_curvature_is_the_smallest_of_the_hessian(
    sigma: Sequence[float], rank: int, l2: float
) -> None:
    problem = problem_of(sigma, rank, l2)
    kept = len(keepable(problem)[:rank])
    eigenvalues = hessian_eigenvalues(problem, *critical_point(problem, range(kept)))
    degenerate = rank > len(sigma) and l2 == 0
    if degenerate:
        assert problem.optimal_curvature == 0.0
        return
    orbit = orbit_dimension(problem, kept)
    assert float(eigenvalues[:orbit].abs().max() if orbit else 0.0) <= 1e-13
    assert problem.optimal_curvature == pytest.approx(float(eigenvalues[orbit]), abs=1e-12)


def test_an_exchange_that_costs_nothing_has_no_curvature() -> None:
    problem = problem_of([2.0, 1.0, 1.0], 2, 0.0)
    assert problem.optimal_curvature == 0.0
    # The other minimum is no other critical value.
    assert problem.saddle_gap == pytest.approx(0.5)
