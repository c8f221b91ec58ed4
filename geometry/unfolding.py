"""Tensors as matrices: unfoldings over sets of modes, and back.

An unfolding X_tau of a tensor of order d is the matrix with the modes tau as rows, the others as
columns; tau and its complement name the same one, up to the transpose, so there are 2^(d-1) - 1.

Matricization is TensorLy's, in C order. It has no batches, but takes the leading dimensions for
modes of the rows, and no inverse for several modes at once: folding is a reshape and a permutation
of torch's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import combinations
from numbers import Integral

import tensorly
import torch
from tensorly.base import matricize
from torch import Tensor

from geometry.errors import require_floating, require_matrices, require_positive_int

Modes = tuple[int, ...]


@lru_cache(maxsize=None, typed=True)
def unfoldings(order: int) -> tuple[Modes, ...]:
    """The 2^(order - 1) - 1 unfoldings, by the modes of their rows, in the order that breaks ties.

    Of tau and its complement the one with fewer modes, and if they have equally many the one with
    mode 0; fewer modes come first, then by the modes: (0,) for matrices, and (0,), (1,), (2,),
    (3,), (0, 1), (0, 2), (0, 3) for kernels of convolutions.

    Raises:
        ValueError: an order that is not an int of 2 at least.
    """
    require_positive_int("order", order)
    if order < 2:
        raise ValueError(f"order must be at least 2, got {order}: a vector has no unfolding")
    return tuple(
        modes
        for count in range(1, order // 2 + 1)
        for modes in combinations(range(order), count)
        if 2 * count < order or modes[0] == 0
    )


def distinct_unfoldings(shape: Sequence[int]) -> tuple[Modes, ...]:
    """Those of ``unfoldings`` that differ: modes of size 1 make no difference.

    What tells rows from columns is the modes above size 1; where all of those are on one side the
    unfolding is a vector, whose ball lies within every other's, and it is left out unless there is
    no other. A 1 x 1 convolution is the matrix that it is.
    """
    return _distinct(tuple(shape))


@cache
def _distinct(shape: Modes) -> tuple[Modes, ...]:
    large = {mode for mode, size in enumerate(shape) if size > 1}
    found: dict[frozenset[frozenset[int]], Modes] = {}
    for modes in unfoldings(len(shape)):
        sides = frozenset((frozenset(large & {*modes}), frozenset(large - {*modes})))
        if frozenset() not in sides:
            found.setdefault(sides, modes)
    return tuple(found.values()) or unfoldings(len(shape))[:1]


def canonical(modes: Sequence[int], order: int) -> Modes:
    """The name in ``unfoldings`` of an unfolding, given by the modes of its rows or columns.

    Raises:
        ValueError: modes that there are not, given twice, none, or all of them.
    """
    if not isinstance(modes, Iterable) or isinstance(modes, str):
        raise ValueError(f"unfolding: the modes of its rows are expected; given {modes!r}")
    given = tuple(modes)
    # The cache takes what is equal for the same, and 0.0 and False are equal to 0.
    if not all(isinstance(mode, Integral) and not isinstance(mode, bool) for mode in given):
        raise ValueError(f"unfolding: modes that are ints are expected; given {given}")
    return _canonical(tuple(int(mode) for mode in given), order)


@cache
def _canonical(given: Modes, order: int) -> Modes:
    known = unfoldings(order)
    rows = tuple(sorted({mode for mode in given if mode in range(order)}))
    if len(rows) != len(given) or not 0 < len(rows) < order:
        raise ValueError(
            f"unfolding: some but not all of the modes 0 to {order - 1}, each once, are expected; "
            f"given {given}"
        )
    columns = tuple(mode for mode in range(order) if mode not in rows)
    return rows if rows in known else columns


def require_tensors(name: str, X: Tensor, order: int | None = None) -> int:
    """The order of X: its last ``order`` dimensions are modes, those before them members.

    Raises:
        ValueError: X is no real floating tensor, has fewer dimensions than ``order`` (None: all of
            them, at least 2), or a mode of size 0.
    """
    require_floating(name, X)
    if order is None:
        order = X.ndim
        if order < 2:
            raise ValueError(
                f"{name} must have shape (n_1, ..., n_d), d >= 2, got shape {tuple(X.shape)}"
            )
    unfoldings(order)
    if order == 2:
        require_matrices(name, X)
    if X.ndim < order:
        raise ValueError(
            f"{name} must have shape (..., n_1, ..., n_{order}), got shape {tuple(X.shape)}"
        )
    if 0 in X.shape[-order:]:
        raise ValueError(f"{name} must have modes of size 1 at least, got shape {tuple(X.shape)}")
    return order


def unfolded_shape(shape: Sequence[int], modes: Sequence[int]) -> tuple[int, int]:
    """(m_tau, n_tau): products of the sizes of the modes, and of the others."""
    rows = math.prod(shape[mode] for mode in modes)
    return rows, math.prod(shape) // rows


def unfold(X: Tensor, modes: Sequence[int], order: int | None = None) -> Tensor:
    """X (..., n_1, ..., n_d) as matrices (..., m_tau, n_tau), rows by the given modes.

    Args:
        modes: some but not all of 0 ... d - 1, ascending; rows and columns are in C order.
        order: d; None is all dimensions of X.

    Raises:
        ValueError: as ``require_tensors`` and ``canonical``; modes that do not ascend.
    """
    order = require_tensors("X", X, order)
    rows = _ascending(modes, order)
    if order == 2:
        # It is one, and stays in the order that it has in memory, on which sums hang.
        return X if rows == (0,) else X.mT
    batch = X.shape[:-order]
    lead = [*range(len(batch)), *(len(batch) + mode for mode in rows)]
    with _torch_backend():
        flat: Tensor = matricize(X, lead)
    return flat.reshape(*batch, *unfolded_shape(X.shape[-order:], rows))


def fold(matrix: Tensor, modes: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The tensor (..., *shape) whose unfolding by the modes is the matrix (..., m_tau, n_tau).

    Raises:
        ValueError: as ``unfold``; a matrix of another shape.
    """
    rows = _ascending(modes, len(shape))
    expected = unfolded_shape(shape, rows)
    if tuple(matrix.shape[-2:]) != expected:
        raise ValueError(
            f"matrix: (..., {expected[0]}, {expected[1]}) is expected for modes {rows} of shape "
            f"{tuple(shape)}; given {tuple(matrix.shape)}"
        )
    permuted = [*rows, *(mode for mode in range(len(shape)) if mode not in rows)]
    batch = matrix.shape[:-2]
    X = matrix.reshape(*batch, *(shape[mode] for mode in permuted))
    back = [len(batch) + permuted.index(mode) for mode in range(len(shape))]
    return X.permute(*range(len(batch)), *back)


def mode_products(X: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """X (S, ..., n_1, ..., n_d) times a matrix (S, p_k, n_k) along each of its last d modes.

    TensorLy's ``multi_mode_dot`` has one matrix a mode for all members.

    Returns:
        (S, ..., p_1, ..., p_d).
    """
    for mode, M in enumerate(matrices, start=-len(matrices)):
        X = torch.einsum("s...r,snr->s...n", X.movedim(mode, -1), M).movedim(-1, mode)
    return X


def _ascending(modes: Sequence[int], order: int) -> Modes:
    canonical(modes, order)
    rows = tuple(modes)
    if list(rows) != sorted(rows):
        raise ValueError(f"unfolding: ascending modes are expected; given {rows}")
    return rows


@contextmanager
def _torch_backend() -> Iterator[None]:
    # tensorly.backend_context would set the backend of every thread when it ends.
    before = tensorly.get_backend()
    tensorly.set_backend("pytorch", local_threadsafe=True)
    try:
        yield
    finally:
        tensorly.set_backend(before, local_threadsafe=True)
