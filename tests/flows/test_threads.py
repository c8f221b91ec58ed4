"""Lanes shared out among threads: the same bits, and torch left as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from flows import IntegrationError, MatrixFactorization, integrate, spectral_flow
from flows.compiled.sharing import lanes_by_threads, shared

PROBLEM = MatrixFactorization.planted(m=9, n=8, singular_values=[2.0, 1.2, 0.7], rank=3, seed=1)


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    pytest.importorskip("numba", reason="the compiled kernel needs numba")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["dormand_prince", "radau"])
def test_a_trajectory_has_the_same_bits_on_any_number_of_threads(method: str) -> None:
    field, start = spectral_flow(PROBLEM, 0.02), PROBLEM.gaussian_init(0.1, seed=range(21))
    times = torch.linspace(0, 2, 5, dtype=torch.float64)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        found = integrate(field, start, times, method=method, rtol=1e-6, kernel="compiled")
        return found.states, found.work.evaluations

    several = run()
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert all(torch.equal(x, y) for x, y in zip(run(), several, strict=True))


def test_torch_has_its_threads_back_after_a_failure() -> None:
    start = PROBLEM.gaussian_init(0.1, seed=range(21))
    with pytest.raises(IntegrationError, match="steps were not enough"):
        integrate(spectral_flow(PROBLEM, 0.02), start, [2.0], max_steps=3, kernel="compiled")
    assert torch.get_num_threads() == 3


def test_shares_are_whole_blocks_and_all_lanes() -> None:
    seen: list[tuple[int, int]] = []

    def kernel(start: int, stop: int) -> bool:
        seen.append((start, stop))
        return stop != 19

    assert not shared(kernel, 19, 8)
    assert seen == [(0, 19)]
    seen.clear()
    with lanes_by_threads():
        assert torch.get_num_threads() == 1
        assert not shared(kernel, 19, 8)
    assert sorted(seen) == [(0, 8), (8, 16), (16, 19)]
    seen.clear()
    with lanes_by_threads():
        assert shared(kernel, 8, 8)
    assert seen == [(0, 8)]


def test_what_a_share_raises_is_raised() -> None:
    def kernel(start: int, stop: int) -> bool:
        if start == 0:
            raise ValueError("the first share")
        return True

    with lanes_by_threads(), pytest.raises(ValueError, match="the first share"):
        shared(kernel, 19, 8)
