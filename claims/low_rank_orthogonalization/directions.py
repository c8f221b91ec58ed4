"""What is known of a direction beforehand, and what follows for runs under heavy-tailed noise.

Every constant is derived here, and none is a theorem of the papers. L-smooth f, gradients
G_k = grad f(X_k) + xi_k with E||xi_k||_F^a <= sigma^a, M_k = (1 - g) M_(k-1) + g G_k from M_0 = 0,
D_k = M_k, or the look-ahead (1 - g) M_k + g G_k, and X_(k+1) = X_k - eta O_k with O_k = O(D_k).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from claims.low_rank_orthogonalization.images import image, quotients
from geometry.orthogonalizers import orthogonalizer_named

Array = NDArray[np.float64]
# The martingale inequality's: 1 would do at a = 2, and 2^(2 - a) between.
VON_BAHR_ESSEEN = 2.0
_CELLS = 1 << 14


@dataclass(frozen=True)
class Direction:
    """E<D, O(D)> >= alignment ||D||_F given D, and ||O(D)||_F <= length.

    The polar factor of an m x n matrix, m <= n, has <D, O> = ||D||_* and rank m at most: 1 and the
    root of m.

    O = Q msign(Q^T D) with Q of l vectors has <D, O> = ||Q^T D||_* >= ||Q^T D||_F. Let Q span the
    range of D V, V (n x l) orthonormal and drawn apart from D. Then ||Q^T D||_F >= ||Q^T D V||_F =
    ||D V||_F. Its square is the sum of s_i^2 ||V^T w_i||^2 over the right singular vectors w_i, and
    E of the root is concave in the s_i^2: least for a D of rank one.

    * l columns, drawn uniformly: ||D V||_F^2 is the sum of squares of those drawn, and E of the
      root is concave in the squares: least where D is one column, which is drawn with probability
      l / n. So l / n, and the length is the root of l.
    * M Omega with Omega Gaussian has the range of M V, V uniform: ||V^T w||^2 is Beta(l/2, (n-l)/2)
      distributed, so E of its root, Gamma((l+1)/2) Gamma(n/2) / (Gamma(l/2) Gamma((n+1)/2)).

    Newton-Schulz, on D / ||D||_F: <D, O> = ||D||_F sum x_i phi(x_i) with sum x_i^2 = 1, so at least
    ||D||_F min phi(x)/x over [0, 1], and ||O||_F <= max phi sqrt(m). Of Q^T D both factors apply.
    """

    alignment: float
    length: float
    look_ahead: bool = False

    def momentum_error(
        self,
        steps: Array,
        lr: Array,
        g: Array,
        *,
        sigma: Array | float,
        order: Array | float,
        start: float,
        smoothness: float = 1.0,
    ) -> Array:
        """A bound on the mean over k = 1 ... K of E||D_k - grad f(X_k)||_F.

        e_k = M_k - grad_k = (1 - g) (e_(k-1) + grad_(k-1) - grad_k) + g xi_k from e_0 = -grad_1,
        with grad_0 for grad_1. The start decays as (1 - g)^k, a change of gradient is at most
        L eta ||O||_F, and by von Bahr and Esseen's inequality for martingales (Hilbert space,
        constant 2) E||sum g (1 - g)^(k-j) xi_j||^a <= 2 sum g^a (1 - g)^(a (k-j)) sigma^a <=
        2 g^(a-1) sigma^a. So

            ||grad_1|| (1 - g) / (g K) + L eta ||O||_F (1 - g) / g + 2^(1/a) sigma g^((a-1)/a),

        and for the look-ahead, whose error is (1 - g) e_k + g xi_k, 1 - g times this and g sigma.

        Reference for the inequality: von Bahr and Esseen, Ann. Math. Statist. 36, 1965.
        """
        noise = VON_BAHR_ESSEEN ** (1 / order) * sigma * g ** ((order - 1) / order)
        moved = start / steps + smoothness * lr * self.length
        error = moved * (1 - g) / g + noise
        return (1 - g) * error + g * sigma if self.look_ahead else error

    def gradient(
        self,
        steps: Array,
        lr: Array,
        g: Array,
        *,
        gap: float,
        sigma: Array | float,
        order: Array | float,
        start: float,
        smoothness: float = 1.0,
    ) -> Array:
        """A bound on the mean over k = 1 ... K of E||grad f(X_k)||_F.

        f(X_(k+1)) <= f(X_k) - eta <grad_k, O_k> + L eta^2 ||O||_F^2 / 2. With the error e of D_k
        <grad, O> >= <D, O> - ||e|| ||O||, of mean c ||D|| - ||e|| ||O|| at least, and
        ||D|| >= ||grad|| - ||e||. Summed up, with gap = f(X_1) - inf f and c the alignment:

            (gap / (eta K) + L eta ||O||_F^2 / 2) / c + (1 + ||O||_F / c) mean E||e_k||.
        """
        error = self.momentum_error(
            steps, lr, g, sigma=sigma, order=order, start=start, smoothness=smoothness
        )
        descent = gap / (lr * steps) + smoothness * lr * self.length**2 / 2
        return descent / self.alignment + (1 + self.length / self.alignment) * error


def polar(rank: int, look_ahead: bool = False) -> Direction:
    """The exact polar factor of matrices whose smaller dimension is ``rank``."""
    return Direction(1.0, math.sqrt(rank), look_ahead)


def columns(n: int, count: int, look_ahead: bool = False) -> Direction:
    """Within ``count`` columns of n."""
    return Direction(count / n, math.sqrt(count), look_ahead)


def gaussian(n: int, count: int, look_ahead: bool = False) -> Direction:
    """Within the range of D Omega, Omega n x count."""
    logarithm = (
        math.lgamma((count + 1) / 2) + math.lgamma(n / 2)
        - math.lgamma(count / 2) - math.lgamma((n + 1) / 2)
    )  # fmt: skip
    return Direction(math.exp(logarithm), math.sqrt(count), look_ahead)


def by_polynomials(exact: Direction, method: str, steps: int) -> Direction:
    """With an iteration of the table of orthogonalisers in place of the exact polar factor."""
    least, largest = _constants(method, steps)
    return Direction(exact.alignment * least, exact.length * largest, exact.look_ahead)


@cache
def _constants(method: str, steps: int) -> tuple[float, float]:
    """min phi(x)/x and max phi(x) over [0, 1], enclosed cell by cell."""
    polynomials = orthogonalizer_named(method).polynomials(steps)
    ends = np.linspace(0, 1, _CELLS + 1)
    low, high = ends[:-1], ends[1:]
    least = float(quotients(polynomials, low, high)[0].min())
    for polynomial in polynomials:
        low, high = image(polynomial, low, high)
    return least, float(high.max())
