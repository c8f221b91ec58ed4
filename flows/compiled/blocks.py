"""Blocks of small matrices, lanes innermost: what the compiled kernels are made of.

A block (rows, columns, WIDTH) holds WIDTH lanes with the lane as the last axis, so that every
innermost loop runs over lanes and becomes vector instructions, whatever d and r are. All lanes of a
block take the same steps; where one needs none it gets the identity, so its bits depend on its own
numbers alone. Lanes that are poisoned are NaN from there on: nothing compares with a NaN, so they
ask for no rotation and cost their neighbours nothing.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

# numba's disk cache watches the file of the outermost function alone, not this one. A last argument
# ``blocks: int = BLOCKS`` puts this file's checksum into its key: a default that is left out is
# part of the signature.
BLOCKS: Final = zlib.crc32(Path(__file__).read_bytes())

# Eight vectors of four: less pays for the loops themselves, more for the cache.
WIDTH: Final = 32
# 8 x 8 takes about seven; LAPACK's dgesvj gives up after thirty, too.
SWEEPS: Final = 30
# Transposing between lanes first and lanes last goes by eight lanes: one cache line.
TILE: Final = 8
EPSILON: Final = 2.0**-52
# Squared norms up to here can be squared again without overflow. Beyond it a lane is NaN.
LARGEST: Final = 1e140

# "contract" alone: a fused multiply-add changes no NaN and the lanes of a block share their code.
apart = njit(error_model="numpy", fastmath={"contract"}, boundscheck=False)
# Inlined by force: across calls LLVM cannot tell the arrays apart (.42 ms against .29 ms a call of
# the velocity). Every place of call is compiled anew, though; ``apart`` is for what can bear it.
compiled = njit(error_model="numpy", fastmath={"contract"}, boundscheck=False, forceinline=True)
# The outermost functions.
entry = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"}, boundscheck=False)


@compiled
def add_products(
    terms: int, x: Array, p: int, y: Array, q: int, out: Array, i: int, j: int
) -> None:
    """out[i, j] += sum over k < terms of x[p, k] y[q, k], lane by lane.

    Indices rather than slices: slices made in a hot loop are reference-counted.
    """
    width = x.shape[2]
    whole = terms - terms % 4
    # Four terms to a load and a store of out.
    for k in range(0, whole, 4):
        for lane in range(width):
            out[i, j, lane] += (
                x[p, k, lane] * y[q, k, lane]
                + x[p, k + 1, lane] * y[q, k + 1, lane]
                + x[p, k + 2, lane] * y[q, k + 2, lane]
                + x[p, k + 3, lane] * y[q, k + 3, lane]
            )
    for k in range(whole, terms):
        for lane in range(width):
            out[i, j, lane] += x[p, k, lane] * y[q, k, lane]


@apart
def load(source: Array, first: int, count: int, block: Array) -> None:
    """block[i, k, lane] = source[lane, i, k], and 0 where there is no lane."""
    rows, columns, width = block.shape
    for tile in range(0, width, TILE):
        for i in range(rows):
            for k in range(columns):
                for lane in range(tile, tile + TILE):
                    block[i, k, lane] = source[first + lane, i, k] if lane < count else 0.0


@apart
def store(block: Array, poison: Array, first: int, count: int, out: Array) -> None:
    """out[lane, i, k] = block[i, k, lane] + poison."""
    rows, columns, width = block.shape
    for tile in range(0, width, TILE):
        for i in range(rows):
            for k in range(columns):
                for lane in range(tile, tile + TILE):
                    if lane < count:
                        out[first + lane, i, k] = block[i, k, lane] + poison[0, 0, lane]


@compiled
def transpose(block: Array, turned: Array) -> None:
    """turned[k, i] = block[i, k], lane by lane."""
    rows, columns, width = block.shape
    for i in range(rows):
        for k in range(columns):
            for lane in range(width):
                turned[k, i, lane] = block[i, k, lane]


@compiled
def triangle(g: Array, beta: Array, stacked: Array, basis: Array, scratch: Array) -> None:
    """basis[j] becomes row j of R, [G; beta I] = Q R, by modified Gram-Schmidt."""
    d, r, width = g.shape
    for k in range(r):
        for i in range(d):
            for lane in range(width):
                stacked[k, i, lane] = g[i, k, lane]
        for i in range(r):
            for lane in range(width):
                stacked[k, d + i, lane] = beta[lane] if i == k else 0.0
    for j in range(r):
        # Below row d + j column j is still zero.
        rows = d + j + 1
        for k in range(r):
            for lane in range(width):
                basis[j, k, lane] = 0.0
        add_products(rows, stacked, j, stacked, j, basis, j, j)
        for lane in range(width):
            scratch[0, 0, lane] = 1.0 / basis[j, j, lane]
            basis[j, j, lane] = math.sqrt(basis[j, j, lane])
        for k in range(j + 1, r):
            add_products(rows, stacked, j, stacked, k, basis, j, k)
            for lane in range(width):
                scratch[0, 1, lane] = basis[j, k, lane] * scratch[0, 0, lane]
                basis[j, k, lane] = scratch[0, 1, lane] * basis[j, j, lane]
            for i in range(rows):
                for lane in range(width):
                    stacked[k, i, lane] -= scratch[0, 1, lane] * stacked[j, i, lane]


@compiled
def orthogonalize(x: Array, norms: Array, scratch: Array, poison: Array) -> None:
    """Rotate the columns x[p] (r, WIDTH) pairwise until they are orthogonal to round-off.

    norms[0, p] become their squared norms. Lanes that rotate still in the last of SWEEPS sweeps
    are poisoned; none is known.
    """
    r, _, width = x.shape
    # Rounding leaves overlaps of about sqrt(r) u; what is below is orthogonal.
    negligible = r * EPSILON**2
    for _ in range(SWEEPS):
        for lane in range(width):
            scratch[0, 3, lane] = 0.0
        # Afresh in each sweep: the updates below cancel where a column loses most of its length.
        for p in range(r):
            for lane in range(width):
                norms[0, p, lane] = 0.0
            add_products(r, x, p, x, p, norms, 0, p)
        still = True
        for p in range(r - 1):
            for q in range(p + 1, r):
                for lane in range(width):
                    scratch[0, 0, lane] = 0.0
                add_products(r, x, p, x, q, scratch, 0, 0)
                needed = 0
                for lane in range(width):
                    overlap = scratch[0, 0, lane]
                    needed += overlap * overlap > negligible * norms[0, p, lane] * norms[0, q, lane]
                if needed == 0:
                    continue
                still = False
                angles(norms, p, q, negligible, scratch)
                for i in range(r):
                    for lane in range(width):
                        cosine, sine = scratch[0, 1, lane], scratch[0, 2, lane]
                        u, v = x[p, i, lane], x[q, i, lane]
                        x[p, i, lane] = cosine * u - sine * v
                        x[q, i, lane] = sine * u + cosine * v
        if still:
            return
    for lane in range(width):
        if scratch[0, 3, lane] > 0:
            poison[0, 0, lane] = math.nan


@compiled
def angles(norms: Array, p: int, q: int, negligible: float, scratch: Array) -> None:
    """The small rotation that makes columns p and q orthogonal, and their squared norms after it.

    tan 2t = 2 x / (n_q - n_p); the identity where the overlap x is negligible. scratch[0] holds x,
    and then the cosine, the sine and whether the lane has moved in this sweep.
    """
    for lane in range(norms.shape[2]):
        x, n_p, n_q = scratch[0, 0, lane], norms[0, p, lane], norms[0, q, lane]
        needed = x * x > negligible * n_p * n_q
        difference = n_q - n_p
        inverse = 1.0 / math.sqrt(difference * difference + 4.0 * x * x)
        c = math.sqrt(0.5 + 0.5 * abs(difference) * inverse)
        inverse_c = 1.0 / c
        s = math.copysign(x, x * difference) * inverse * inverse_c
        shift = s * x * inverse_c
        # Selections, not branches: a 0 / 0 of columns that are orthogonal already ends here.
        scratch[0, 1, lane] = c if needed else 1.0
        scratch[0, 2, lane] = s if needed else 0.0
        scratch[0, 3, lane] = 1.0 if needed else scratch[0, 3, lane]
        norms[0, p, lane] = n_p - (shift if needed else 0.0)
        norms[0, q, lane] = n_q + (shift if needed else 0.0)


@compiled
def normalize(basis: Array, norms: Array, turned_basis: Array) -> None:
    """Columns of length one: basis[j] is v_j, turned_basis[k, j] is V[k, j]."""
    r, _, width = basis.shape
    for j in range(r):
        for lane in range(width):
            norms[0, j, lane] = 1.0 / math.sqrt(norms[0, j, lane])
        for k in range(r):
            for lane in range(width):
                basis[j, k, lane] *= norms[0, j, lane]
                turned_basis[k, j, lane] = basis[j, k, lane]


@compiled
def rotate(g: Array, basis: Array, rotated: Array, values: Array) -> None:
    """rotated = G V, and the lengths of its columns, which are the singular values of G."""
    d, r, width = g.shape
    for j in range(r):
        for lane in range(width):
            values[0, j, lane] = 0.0
    for i in range(d):
        for j in range(r):
            for lane in range(width):
                rotated[i, j, lane] = 0.0
            add_products(r, g, i, basis, j, rotated, i, j)
            for lane in range(width):
                values[0, j, lane] += rotated[i, j, lane] * rotated[i, j, lane]
    for j in range(r):
        for lane in range(width):
            values[0, j, lane] = math.sqrt(values[0, j, lane])


@compiled
def multiply(left: Array, right: Array, out: Array) -> None:
    """out[i, k] = sum over j of left[i, j] right[k, j], lane by lane: left right^T."""
    rows, terms, width = left.shape
    for i in range(rows):
        for k in range(len(right)):
            for lane in range(width):
                out[i, k, lane] = 0.0
            add_products(terms, left, i, right, k, out, i, k)


@apart
def product(left: Array, right: Array, out: Array) -> None:
    """:func:`multiply`, compiled once for all places of call."""
    multiply(left, right, out)


@apart
def overlaps(left: Array, right: Array, out: Array) -> None:
    """out[i, k] = sum over j of left[j, i] right[j, k], lane by lane: left^T right."""
    terms, rows, width = left.shape
    whole = terms - terms % 4
    for i in range(rows):
        for k in range(right.shape[1]):
            for lane in range(width):
                out[i, k, lane] = 0.0
            for j in range(0, whole, 4):
                for lane in range(width):
                    out[i, k, lane] += (
                        left[j, i, lane] * right[j, k, lane]
                        + left[j + 1, i, lane] * right[j + 1, k, lane]
                        + left[j + 2, i, lane] * right[j + 2, k, lane]
                        + left[j + 3, i, lane] * right[j + 3, k, lane]
                    )
            for j in range(whole, terms):
                for lane in range(width):
                    out[i, k, lane] += left[j, i, lane] * right[j, k, lane]


@apart
def scale_columns(block: Array, factors: Array) -> None:
    """block[:, j] *= factors[0, j]."""
    rows, columns, width = block.shape
    for i in range(rows):
        for j in range(columns):
            for lane in range(width):
                block[i, j, lane] *= factors[0, j, lane]


@apart
def spoil(block: Array, poison: Array) -> None:
    """NaN in lanes that are poisoned."""
    rows, columns, width = block.shape
    for i in range(rows):
        for k in range(columns):
            for lane in range(width):
                block[i, k, lane] += poison[0, 0, lane]
