"""Unfoldings: which there are, that they agree with TensorLy and with loops, and back again."""

from __future__ import annotations

import threading
from itertools import product
from math import prod

import numpy as np
import pytest
import tensorly
import torch

from geometry.unfolding import (
    canonical,
    distinct_unfoldings,
    fold,
    require_tensors,
    unfold,
    unfolded_shape,
    unfoldings,
)
from tests.geometry.test_msign import random_matrices


def test_every_subset_up_to_its_complement_once() -> None:
    assert unfoldings(2) == ((0,),)
    assert unfoldings(3) == ((0,), (1,), (2,))
    assert unfoldings(4) == ((0,), (1,), (2,), (3,), (0, 1), (0, 2), (0, 3))
    for order in range(2, 8):
        found = unfoldings(order)
        both = {*found, *(tuple(k for k in range(order) if k not in modes) for modes in found)}
        assert len(found) == 2 ** (order - 1) - 1
        assert len(both) == 2**order - 2


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_entries_are_where_c_order_puts_them(batch: tuple[int, ...]) -> None:
    shape = (2, 3, 4, 5)
    X = random_matrices(prod(batch), *shape).reshape(*batch, *shape)
    for modes in [*unfoldings(4), (1, 2), (1, 2, 3)]:
        others = [mode for mode in range(4) if mode not in modes]
        matrix = unfold(X, modes, order=4)
        assert matrix.shape == (*batch, *unfolded_shape(shape, modes))
        for place in product(*map(range, shape)):
            row = np.ravel_multi_index([place[k] for k in modes], [shape[k] for k in modes])
            column = np.ravel_multi_index([place[k] for k in others], [shape[k] for k in others])
            i, j, k, l = place  # noqa: E741
            assert torch.equal(matrix[..., row, column], X[..., i, j, k, l])
        assert torch.equal(fold(matrix, modes, shape), X)


def test_one_tensor_is_unfolded_as_by_tensorly() -> None:
    X = random_matrices(1, 4, 3, 5)[0]
    for mode in range(3):
        assert np.array_equal(unfold(X, (mode,)).numpy(), tensorly.unfold(X.numpy(), mode))


def test_a_matrix_is_its_own_unfolding() -> None:
    X = random_matrices(3, 4, 5)
    assert torch.equal(unfold(X, (0,), order=2), X)


def test_gradients_go_through() -> None:
    X = random_matrices(1, 2, 3, 4)[0].requires_grad_()
    weights = random_matrices(1, 8, 3, seed=1)[0]
    (unfold(X, (0, 2)) * weights).sum().backward()
    assert X.grad is not None
    assert torch.equal(X.grad, fold(weights, (0, 2), (2, 3, 4)))


def test_the_users_backend_stays() -> None:
    before = tensorly.get_backend()
    unfold(torch.zeros(2, 3), (0,))
    assert tensorly.get_backend() == before
    seen: list[str] = []

    def elsewhere() -> None:
        tensorly.set_backend("pytorch", local_threadsafe=True)
        unfold(torch.zeros(2, 3), (0,))
        seen.append(tensorly.get_backend())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == ["pytorch"]
    # That thread's own backend has not become everybody's.
    assert tensorly.get_backend() == before
    fresh = threading.Thread(target=lambda: seen.append(tensorly.get_backend()))
    fresh.start()
    fresh.join()
    assert seen[1] == before


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 32, 1, 1), ((0,),)),
        ((5, 1, 4), ((0,),)),
        ((1, 5, 4), ((1,),)),
        ((1, 5, 1), ((0,),)),
        ((1, 1, 1), ((0,),)),
        ((5, 1), ((0,),)),
        ((2, 1, 3, 4), ((0,), (2,), (3,))),
        ((2, 3, 4), ((0,), (1,), (2,))),
    ],
)
def test_modes_of_size_one_make_no_difference(
    shape: tuple[int, ...], expected: tuple[tuple[int, ...], ...]
) -> None:
    assert distinct_unfoldings(shape) == expected


def test_an_unfolding_is_named_by_rows_or_columns() -> None:
    assert canonical((1, 3), 4) == (0, 2)
    assert canonical([2, 0], 4) == (0, 2)
    assert canonical((1, 2, 3), 4) == (0,)
    assert canonical((1,), 2) == (0,)


@pytest.mark.parametrize("modes", [(), (0, 1, 2), (3,), (-1,), (0, 0)])
def test_modes_that_there_are_not(modes: tuple[int, ...]) -> None:
    message = "some but not all of the modes 0 to 2, each once, are expected; given"
    with pytest.raises(ValueError, match=message):
        canonical(modes, 3)
    with pytest.raises(ValueError, match=message):
        unfold(torch.zeros(2, 2, 2), modes)


def test_errors_say_what_was_given() -> None:
    with pytest.raises(ValueError, match=r"shape \(n_1, ..., n_d\), d >= 2, got shape \(3,\)"):
        require_tensors("G", torch.zeros(3))
    with pytest.raises(ValueError, match="order must be at least 2, got 1: a vector has no unf"):
        require_tensors("G", torch.zeros(3, 3), 1)
    with pytest.raises(ValueError, match=r"order must be a positive int, got 2\.0"):
        require_tensors("G", torch.zeros(3, 3), 2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(..., n_1, ..., n_4\), got shape \(3, 3\)"):
        require_tensors("G", torch.zeros(3, 3), 4)
    with pytest.raises(ValueError, match="modes of size 1 at least"):
        require_tensors("G", torch.zeros(3, 0, 2))
    for dtype in (torch.complex64, torch.int64):
        with pytest.raises(ValueError, match="floating-point dtype, got torch"):
            require_tensors("G", torch.zeros(3, 3, 3, dtype=dtype))
    with pytest.raises(ValueError, match="ascending modes are expected"):
        unfold(torch.zeros(2, 3, 4, 5), (2, 0))
    with pytest.raises(ValueError, match=r"matrix: \(..., 2, 12\) is expected for modes \(0,\)"):
        fold(torch.zeros(3, 8), (0,), (2, 3, 4))
