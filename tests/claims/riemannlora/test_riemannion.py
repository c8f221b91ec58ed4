"""The law of Riemannion's singular values, and where it leaves (.9, 1.1)."""

from __future__ import annotations

import pytest
import torch

from claims.riemannlora.optimal_start import captured, locally_optimal, top_pairing
from claims.riemannlora.riemannion import HIGHEST, LARGEST_C, LOWEST, MOST, direction, law
from geometry.fixed_rank import FixedRank
from tests.geometry.test_msign import random_matrices


def test_the_law_is_that_of_two_by_two_blocks() -> None:
    c = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    s = (1 - c**2).sqrt()
    blocks = torch.stack([torch.cat([c, s], -1), torch.cat([s, 0 * c], -1)], -2)
    assert torch.allclose(law(c), torch.linalg.svdvals(blocks), rtol=0, atol=1e-14)
    assert float(law(c).max()) == pytest.approx(MOST, abs=1e-4)
    assert law(torch.ones(1).double()).tolist() == [1.0, 0.0]


def test_the_band_ends_where_the_smaller_is_nine_tenths() -> None:
    at = law(torch.tensor([LARGEST_C], dtype=torch.float64))
    assert float(at[1]) == pytest.approx(LOWEST, abs=1e-14)
    assert float(at[0]) < HIGHEST
    assert pytest.approx(0.1765, abs=5e-5) == LARGEST_C


def test_the_direction_of_a_matrix_of_two_rows() -> None:
    # Ortho([a, b; b, 0]) = [a, 2 b; 2 b, -a] / root(a^2 + 4 b^2).
    e = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    M = torch.tensor([[3.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    found = direction(FixedRank(e, e[:1], e), M)
    expected = torch.tensor([[3.0, 4.0], [4.0, 0.0]], dtype=torch.float64) / 5
    assert torch.allclose(found.tangent, expected, rtol=0, atol=1e-14)
    assert found.c.tolist() == pytest.approx([0.6])


def test_shares_of_the_optimum() -> None:
    G = random_matrices(4, 9, 7)
    assert torch.allclose(captured(G, locally_optimal(G, 2)), torch.ones(4).double(), rtol=1e-13)
    squares = torch.linalg.svdvals(G).square()
    expected = squares[:, :2].sum(-1) / squares[:, :4].sum(-1)
    assert torch.allclose(captured(G, top_pairing(G, 2)), expected, rtol=1e-12)
