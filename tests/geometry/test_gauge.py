"""Gauges of low-rank products: what changes with them, what does not, and at what cost."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geometry.gauge import (
    balanced,
    change_of_product,
    product_singular_values,
    regauged,
    regauged_gradients,
    require_pair,
)
from tests.geometry.test_msign import U64, random_matrices


def pair(m: int = 9, n: int = 7, r: int = 3, batch: int = 4) -> tuple[Tensor, Tensor]:
    return random_matrices(batch, m, r), random_matrices(batch, r, n, seed=1)


def test_the_product_does_not_know_the_gauge(device: torch.device) -> None:
    B, A = (x.to(device) for x in pair())
    R = random_matrices(4, 3, 3, seed=2).to(device)
    other_B, other_A = regauged(B, A, R)
    condition = float(torch.linalg.cond(R).max())
    error = (other_B @ other_A - B @ A).abs().max()
    assert float(error) <= 100 * U64 * condition * float((B @ A).abs().max())
    assert float((other_B - B).abs().max()) > 0.1


def test_gradients_move_against_the_factors() -> None:
    B, A = pair()
    G, R = random_matrices(4, 9, 7, seed=5), random_matrices(4, 3, 3, seed=2)
    other_B, other_A = regauged(B, A, R)
    given_B, given_A = regauged_gradients(G @ A.mT, B.mT @ G, R)
    assert torch.allclose(given_B, G @ other_A.mT, rtol=1e-11, atol=1e-11)
    assert torch.allclose(given_A, other_B.mT @ G, rtol=1e-11, atol=1e-11)


def test_balanced_factors_are_balanced() -> None:
    B, A = pair()
    even_B, even_A = balanced(B, 100 * A)
    assert torch.allclose(even_B @ even_A, 100 * B @ A, rtol=1e-12, atol=1e-10)
    grams = even_B.mT @ even_B, even_A @ even_A.mT
    assert torch.allclose(*grams, rtol=0, atol=1e-11)
    off = grams[0] - torch.diag_embed(grams[0].diagonal(dim1=-2, dim2=-1))
    assert float(off.abs().max()) <= 1e-11
    # The control: the factors given are not.
    assert not torch.allclose(B.mT @ B, 1e4 * A @ A.mT, rtol=1e-3)


@pytest.mark.parametrize("r", [1, 3, 7])
def test_singular_values_without_the_product(r: int) -> None:
    B, A = pair(r=r)
    expected = torch.linalg.svdvals(B @ A)[..., :r]
    assert torch.allclose(product_singular_values(B, A), expected, rtol=0, atol=1e-13)


def test_a_change_is_measured_without_cancellation() -> None:
    B, A = pair()
    dB, dA = 1e-12 * random_matrices(4, 9, 3, seed=6), 1e-12 * random_matrices(4, 3, 7, seed=7)
    left, right = change_of_product(B, A, dB, dA)
    assert left.shape == (4, 9, 6)
    found = product_singular_values(left, right)[..., 0]
    expected = torch.linalg.matrix_norm(dB @ A + B @ dA + dB @ dA, 2)
    assert torch.allclose(found, expected, rtol=1e-12, atol=0)
    # The control: the difference of the products has lost the digits.
    lost = torch.linalg.matrix_norm((B + dB) @ (A + dA) - B @ A, 2)
    assert not torch.allclose(lost, expected, rtol=1e-9, atol=0)


def test_errors_say_what_was_given() -> None:
    B, A = pair()
    with pytest.raises(ValueError, match=r"same leading dimensions .*; given \(4, 9, 3\)"):
        require_pair(B, A[:, :2])
    with pytest.raises(ValueError, match=r"rank of at most min\(m, n\) = 7 is expected; given 8"):
        require_pair(random_matrices(9, 8), random_matrices(8, 7))
    with pytest.raises(ValueError, match=r"given torch.float64 on cpu and torch.float32 on cpu"):
        require_pair(B, A.float())
    with pytest.raises(ValueError, match="floating-point dtype"):
        require_pair(B.long(), A)
    with pytest.raises(ValueError, match=r"R \(..., 3, 3\) is expected for rank 3"):
        regauged(B, A, random_matrices(2, 2))
