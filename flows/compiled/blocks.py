"""Blocks of small matrices, lanes innermost: what the compiled kernels are made of.

A block (rows, columns, WIDTH) holds WIDTH lanes with the lane as the last axis, so that every
operation is one on vectors of lanes, whatever d and r are. All lanes of a block take the same
steps; where one needs none it keeps what it has, so its bits depend on its own numbers alone. Lanes
that are poisoned are NaN from there on: nothing compares with a NaN, so they ask for nothing and
cost their neighbours nothing.
"""

from __future__ import annotations

import math
import zlib
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flows.compiled import alignment
from flows.compiled.lanes import WIDTH, Lanes, Mask, at, every, put, root, where

Array = NDArray[np.float64]

# numba's disk cache watches the file of the outermost function alone, not those it calls. A last
# argument ``blocks: int = BLOCKS`` puts the package's checksum into its key: a default that is left
# out is part of the signature.
_SOURCES = sorted(Path(__file__).parent.glob("*.py"))
BLOCKS: Final = zlib.crc32(b"".join(path.read_bytes() for path in _SOURCES))

# Squared norms up to here can be squared again without overflow. Beyond it a lane is NaN.
LARGEST: Final = 1e140

# "contract" alone: a fused multiply-add changes no NaN and the lanes of a block share their code.
plain = partial(njit, error_model="numpy", fastmath={"contract"}, boundscheck=False)
# What only kernels call needs no way in from Python, which takes a seventh of the compilation.
_inner = partial(plain, no_cpython_wrapper=True, no_cfunc_wrapper=True)
# Nor does it count references: views of blocks are many, and each cost two atomic instructions, in
# all an eighth of the time. Whoever made a block outlives those who are lent it, who may not
# return it.
apart = _inner(_nrt=False)
# For what makes arrays, and so has to count.
maker = _inner()
# Inlined by force: for what is called in an inner loop.
within = _inner(_nrt=False, forceinline=True)
aligned = plain()(alignment.aligned)


@apart
def load(source: Array, first: int, count: int, block: Array) -> None:
    """block[i, k, lane] = source[first + lane, i, k], and 0 where there is no lane."""
    rows, columns, _ = block.shape
    for i in range(rows):
        for k in range(columns):
            for lane in range(WIDTH):
                block[i, k, lane] = source[first + lane, i, k] if lane < count else 0.0


@apart
def load_pairs(source: Array, first: int, count: int, pair: Array) -> None:
    """:func:`load` of both sides: source (L, 2, d, r), pair (2, d, r, WIDTH)."""
    for side in range(2):
        load(source[:, side], first, count, pair[side])


@apart
def load_numbers(source: Array, first: int, count: int, missing: float, block: Array) -> None:
    """block[0, 0, lane] = source[first + lane], and ``missing`` where there is no lane."""
    for lane in range(WIDTH):
        block[0, 0, lane] = source[first + lane] if lane < count else missing


@apart
def store(block: Array, poison: Lanes, first: int, count: int, out: Array) -> None:
    """out[first + lane, i, k] = block[i, k, lane] + poison; the block becomes that, too."""
    rows, columns, _ = block.shape
    spoil(block, poison)
    for lane in range(count):
        for i in range(rows):
            for k in range(columns):
                out[first + lane, i, k] = block[i, k, lane]


@apart
def store_pairs(pair: Array, first: int, count: int, out: Array) -> None:
    """:func:`store` of both sides, where nothing is poisoned."""
    for side in range(2):
        store(pair[side], every(0.0), first, count, out[:, side])


@apart
def fill(block: Array, value: Lanes) -> None:
    """block[i, k] = value."""
    rows, columns, _ = block.shape
    for i in range(rows):
        for k in range(columns):
            put(block, i, k, value)


@apart
def fill_identities(pair: Array) -> None:
    """pair[side] = I in every lane, (2, r, r, WIDTH)."""
    for side in range(2):
        fill(pair[side], every(0.0))
        for i in range(pair.shape[1]):
            put(pair[side], i, i, every(1.0))


@apart
def copy(block: Array, out: Array) -> None:
    """out = block. An assignment of arrays would look for overlaps and go by a copy."""
    rows, columns, _ = block.shape
    for i in range(rows):
        for k in range(columns):
            put(out, i, k, at(block, i, k))


@apart
def add(block: Array, factor: float | Lanes, x: Array) -> None:
    """x += factor block, one factor for all lanes or one a lane."""
    rows, columns, _ = block.shape
    for i in range(rows):
        for k in range(columns):
            put(x, i, k, at(x, i, k) + factor * at(block, i, k))


@apart
def choose(good: Mask, after: Array, before: Array, out: Array) -> None:
    """out = after in lanes that are good, else before."""
    rows, columns, _ = after.shape
    for i in range(rows):
        for k in range(columns):
            put(out, i, k, where(good, at(after, i, k), at(before, i, k)))


@apart
def transpose(block: Array, turned: Array) -> None:
    """turned[k, i] = block[i, k]."""
    rows, columns, _ = block.shape
    for i in range(rows):
        for k in range(columns):
            put(turned, k, i, at(block, i, k))


@apart
def scale_rows(block: Array, factors: Array) -> None:
    """block[j] *= factors[0, j]."""
    rows, columns, _ = block.shape
    for j in range(rows):
        factor = at(factors, 0, j)
        for k in range(columns):
            put(block, j, k, at(block, j, k) * factor)


@apart
def lengths(block: Array, squares: Array) -> None:
    """squares[0, j] is the squared length of column j of the block."""
    rows, columns, _ = block.shape
    for j in range(columns):
        total = every(0.0)
        for i in range(rows):
            total += at(block, i, j) * at(block, i, j)
        put(squares, 0, j, total)


@apart
def size(block: Array) -> Lanes:
    """The sum of all squares."""
    rows, columns, _ = block.shape
    return squares_of(block, 0, rows * columns)


@within
def squares_of(block: Array, row: int, terms: int) -> Lanes:
    """The sum of the first ``terms`` squares of a row, which may go on into the next.

    Four sums at once: one alone waits for each of its additions.
    """
    a, b, c, d = every(0.0), every(0.0), every(0.0), every(0.0)
    whole = terms - terms % 4
    for k in range(0, whole, 4):
        a += at(block, row, k) * at(block, row, k)
        b += at(block, row, k + 1) * at(block, row, k + 1)
        c += at(block, row, k + 2) * at(block, row, k + 2)
        d += at(block, row, k + 3) * at(block, row, k + 3)
    for k in range(whole, terms):
        a += at(block, row, k) * at(block, row, k)
    return (a + b) + (c + d)


@apart
def trace(block: Array) -> Lanes:
    """The sum of a square block's diagonal."""
    total = every(0.0)
    for i in range(len(block)):
        total += at(block, i, i)
    return total


@apart
def spoil(block: Array, poison: Lanes) -> None:
    """NaN in lanes that are poisoned."""
    rows, columns, _ = block.shape
    for i in range(rows):
        for k in range(columns):
            put(block, i, k, at(block, i, k) + poison)


@apart
def noted(block: Array) -> Lanes:
    """The poison of lanes with an entry that is not finite."""
    rows, columns, _ = block.shape
    poison = every(0.0)
    for i in range(rows):
        for k in range(columns):
            poison += 0.0 * at(block, i, k)
    return poison


@apart
def condemned(square: Lanes) -> Lanes:
    """The poison of lanes with a sum of squares: 0, and NaN where it is too large or none."""
    return where(square < LARGEST, 0.0, math.nan)


@apart
def triangle(g: Array, beta: Lanes, columns: Array, R: Array) -> None:
    """[G; beta I] = Q R by modified Gram-Schmidt: R, zeros below, and the columns (r, d + r) of Q.

    R is as good as Householder's (Bjorck 1967), Q orthogonal to about u ||G|| / beta.
    """
    d, r, _ = g.shape
    zero = every(0.0)
    for k in range(r):
        for i in range(d):
            put(columns, k, i, at(g, i, k))
        for i in range(r):
            put(columns, k, d + i, zero)
        put(columns, k, d + k, beta)
    for j in range(r):
        # Below row d + j column j is still zero.
        rows = d + j + 1
        length = root(squares_of(columns, j, rows))
        inverse = 1.0 / length
        for i in range(rows):
            put(columns, j, i, at(columns, j, i) * inverse)
        for k in range(j):
            put(R, j, k, zero)
        put(R, j, j, length)
        left = (r - j - 1) % 4
        for k in range(j + 1, r - left, 4):
            _remove_from_four(rows, columns, j, k, R)
        for k in range(r - left, r):
            _remove(rows, columns, j, k, R)


@within
def _remove(rows: int, columns: Array, j: int, k: int, R: Array) -> None:
    """Take column j, of length one, out of column k."""
    share = every(0.0)
    for i in range(rows):
        share += at(columns, j, i) * at(columns, k, i)
    put(R, j, k, share)
    for i in range(rows):
        put(columns, k, i, at(columns, k, i) - share * at(columns, j, i))


@within
def _remove_from_four(rows: int, columns: Array, j: int, k: int, R: Array) -> None:
    """Take column j out of the columns k to k + 3."""
    a, b, c, d = every(0.0), every(0.0), every(0.0), every(0.0)
    for i in range(rows):
        unit = at(columns, j, i)
        a += unit * at(columns, k, i)
        b += unit * at(columns, k + 1, i)
        c += unit * at(columns, k + 2, i)
        d += unit * at(columns, k + 3, i)
    put(R, j, k, a)
    put(R, j, k + 1, b)
    put(R, j, k + 2, c)
    put(R, j, k + 3, d)
    for i in range(rows):
        unit = at(columns, j, i)
        put(columns, k, i, at(columns, k, i) - a * unit)
        put(columns, k + 1, i, at(columns, k + 1, i) - b * unit)
        put(columns, k + 2, i, at(columns, k + 2, i) - c * unit)
        put(columns, k + 3, i, at(columns, k + 3, i) - d * unit)
