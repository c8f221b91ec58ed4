"""Bases of span[U, B0]: orthonormal to round-off and holding both, whatever the start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flows import MatrixFactorization
from flows.bases import SLAB, SpanBasis
from flows.coordinates import ReducedCoordinates
from flows.starts import haar_columns


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def starts(target: Tensor, r: int) -> Tensor:
    """A lane for everything that ruins a Gram matrix, (L, m, r)."""
    m, k = target.shape
    limits = torch.finfo(target.dtype)
    plain = gaussian(m, r).to(target)
    inside = target @ gaussian(k, r, seed=1).to(target)
    zero_column, repeated = plain.clone(), plain[:, :1].expand(m, r)
    zero_column[:, 0] = 0.0
    exponents = torch.linspace(0.6, -0.6, r, dtype=torch.float64)
    graded = plain * (limits.max**exponents).to(target)
    return torch.stack(
        [
            plain,
            torch.zeros_like(plain),
            zero_column,
            repeated,
            repeated + limits.eps * plain,
            inside,
            inside + limits.eps * plain,
            # Their squares overflow or underflow.
            limits.max**0.6 * plain,
            limits.tiny**0.6 * plain,
            graded,
        ]
    )


def targets(m: int, k: int) -> dict[str, Tensor]:
    unit = torch.eye(m, dtype=torch.float64)
    return {
        "haar": haar_columns(m, k, torch.Generator().manual_seed(2)),
        "leading units": unit[:, :k],
        "leading units, negative": -unit[:, :k],
        "trailing units": unit[:, m - k :],
    }


def round_off(m: int, dtype: torch.dtype) -> float:
    """Of sums of m products of a column's entries, with some room."""
    return 4 * torch.finfo(dtype).eps * m**0.5


def left_out(columns: Tensor, vectors: Tensor) -> float:
    """The largest entry of X - Q Q^T X over the largest in its column of X."""
    sizes = vectors.abs().amax(-2, keepdim=True)
    scaled = vectors / torch.where(sizes == 0, 1.0, sizes)
    return float((scaled - columns @ (columns.mT @ scaled)).abs().max())


def orthonormality_error(columns: Tensor) -> float:
    gram = columns.mT @ columns
    return float((gram - torch.eye(gram.shape[-1]).to(gram)).abs().max())


SHAPES = [(40, 5, 4), (40, 1, 6), (9, 4, 5), (7, 4, 5), (6, 6, 2), (6, 2, 6), (1, 1, 1), (5, 0, 3)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("m", "k", "r"), SHAPES)
def test_orthonormal_and_complete_for_every_start(
    m: int, k: int, r: int, dtype: torch.dtype, device: torch.device
) -> None:
    for name, target in targets(m, k).items():
        target = target.to(device, dtype)
        start = starts(target, r)
        basis = SpanBasis.of(target, start)
        assert basis.shared.shape == (m, k)
        assert basis.own.shape == (len(start), m, min(m - k, r))
        columns, bound = basis.columns(), round_off(m, dtype)
        assert (columns.dtype, columns.device) == (dtype, target.device)
        assert orthonormality_error(columns) <= bound, name
        assert left_out(columns, start) <= bound, name
        # U itself comes first.
        assert torch.allclose(basis.shared, target, rtol=0.0, atol=bound), name


def test_a_target_that_is_orthonormal_to_half_of_the_digits() -> None:
    target = haar_columns(30, 4, torch.Generator().manual_seed(0)) + 1e-9 * gaussian(30, 4)
    basis = SpanBasis.of(target, starts(target, 3))
    bound = round_off(30, torch.float64)
    assert orthonormality_error(target) > 1e4 * bound
    assert orthonormality_error(basis.columns()) <= bound
    assert left_out(basis.columns(), target) <= bound


@pytest.mark.parametrize("m", [SLAB // 20, SLAB])
def test_lanes_that_are_worked_on_apart(m: int) -> None:
    """7 lanes of m x 4: five in the first slab and two in the second, or each in its own."""
    target, start = haar_columns(m, 2, torch.Generator().manual_seed(0)), gaussian(7, m, 4)
    basis = SpanBasis.of(target, start)
    bound = round_off(m, torch.float64)
    assert orthonormality_error(basis.columns()) <= bound
    assert left_out(basis.columns(), start) <= bound
    for lane in range(7):
        alone = SpanBasis.of(target, start[lane : lane + 1])
        assert float((alone.own[0] - basis.own[lane]).abs().max()) <= bound


def test_only_what_differs_between_lanes_is_kept_for_each() -> None:
    problem = MatrixFactorization.planted(m=50, n=40, singular_values=[3.0, 2.0, 1.0], rank=2)
    reduced = ReducedCoordinates.of(problem, *problem.gaussian_init(1.0, seed=range(6)))
    kept = [x.numel() for basis in reduced.bases for x in (basis.shared, basis.own)]
    assert kept == [50 * 3, 6 * 50 * 2, 40 * 3, 6 * 40 * 2]


def test_coordinates_of_chosen_lanes_lift_and_restrict_in_their_bases() -> None:
    problem = MatrixFactorization.planted(m=8, n=5, singular_values=[3.0, 2.0, 1.0], rank=3)
    B, A = problem.gaussian_init(1.0, seed=range(5))
    reduced = ReducedCoordinates.of(problem, B, A)
    states = reduced.restrict(B, A)
    chosen = reduced.select(torch.tensor([4, 1, 2])).select(torch.tensor([2, 0]))
    lanes = [2, 4]
    assert torch.equal(chosen.left, reduced.left[lanes])
    assert torch.equal(chosen.right, reduced.right[lanes])
    assert float((chosen.restrict(B[lanes], A[lanes]) - states[lanes]).abs().max()) <= 1e-14
    for lifted, factor in zip(chosen.lift(states[lanes]), (B, A), strict=True):
        assert float((lifted - factor[lanes]).abs().max()) <= 1e-14
