"""Products of small matrices by blocks, in tiles whose sums stay in registers."""

from __future__ import annotations

from flows.compiled.blocks import Array, apart, within
from flows.compiled.lanes import at, every, put


@within
def _tile(
    terms: int,
    x: Array,
    p: int,
    x_next: int,
    x_term: int,
    y: Array,
    q: int,
    y_next: int,
    y_term: int,
    out: Array,
    spot: int,
    row: int,
    adds: bool,
) -> None:
    """A tile of 2 x 2 entries of ``out`` from ``spot`` on, all sums in registers.

    Every block is taken as one long row. x has the first row at p, the next x_next further on, and
    a term every x_term; y likewise.
    """
    a, b, c, d = every(0.0), every(0.0), every(0.0), every(0.0)
    if adds:
        a, b = at(out, 0, spot), at(out, 0, spot + 1)
        c, d = at(out, 0, spot + row), at(out, 0, spot + row + 1)
    for _ in range(terms):
        u, v = at(x, 0, p), at(x, 0, p + x_next)
        w = at(y, 0, q)
        a += u * w
        c += v * w
        w = at(y, 0, q + y_next)
        b += u * w
        d += v * w
        p += x_term
        q += y_term
    put(out, 0, spot, a)
    put(out, 0, spot + 1, b)
    put(out, 0, spot + row, c)
    put(out, 0, spot + row + 1, d)


@within
def _entry(
    terms: int,
    x: Array,
    p: int,
    x_term: int,
    y: Array,
    q: int,
    y_term: int,
    out: Array,
    spot: int,
    adds: bool,
) -> None:
    """One entry of ``out``, as :func:`_tile` has four."""
    a = every(0.0)
    if adds:
        a = at(out, 0, spot)
    for _ in range(terms):
        a += at(x, 0, p) * at(y, 0, q)
        p += x_term
        q += y_term
    put(out, 0, spot, a)


@apart
def _products(
    terms: int,
    x: Array,
    x_next: int,
    x_term: int,
    y: Array,
    y_next: int,
    y_term: int,
    out: Array,
    adds: bool,
) -> None:
    """out[i, j] = sum over k < terms of x[i x_next + k x_term] y[j y_next + k y_term], or
    that is added to it."""
    rows, columns, _ = out.shape
    high, wide = rows - rows % 2, columns - columns % 2
    for i in range(0, high, 2):
        p, row = i * x_next, i * columns
        for j in range(0, wide, 2):
            q = j * y_next
            _tile(terms, x, p, x_next, x_term, y, q, y_next, y_term, out, row + j, columns, adds)
        for j in range(wide, columns):
            q = j * y_next
            _entry(terms, x, p, x_term, y, q, y_term, out, row + j, adds)
            _entry(terms, x, p + x_next, x_term, y, q, y_term, out, row + columns + j, adds)
    for i in range(high, rows):
        for j in range(columns):
            _entry(terms, x, i * x_next, x_term, y, j * y_next, y_term, out, i * columns + j, adds)


@apart
def add_by_rows(left: Array, right: Array, out: Array) -> None:
    """out += left right^T."""
    terms = left.shape[1]
    _products(terms, left, terms, 1, right, terms, 1, out, True)


@apart
def add_product(left: Array, right: Array, out: Array) -> None:
    """out += left right."""
    terms, columns, _ = right.shape
    _products(terms, left, terms, 1, right, 1, columns, out, True)


@apart
def add_by_columns(left: Array, right: Array, out: Array) -> None:
    """out += left^T right."""
    terms, rows, _ = left.shape
    _products(terms, left, 1, rows, right, 1, right.shape[1], out, True)


@apart
def by_rows(left: Array, right: Array, out: Array) -> None:
    """out = left right^T."""
    terms = left.shape[1]
    _products(terms, left, terms, 1, right, terms, 1, out, False)


@apart
def product(left: Array, right: Array, out: Array) -> None:
    """out = left right."""
    terms, columns, _ = right.shape
    _products(terms, left, terms, 1, right, 1, columns, out, False)


@apart
def by_columns(left: Array, right: Array, out: Array) -> None:
    """out = left^T right."""
    terms, rows, _ = left.shape
    _products(terms, left, 1, rows, right, 1, right.shape[1], out, False)
