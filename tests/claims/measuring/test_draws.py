"""Matrices that claims draw."""

from __future__ import annotations

import pytest
import torch

from claims.measuring.draws import gauge, gaussian


def test_a_member_draws_what_it_draws_alone() -> None:
    assert torch.equal(gaussian([3, 5], 4, 2)[1:], gaussian([5], 4, 2))
    assert torch.equal(gauge([3, 5], 4, 10.0, top=0)[1:], gauge([5], 4, 10.0, top=0))
    assert not torch.equal(gaussian([5], 4, 2), gaussian([5], 4, 2, stream=1))


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e6])
@pytest.mark.parametrize("top", [0.0, 0.5])
def test_gauges_have_their_condition_and_their_largest_singular_value(
    condition: float, top: float
) -> None:
    C = gauge([7, 8, 9], 4, condition, top=top)
    largest = torch.full((3,), condition**top, dtype=torch.float64)
    assert torch.allclose(torch.linalg.cond(C), torch.tensor(condition).double(), rtol=1e-8)
    assert torch.allclose(torch.linalg.matrix_norm(C, 2), largest)


def test_a_gauge_from_the_root_of_its_condition_keeps_volumes() -> None:
    determinants = torch.linalg.det(gauge([7, 8, 9], 4, 1e6, top=0.5))
    assert torch.allclose(determinants.abs(), torch.ones(3).double())
