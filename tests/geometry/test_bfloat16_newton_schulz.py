"""The iteration of torch.optim.Muon: its bits, its singular values, its batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geometry.bfloat16_newton_schulz import COEFFICIENTS, bfloat16_newton_schulz
from geometry.orthogonalizers import scalar_response

SHAPES = [(1, 1), (1, 6), (7, 7), (5, 9), (33, 17), (64, 16), (64, 64)]


def random_matrices(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def torchs_own(G: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """The direction of torch.optim.Muon, read off one step from zero with rate 1."""
    W = torch.nn.Parameter(torch.zeros_like(G))
    W.grad = G.clone()
    torch.optim.Muon(
        [W],
        lr=1.0,
        momentum=0.0,
        weight_decay=0.0,
        ns_coefficients=coefficients,
        ns_steps=steps,
        adjust_lr_fn="original",
    ).step()
    m, n = G.shape
    return -W.detach() / max(1.0, m / n) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_has_the_bits_of_torch_slice_by_slice(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    m, n = shape
    G = random_matrices(2, 3, min(m, n), max(m, n), dtype=dtype)  # wide: the ratio is 1
    for coefficients, steps in ((COEFFICIENTS, 5), ((2.0, -1.5, 0.5), 3)):
        found = bfloat16_newton_schulz(G, coefficients, steps)
        assert found.dtype == torch.bfloat16
        expected = [[torchs_own(M, coefficients, steps) for M in row] for row in G]
        assert torch.equal(found.to(dtype), torch.stack([torch.stack(row) for row in expected]))


@pytest.mark.parametrize("shape", SHAPES)
def test_columns_and_rows_exchange(shape: tuple[int, int]) -> None:
    # The iteration works on the smaller side, whose bits a transposition does not change.
    G = random_matrices(4, *shape)
    if shape[0] != shape[1]:
        transposed = bfloat16_newton_schulz(G.mT).mT
        assert torch.equal(transposed, bfloat16_newton_schulz(G))


def test_singular_values_follow_the_scalar_iteration() -> None:
    G = random_matrices(8, 24, 8, dtype=torch.float64)
    s = torch.linalg.svdvals(G)
    expected = scalar_response("muon", s / s.norm(dim=-1, keepdim=True)).sort(descending=True)
    found = torch.linalg.svdvals(bfloat16_newton_schulz(G).double())
    error = (found - expected.values).abs().max()
    # Five steps in bfloat16: not float32's accuracy, but not another map either.
    assert 1e-4 < float(error) < 25 * 2.0**-8


def test_its_input_is_left_alone_and_zero_stays_zero() -> None:
    G = random_matrices(3, 4, 4, dtype=torch.bfloat16)
    before = G.clone()
    bfloat16_newton_schulz(G)
    assert torch.equal(G, before)
    assert torch.equal(
        bfloat16_newton_schulz(torch.zeros(2, 3, 2)), torch.zeros(2, 3, 2).bfloat16()
    )
    assert bfloat16_newton_schulz(torch.zeros(0, 3, 2)).shape == (0, 3, 2)


def test_eps_is_the_smallest_divisor() -> None:
    G = torch.eye(2) * 1e-3
    assert torch.equal(bfloat16_newton_schulz(G, (1.0, 0.0, 0.0), 1, eps=0.5), (G.bfloat16() / 0.5))
