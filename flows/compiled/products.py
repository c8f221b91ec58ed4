"""Products of small matrices by blocks, in tiles whose sums stay in registers.

Every block is taken as one long row. x has the first row at p, the next x_next further on, and a
term every x_term; y likewise.
"""

from __future__ import annotations

from flows.compiled.blocks import Array, apart, within
from flows.compiled.lanes import WIDE, Lanes, at, every, put


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
) -> None:
    """A tile of 2 x 2 entries of ``out`` from ``spot`` on, all sums in registers."""
    a, b, c, d = every(0.0), every(0.0), every(0.0), every(0.0)
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
def _large_tile(
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
) -> None:
    """A tile of 4 x 4: half the loads, but it takes twenty-one registers of all lanes."""
    a0, a1, a2, a3 = every(0.0), every(0.0), every(0.0), every(0.0)
    b0, b1, b2, b3 = every(0.0), every(0.0), every(0.0), every(0.0)
    c0, c1, c2, c3 = every(0.0), every(0.0), every(0.0), every(0.0)
    d0, d1, d2, d3 = every(0.0), every(0.0), every(0.0), every(0.0)
    for _ in range(terms):
        s, t = at(y, 0, q), at(y, 0, q + y_next)
        v, w = at(y, 0, q + 2 * y_next), at(y, 0, q + 3 * y_next)
        u = at(x, 0, p)
        a0 += u * s
        a1 += u * t
        a2 += u * v
        a3 += u * w
        u = at(x, 0, p + x_next)
        b0 += u * s
        b1 += u * t
        b2 += u * v
        b3 += u * w
        u = at(x, 0, p + 2 * x_next)
        c0 += u * s
        c1 += u * t
        c2 += u * v
        c3 += u * w
        u = at(x, 0, p + 3 * x_next)
        d0 += u * s
        d1 += u * t
        d2 += u * v
        d3 += u * w
        p += x_term
        q += y_term
    _put_row(out, spot, a0, a1, a2, a3)
    _put_row(out, spot + row, b0, b1, b2, b3)
    _put_row(out, spot + 2 * row, c0, c1, c2, c3)
    _put_row(out, spot + 3 * row, d0, d1, d2, d3)


@within
def _put_row(out: Array, spot: int, a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> None:
    put(out, 0, spot, a)
    put(out, 0, spot + 1, b)
    put(out, 0, spot + 2, c)
    put(out, 0, spot + 3, d)


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
) -> None:
    """One entry of ``out``, as :func:`_tile` has four."""
    a = every(0.0)
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
) -> None:
    """out[i, j] = sum over k < terms of x[i x_next + k x_term] y[j y_next + k y_term]."""
    rows, columns, _ = out.shape
    tall, broad = 0, 0
    if WIDE:
        tall, broad = rows - rows % 4, columns - columns % 4
    for i in range(0, tall, 4):
        p, row = i * x_next, i * columns
        for j in range(0, broad, 4):
            q = j * y_next
            _large_tile(terms, x, p, x_next, x_term, y, q, y_next, y_term, out, row + j, columns)
    # What they leave, by tiles of 2 x 2.
    high, wide = rows - rows % 2, columns - columns % 2
    for i in range(0, high, 2):
        p, row = i * x_next, i * columns
        begin = broad if i < tall else 0
        for j in range(begin, wide, 2):
            q = j * y_next
            _tile(terms, x, p, x_next, x_term, y, q, y_next, y_term, out, row + j, columns)
        for j in range(wide, columns):
            q = j * y_next
            _entry(terms, x, p, x_term, y, q, y_term, out, row + j)
            _entry(terms, x, p + x_next, x_term, y, q, y_term, out, row + columns + j)
    for i in range(high, rows):
        for j in range(columns):
            _entry(terms, x, i * x_next, x_term, y, j * y_next, y_term, out, i * columns + j)


@apart
def by_rows(left: Array, right: Array, out: Array) -> None:
    """out = left right^T."""
    terms = left.shape[1]
    _products(terms, left, terms, 1, right, terms, 1, out)


@apart
def product(left: Array, right: Array, out: Array) -> None:
    """out = left right."""
    terms, columns, _ = right.shape
    _products(terms, left, terms, 1, right, 1, columns, out)


@apart
def by_columns(left: Array, right: Array, out: Array) -> None:
    """out = left^T right."""
    terms, rows, _ = left.shape
    _products(terms, left, 1, rows, right, 1, right.shape[1], out)
