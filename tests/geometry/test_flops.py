"""Formulas of flops beside what torch counts in the code that they are of."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from geometry.flops import (
    counted_flops,
    low_rank_msign_flops,
    orthogonalize_flops,
    product_flops,
    qr_flops,
    range_basis_flops,
)
from geometry.orthogonalizers import ORTHOGONALIZERS
from geometry.polar import orthogonalize
from geometry.sketch import SKETCHES, low_rank_msign, range_basis

SHAPES = ((12, 20), (20, 12), (16, 16), (5, 40))
ITERATED = [name for name, each in ORTHOGONALIZERS.items() if each.coefficients is not None]


def matrix(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(), dtype=torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("method", ITERATED)
@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalisers_take_what_the_formula_says(method: str, shape: tuple[int, int]) -> None:
    for steps in (1, 2, 5, None):
        counted = counted_flops(partial(orthogonalize, matrix(*shape), method, steps))
        assert counted == orthogonalize_flops(*shape, method, steps)


def test_five_quintics_are_those_of_the_text() -> None:
    m, n, rank = 24, 36, 5
    assert orthogonalize_flops(m, n, "muon", 5) == 5 * (4 * m**2 * n + 2 * m**3)
    drawn = low_rank_msign_flops(m, n, rank, "columns", orthogonalizer="muon", steps=5)
    iterated = 5 * (4 * rank**2 * n + 2 * rank**3)
    assert drawn == 4 * m * n * rank + 4 * rank**2 * (3 * m - rank) // 3 + iterated
    # The text's count of QR, 4 m l^2, leaves out what the zeros of R save.
    assert 0 < 4 * m * rank**2 - qr_flops(m, rank) <= 4 * rank**3 / 3 + 1


@pytest.mark.parametrize("sketch", SKETCHES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("power_iterations", [0, 1, 3])
@pytest.mark.parametrize(("rank", "oversampling"), [(1, 0), (3, 0), (3, 2)])
def test_sketches_take_what_the_formulas_say(
    sketch: str, shape: tuple[int, int], power_iterations: int, rank: int, oversampling: int
) -> None:
    count = rank + oversampling
    M = matrix(*shape)
    sizes: dict[str, Any] = {"oversampling": oversampling, "power_iterations": power_iterations}
    # Norm-weighted draws at these places choose no column twice.
    even = torch.linspace(0.05, 0.95, count, dtype=torch.float64)
    drawn: dict[str, Any] = (
        {"uniforms": even} if sketch == "weighted" else {"generator": generator()}
    )
    counted = counted_flops(partial(range_basis, M, rank, sketch, **sizes, **drawn))
    assert counted == range_basis_flops(*shape, rank, sketch, **sizes)
    for method in ("muon", "cubic"):
        own: dict[str, Any] = {**sizes, "orthogonalizer": method, "steps": 4}
        counted = counted_flops(partial(low_rank_msign, M, rank, sketch, **own, **drawn))
        assert counted == low_rank_msign_flops(*shape, rank, sketch, **own)


def test_a_batch_takes_as_many_times_what_one_takes() -> None:
    M = matrix(3, 2, 12, 20)
    counted = counted_flops(
        lambda: low_rank_msign(M, 4, generator=generator(), orthogonalizer="muon")
    )
    assert counted == 6 * low_rank_msign_flops(12, 20, 4, orthogonalizer="muon")
    assert counted_flops(lambda: M @ M.mT) == 6 * product_flops(12, 20, 12)


def test_qr_takes_what_two_times_its_reflections_take() -> None:
    # Column j of l meets m - j rows of all columns from it on: 4 flops an entry, twice for Q.
    m, count = 400, 100
    entrywise = sum(2 * 4 * (m - j) * (count - j) for j in range(count))
    assert qr_flops(m, count) == pytest.approx(entrywise, rel=0.02)


def test_what_has_no_fixed_count_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'svd' does what the matrix asks for"):
        low_rank_msign_flops(9, 9, 3, orthogonalizer="svd")
    with pytest.raises(ValueError, match="unknown sketch"):
        range_basis_flops(9, 9, 3, "rows")
    with pytest.raises(ValueError, match=r"at most min\(m, n\) = 9"):
        range_basis_flops(9, 12, 8, oversampling=2)
