"""Every initialisation has the structure it is named after, lane by lane."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flows import MatrixFactorization
from flows.starts import Factors, Seeds, haar_columns

Start = Callable[[MatrixFactorization, Seeds], Factors]


def aligned(problem: MatrixFactorization, seed: Seeds) -> Factors:
    strengths = torch.arange(1.0, problem.rank + 1, dtype=torch.float64)
    return problem.aligned_init(strengths, -0.5 * strengths, seed=seed)


STARTS: dict[str, Start] = {
    "lora": lambda problem, seed: problem.lora_init(0.3, seed=seed),
    "gaussian": lambda problem, seed: problem.gaussian_init(0.3, seed=seed),
    "orthogonal": lambda problem, seed: problem.orthogonal_init(0.3, seed=seed),
    "balanced": lambda problem, seed: problem.balanced_init(0.3, seed=seed),
    "aligned": aligned,
}


def toy(rank: int = 3, **kind: object) -> MatrixFactorization:
    return MatrixFactorization.planted(
        m=9,
        n=7,
        singular_values=[4.0, 3.0, 2.0, 1.0],
        rank=rank,
        **kind,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", STARTS)
@settings(deadline=None, max_examples=15)
@given(others=st.lists(st.integers(0, 99), max_size=3), seed=st.integers(0, 99))
def test_a_lane_does_not_depend_on_the_other_seeds(name: str, others: list[int], seed: int) -> None:
    problem = toy()
    alone = STARTS[name](problem, seed)
    together = STARTS[name](problem, [*others, seed])
    for one, many in zip(alone, together, strict=True):
        assert many.shape == (len(others) + 1, *one.shape)
        assert torch.equal(many[-1], one)
    other = STARTS[name](problem, seed + 100)
    assert not torch.equal(alone[1], other[1])


@pytest.mark.parametrize("name", STARTS)
def test_every_precision_and_device_gets_the_same_start(name: str, device: torch.device) -> None:
    double = STARTS[name](toy(), [0, 1])
    single = STARTS[name](toy(dtype=torch.float32, device=device), [0, 1])
    # An aligned start is made of the target's vectors, which were rounded before.
    tolerance = 1e-6 if name == "aligned" else 0.0
    for wide, narrow in zip(double, single, strict=True):
        assert narrow.dtype is torch.float32
        assert narrow.device.type == device.type
        apart = (wide.to(torch.float32) - narrow.cpu()).abs().max()
        assert float(apart) <= tolerance


def test_lora_start_has_a_zero_left_factor_and_scales() -> None:
    problem = toy()
    B, A = problem.lora_init(0.25, seed=range(4))
    assert not bool(B.any())
    assert torch.equal(4 * A, problem.lora_init(1.0, seed=range(4))[1])
    assert float(A.std()) == pytest.approx(0.25, rel=4 / (2 * 84) ** 0.5)


def test_gaussian_start_scales_and_has_independent_factors() -> None:
    problem = MatrixFactorization.planted(m=60, n=60, singular_values=[1.0], rank=20)
    B, A = problem.gaussian_init(0.5, seed=range(10))
    for factor in (B, A):
        assert float(factor.std()) == pytest.approx(0.5, rel=4 / (2 * 12_000) ** 0.5)
        assert float(factor.mean()) == pytest.approx(0.0, abs=4 * 0.5 / 12_000**0.5)
    assert float((B * A.mT).mean()) == pytest.approx(0.0, abs=4 * 0.25 / 12_000**0.5)


def test_orthogonal_start_has_orthonormal_columns_and_rows() -> None:
    B, A = toy().orthogonal_init(0.5, seed=range(4))
    for gram in (B.mT @ B, A @ A.mT):
        assert float((gram - 0.25 * torch.eye(3, dtype=torch.float64)).abs().max()) <= 1e-15


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(1e-6, 1e2), seed=st.integers(0, 99), rank=st.integers(1, 5))
def test_balanced_start_is_balanced(scale: float, seed: int, rank: int) -> None:
    B, A = toy(rank).balanced_init(scale, seed=seed)
    size = float(torch.linalg.matrix_norm(B) ** 2)
    assert float((B.mT @ B - A @ A.mT).abs().max()) <= 1e-14 * size
    assert size > 0


def test_balanced_start_keeps_the_law_of_the_product() -> None:
    # E ||B A||_F^2 = m n r scale^4 for a product of two Gaussians; its relative deviation is about
    # 2 sqrt(1/r (1/m + 1/n)), here over 200 lanes.
    problem = toy()
    B, A = problem.balanced_init(0.5, seed=range(200))
    mean = float(torch.linalg.matrix_norm(B @ A).square().mean())
    spread = 2 * ((1 / 9 + 1 / 7) / 3 / 200) ** 0.5
    assert mean == pytest.approx(9 * 7 * 3 * 0.5**4, rel=4 * spread)


@pytest.mark.parametrize("modes", [None, [3, 0, 2]])
def test_aligned_start_lies_on_the_aligned_manifold(modes: list[int] | None) -> None:
    problem = toy()
    b = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64)
    a = torch.tensor([0.3, 0.4, -0.7], dtype=torch.float64)
    B, A = problem.aligned_init(b, a, modes, seed=range(3))
    chosen = modes or [0, 1, 2]
    left, right = problem.left[:, chosen], problem.right[:, chosen]
    assert float((B @ A - (left * (b * a)) @ right.mT).abs().max()) <= 1e-15
    assert float((B @ B.mT - (left * b**2) @ left.mT).abs().max()) <= 1e-15
    assert float((A.mT @ A - (right * a**2) @ right.mT).abs().max()) <= 1e-15
    expected = torch.zeros(3, 4, dtype=torch.float64)
    expected[:, chosen] = b * a
    assert float((problem.mode_values(B, A) - expected).abs().max()) <= 1e-15


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 12), count=st.integers(1, 12), seed=st.integers(0, 99))
def test_haar_columns_are_orthonormal(size: int, count: int, seed: int) -> None:
    count = min(size, count)
    q = haar_columns(size, count, torch.Generator().manual_seed(seed))
    identity = torch.eye(count, dtype=torch.float64)
    assert float((q.mT @ q - identity).abs().max()) <= 1e-14


def test_haar_columns_favour_no_sign() -> None:
    # QR alone would give every first column a fixed sign of its first entry.
    generator = torch.Generator().manual_seed(0)
    corners = torch.stack([haar_columns(4, 2, generator).diagonal() for _ in range(400)])
    assert corners.shape == (400, 2)
    positive: Tensor = (corners > 0).to(torch.float64).mean(0)
    assert float((positive - 0.5).abs().max()) <= 4 * 0.5 / 400**0.5
