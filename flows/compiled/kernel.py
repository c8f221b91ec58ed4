"""The kernel: many small smoothed polar factors at once, lanes innermost.

A block holds WIDTH lanes with the lane as the last axis, so that every innermost loop runs over
lanes and becomes vector instructions, whatever d and r are. All lanes of a block take the same
steps; where one needs none it gets the identity, so its bits depend on its own numbers alone.

The eigenvectors of H = G^T G + beta^2 I come without H being formed, which would square the
condition number: [G; beta I] = Q R by modified Gram-Schmidt, whose R is as good as Householder's
(Bjorck 1967), and then Jacobi rotations from one side make the columns of R^T orthogonal
(Hestenes 1958; on R^T they take fewer sweeps and shorter columns, Drmac and Veselic 2008). Those
columns are V diag(p), p^2 the eigenvalues of H: no rotation has to be accumulated. Everything here
is the exact result of a [G; beta I] perturbed by a few u ||G||, so the velocity is good to about
u ||G|| / beta.

This is the only module that imports numba. It stays one file because numba's disk cache watches
the file of the outermost function alone.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
# Inlined by force: across calls LLVM cannot tell the arrays apart (.42 ms against .29 ms a call).
compiled = njit(error_model="numpy", fastmath={"contract"}, boundscheck=False, forceinline=True)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"}, boundscheck=False)
def fill_velocity(
    states: Array,
    target: Array,
    beta: Array,
    l2: float,
    is_tanh: bool,
    velocity: Array,
    gradient: Array,
    vectors: Array,
    values: Array,
) -> None:
    """Fill velocity with -T_beta of the gradients and, unless they are empty, the other outputs.

    Args:
        states: (L, 2, d, r), b above a^T.
        target: (L, d, d).
        beta: (L,), positive.
        l2: coefficient of the coupled regulariser.
        is_tanh: tanh(s / beta) instead of s / sqrt(s^2 + beta^2).
        velocity, gradient: (L, 2, d, r), filled; gradient may be (0, 2, d, r), then it is not.
        vectors: (L, 2, r, r), eigenvectors of each G^T G in its columns; or (0, 2, r, r).
        values: (L, 2, r), the singular values s of G in the order of the vectors; or (0, 2, r).

    All are C-contiguous float64. Lanes with a gradient that is not finite, or whose squares would
    overflow, are NaN in every output.
    """
    lanes, d, r = states.shape[0], states.shape[2], states.shape[3]
    pair = np.empty((2, d, r, WIDTH))
    turned_pair = np.empty((2, r, d, WIDTH))
    residual = np.empty((2, d, d, WIDTH))
    gradients = np.empty((2, d, r, WIDTH))
    stacked = np.empty((r, d + r, WIDTH))
    basis = np.empty((r, r, WIDTH))
    turned_basis = np.empty((r, r, WIDTH))
    rotated = np.empty((d, r, WIDTH))
    product = np.empty((d, r, WIDTH))
    norms = np.empty((1, r, WIDTH))
    scratch = np.empty((1, 4, WIDTH))
    scale = np.empty(WIDTH)
    poison = np.empty((1, 1, WIDTH))
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        for lane in range(WIDTH):
            # Lanes that are not there have a zero state: nothing to rotate.
            scale[lane] = beta[first + lane] if lane < count else 1.0
        for side in range(2):
            _load(states[:, side], first, count, pair[side])
            _transpose(pair[side], turned_pair[side])
        # The target takes the room of the transposed residual until that is known.
        _load(target, first, count, residual[1])
        _residual(pair[0], pair[1], residual[1], residual[0])
        _transpose(residual[0], residual[1])
        for side in range(2):
            _gradient(residual[side], turned_pair[1 - side], pair[side], l2, gradients[side])
        _silence(gradients, poison)
        for side in range(2):
            g = gradients[side]
            _triangle(g, scale, stacked, basis, scratch)
            _orthogonalize(basis, norms, scratch, poison)
            _normalize(basis, norms, turned_basis)
            _rotate(g, basis, rotated, norms)
            if len(vectors) > 0:
                _store(turned_basis, poison, first, count, vectors[:, side])
                _store(norms, poison, first, count, values[:, side : side + 1])
            _weigh(rotated, norms, scale, is_tanh)
            _multiply(rotated, turned_basis, product)
            _store(product, poison, first, count, velocity[:, side])
        if len(gradient) > 0:
            for side in range(2):
                _store(gradients[side], poison, first, count, gradient[:, side])


@compiled
def _add_products(
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


@compiled
def _load(source: Array, first: int, count: int, block: Array) -> None:
    """block[i, k, lane] = source[lane, i, k], and 0 where there is no lane."""
    rows, columns, width = block.shape
    for tile in range(0, width, TILE):
        for i in range(rows):
            for k in range(columns):
                for lane in range(tile, tile + TILE):
                    block[i, k, lane] = source[first + lane, i, k] if lane < count else 0.0


@compiled
def _store(block: Array, poison: Array, first: int, count: int, out: Array) -> None:
    """out[lane, i, k] = block[i, k, lane] + poison."""
    rows, columns, width = block.shape
    for tile in range(0, width, TILE):
        for i in range(rows):
            for k in range(columns):
                for lane in range(tile, tile + TILE):
                    if lane < count:
                        out[first + lane, i, k] = block[i, k, lane] + poison[0, 0, lane]


@compiled
def _transpose(block: Array, turned: Array) -> None:
    """turned[k, i] = block[i, k], lane by lane."""
    rows, columns, width = block.shape
    for i in range(rows):
        for k in range(columns):
            for lane in range(width):
                turned[k, i, lane] = block[i, k, lane]


@compiled
def _residual(b: Array, a: Array, y: Array, e: Array) -> None:
    """e = b a - y, (d, d, WIDTH); a is given transposed, (d, r, WIDTH) as b is."""
    d, r, width = b.shape
    for i in range(d):
        for j in range(d):
            for lane in range(width):
                e[i, j, lane] = -y[i, j, lane]
            _add_products(r, b, i, a, j, e, i, j)


@compiled
def _gradient(e: Array, other: Array, own: Array, l2: float, g: Array) -> None:
    """g = e a^T + l2 b, for other = a (r, d, WIDTH) and own = b (d, r, WIDTH)."""
    d, r, width = own.shape
    for i in range(d):
        for k in range(r):
            for lane in range(width):
                g[i, k, lane] = l2 * own[i, k, lane]
            _add_products(d, e, i, other, k, g, i, k)


@compiled
def _silence(gradients: Array, poison: Array) -> None:
    """Poison is NaN for lanes whose gradient no norm can be taken of, which become 0, and else 0.

    A zero gradient needs no rotation, so such a lane costs its neighbours no sweep.
    """
    _, d, r, width = gradients.shape
    for lane in range(width):
        poison[0, 0, lane] = 0.0
    for side in range(2):
        g = gradients[side]
        for i in range(d):
            _add_products(r, g, i, g, i, poison, 0, 0)
    sound = 0
    for lane in range(width):
        # NaN compares false.
        sound += poison[0, 0, lane] < LARGEST
        poison[0, 0, lane] = 0.0 if poison[0, 0, lane] < LARGEST else math.nan
    if sound == width:
        return
    for side in range(2):
        for i in range(d):
            for k in range(r):
                for lane in range(width):
                    if math.isnan(poison[0, 0, lane]):
                        gradients[side, i, k, lane] = 0.0


@compiled
def _triangle(g: Array, beta: Array, stacked: Array, basis: Array, scratch: Array) -> None:
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
        _add_products(rows, stacked, j, stacked, j, basis, j, j)
        for lane in range(width):
            scratch[0, 0, lane] = 1.0 / basis[j, j, lane]
            basis[j, j, lane] = math.sqrt(basis[j, j, lane])
        for k in range(j + 1, r):
            _add_products(rows, stacked, j, stacked, k, basis, j, k)
            for lane in range(width):
                scratch[0, 1, lane] = basis[j, k, lane] * scratch[0, 0, lane]
                basis[j, k, lane] = scratch[0, 1, lane] * basis[j, j, lane]
            for i in range(rows):
                for lane in range(width):
                    stacked[k, i, lane] -= scratch[0, 1, lane] * stacked[j, i, lane]


@compiled
def _orthogonalize(x: Array, norms: Array, scratch: Array, poison: Array) -> None:
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
            _add_products(r, x, p, x, p, norms, 0, p)
        still = True
        for p in range(r - 1):
            for q in range(p + 1, r):
                for lane in range(width):
                    scratch[0, 0, lane] = 0.0
                _add_products(r, x, p, x, q, scratch, 0, 0)
                needed = 0
                for lane in range(width):
                    overlap = scratch[0, 0, lane]
                    needed += overlap * overlap > negligible * norms[0, p, lane] * norms[0, q, lane]
                if needed == 0:
                    continue
                still = False
                _angles(norms, p, q, negligible, scratch)
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
def _angles(norms: Array, p: int, q: int, negligible: float, scratch: Array) -> None:
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
def _normalize(basis: Array, norms: Array, turned_basis: Array) -> None:
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
def _rotate(g: Array, basis: Array, rotated: Array, values: Array) -> None:
    """rotated = G V, and the lengths of its columns, which are the singular values of G."""
    d, r, width = g.shape
    for j in range(r):
        for lane in range(width):
            values[0, j, lane] = 0.0
    for i in range(d):
        for j in range(r):
            for lane in range(width):
                rotated[i, j, lane] = 0.0
            _add_products(r, g, i, basis, j, rotated, i, j)
            for lane in range(width):
                values[0, j, lane] += rotated[i, j, lane] * rotated[i, j, lane]
    for j in range(r):
        for lane in range(width):
            values[0, j, lane] = math.sqrt(values[0, j, lane])


@compiled
def _weigh(rotated: Array, values: Array, beta: Array, is_tanh: bool) -> None:
    """Multiply column j of G V by -f(s_j) / s_j, which values[0, j] becomes."""
    d, r, width = rotated.shape
    for j in range(r):
        if is_tanh:
            for lane in range(width):
                s = values[0, j, lane]
                values[0, j, lane] = -math.tanh(s / beta[lane]) / s if s > 0 else -1.0 / beta[lane]
        else:
            for lane in range(width):
                values[0, j, lane] = -1.0 / math.sqrt(values[0, j, lane] ** 2 + beta[lane] ** 2)
    for i in range(d):
        for j in range(r):
            for lane in range(width):
                rotated[i, j, lane] *= values[0, j, lane]


@compiled
def _multiply(left: Array, right: Array, out: Array) -> None:
    """out[i, k] = sum over j of left[i, j] right[k, j], lane by lane."""
    d, r, width = left.shape
    for i in range(d):
        for k in range(r):
            for lane in range(width):
                out[i, k, lane] = 0.0
            _add_products(r, left, i, right, k, out, i, k)
