"""Floating-point operations of orthogonalisers as formulas, and a counter to check them by.

What is counted are matrix products, 2 m n k each whatever symmetry there is, and QR. What passes
over an m x n matrix once or draws numbers, O(m n), is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from geometry.orthogonalizers import orthogonalizer_named
from geometry.sketch import require_sketch_sizes, sketch_named


def product_flops(m: int, k: int, n: int) -> int:
    """Of an m x k matrix by a k x n one."""
    return 2 * m * k * n


def qr_flops(m: int, l: int) -> int:  # noqa: E741
    """Of QR by reflections and of making its Q (m, l), m >= l: 4 l^2 (m - l / 3), rounded down.

    Both halves take as many.

    Reference:
        Golub, Van Loan, Matrix Computations, section 5.2.
    """
    return 4 * l * l * (3 * m - l) // 3


def orthogonalize_flops(
    m: int, n: int, method: str = "polar_express", steps: int | None = None
) -> int:
    """Of ``geometry.polar.orthogonalize`` on an m x n matrix.

    A polynomial of degree 2 j + 1 takes the Gram matrix of the smaller side a, j - 1 products of
    a x a matrices, and one with the matrix: 4 a^2 b + 2 (j - 1) a^3, a quintic 4 a^2 b + 2 a^3.

    Raises:
        ValueError: as there; "svd" and "certified", which do as much as the matrix makes them.
    """
    declared = orthogonalizer_named(method)
    if declared.coefficients is None:
        raise ValueError(f"method {method!r} does what the matrix asks for: no count is fixed")
    a, b = sorted((m, n))
    return sum(
        2 * product_flops(a, b, a) + max(len(each.coefficients) - 2, 0) * product_flops(a, a, a)
        for each in declared.polynomials(steps)
    )


def range_basis_flops(
    m: int,
    n: int,
    rank: int,
    method: str = "gaussian",
    *,
    oversampling: int = 0,
    power_iterations: int = 0,
) -> int:
    """Of ``geometry.sketch.range_basis`` where the sketch has full rank: l = rank + oversampling.

    Columns that are drawn take none, a Gaussian sketch 2 m n l; each power iteration two products
    and two times QR.

    Raises:
        ValueError: as there.
    """
    require_sketch_sizes(m, n, rank, oversampling, power_iterations)
    count = rank + oversampling
    product = product_flops(m, n, count)
    first = product if len(sketch_named(method).draws(n, count)) == 2 else 0
    iteration = 2 * product + qr_flops(n, count) + qr_flops(m, count)
    return first + qr_flops(m, count) + power_iterations * iteration


def low_rank_msign_flops(
    m: int,
    n: int,
    rank: int,
    method: str = "gaussian",
    *,
    oversampling: int = 0,
    power_iterations: int = 0,
    orthogonalizer: str = "polar_express",
    steps: int | None = None,
) -> int:
    """Of ``geometry.sketch.low_rank_msign`` where the sketch has full rank.

    A range basis, Q^T M, its orthogonaliser and the product by Q. For drawn columns and quintics,
    m <= n: 4 m n l + 4 m l^2 - 4 l^3 / 3 + steps (4 l^2 n + 2 l^3).

    Raises:
        ValueError: as there and in ``orthogonalize_flops``.
    """
    m, n = sorted((m, n))
    count = rank + oversampling
    basis = range_basis_flops(
        m, n, rank, method, oversampling=oversampling, power_iterations=power_iterations
    )
    inner = orthogonalize_flops(count, n, orthogonalizer, steps)
    return basis + 2 * product_flops(m, n, count) + inner


def counted_flops(function: Callable[[], object]) -> int:
    """What a call does in matrix products, as torch counts them, and in ``qr_flops``."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.linalg_qr: _of_qr})
    with counter:
        function()
    return int(counter.get_total_flops())


def _of_qr(shape: torch.Size, *_: Any, **__: Any) -> int:
    *batch, m, l = shape  # noqa: E741
    return int(torch.Size(batch).numel()) * qr_flops(m, l)
