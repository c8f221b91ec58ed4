"""The tangent space's LMO: feasible, bounded from both sides, and what is known of it exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geometry.lora import split_direction
from geometry.polar import msign
from geometry.tangent_lmo import tangent_lmo
from tests.geometry.test_msign import random_matrices


def problem(m: int, n: int, r: int, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    B, A = random_matrices(batch, m, r), random_matrices(batch, r, n, seed=1)
    return B, A, random_matrices(batch, m, n, seed=2)


def projected(B: Tensor, A: Tensor, Z: Tensor) -> Tensor:
    """The nearest matrix in the tangent space."""
    Q, L = torch.linalg.qr(B).Q, torch.linalg.qr(A.mT).Q
    left, right = Q @ Q.mT, L @ L.mT
    return left @ Z + Z @ right - left @ Z @ right


@pytest.mark.parametrize("shape", [(8, 8, 2), (9, 5, 3), (5, 9, 1), (6, 6, 5)])
def test_is_feasible_and_nearly_the_best(shape: tuple[int, int, int]) -> None:
    B, A, G = problem(*shape)
    found = tangent_lmo(B, A, G)
    assert float((projected(B, A, found.Z) - found.Z).abs().max()) <= 1e-12
    assert float(torch.linalg.matrix_norm(found.Z, 2).max()) <= 1 + 1e-12
    assert torch.allclose((G * found.Z).sum((-2, -1)), found.value, rtol=1e-12, atol=0)
    assert bool((found.upper - found.value <= 5e-3 * found.upper).all())
    # Whatever else is feasible is no better than the upper bound, and less than the optimum.
    D_B, D_A = split_direction(B, A, G @ A.mT, B.mT @ G)
    for other in (D_B @ A + B @ D_A, projected(B, A, msign(G)), projected(B, A, G)):
        value = (G * other).sum((-2, -1)) / torch.linalg.matrix_norm(other, 2)
        assert bool((value <= found.upper * (1 + 1e-12)).all())
        assert bool((value < found.value).all())


def test_at_full_rank_it_is_the_polar_factor() -> None:
    B, A, G = problem(6, 6, 6)
    found = tangent_lmo(B, A, G)
    assert float((found.Z - msign(G)).abs().max()) <= 1e-10
    # The control: below full rank the polar factor is outside of the tangent space.
    B, A, G = problem(6, 6, 3)
    assert float((tangent_lmo(B, A, G).Z - msign(G)).abs().max()) > 0.1


def test_a_gradient_with_nothing_beside_the_spans_has_its_nuclear_norm() -> None:
    # G = U C V^T: the corner is 0 at the optimum, and the value ||C||_*.
    B, A, _ = problem(9, 7, 3)
    Q, L = torch.linalg.qr(B).Q, torch.linalg.qr(A.mT).Q
    C = random_matrices(3, 3, 3, seed=4)
    found = tangent_lmo(B, A, Q @ C @ L.mT, gap=1e-9)
    nuclear = torch.linalg.svdvals(C).sum(-1)
    assert torch.allclose(found.value, nuclear, rtol=1e-8, atol=0)


def test_errors_say_what_was_given() -> None:
    B, A, G = problem(6, 5, 2)
    with pytest.raises(ValueError, match=r"G: shape \(3, 6, 5\) is expected; given \(3, 5, 6\)"):
        tangent_lmo(B, A, G.mT)
    with pytest.raises(ValueError, match="gap must be finite and > 0"):
        tangent_lmo(B, A, G, gap=0.0)
