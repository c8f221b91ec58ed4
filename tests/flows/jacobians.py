"""Dense Jacobians of the spectral flows, from their formulas: they share no code with the package.

A pair (2, d, r) stacks B above A^T.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.flows.independent import Array, Spectral


def gradients(pair: Array, target: Array) -> Array:
    """G_B above G_A^T."""
    b, a = pair[0], pair[1].T
    e = b @ a - target
    return np.stack([e @ a.T, e.T @ b])


def velocity(pair: Array, target: Array, phi: Spectral) -> Array:
    moved = []
    for gradient in gradients(pair, target):
        u, s, vt = np.linalg.svd(gradient, full_matrices=False)
        moved.append(-(u * phi(s)) @ vt)
    return np.stack(moved)


def as_matrix(operator: Callable[[Array], Array], shape: tuple[int, ...]) -> Array:
    """The matrix of a linear map of arrays of this shape."""
    units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return np.stack([operator(unit).ravel() for unit in units], axis=1)


def exact(pair: Array, target: Array, beta: float) -> Array:
    """The Jacobian of the velocity with phi(s) = s / sqrt(s^2 + beta^2).

    The symmetric part of U^T dG V meets the divided differences of phi, its antisymmetric part
    those of its odd extension, and what lies outside the range of G the quotient phi(s) / s.
    """
    b, a = pair[0], pair[1].T
    e = b @ a - target
    parts = []
    for gradient in gradients(pair, target):
        u, s, vt = np.linalg.svd(gradient, full_matrices=False)
        p = np.hypot(s, beta)
        # Without cancellation: phi(s) - phi(t) = beta^2 (s^2 - t^2) / (p q (s q + t p)).
        cross, roots, sums = s[:, None] * p + p[:, None] * s, p[:, None] * p, s[:, None] + s
        parts.append((u, vt, beta**2 * sums / (cross * roots), cross / (roots * sums), 1 / p))

    def moved(change: Array) -> Array:
        db, da = change[0], change[1].T
        de = db @ a + b @ da
        found = []
        turned = (de @ a.T + e @ da.T, de.T @ b + e.T @ db)
        for dg, (u, vt, even, odd, outside) in zip(turned, parts, strict=True):
            inner = u.T @ dg
            m = inner @ vt.T
            within = u @ (even * (m + m.T) + odd * (m - m.T)) @ vt / 2
            found.append(within + (dg - u @ inner) @ (vt.T * outside) @ vt)
        return -np.stack(found)

    return as_matrix(moved, pair.shape)


def gauss_newton(pair: Array, target: Array, phi: Spectral, left: Array) -> Array:
    """J_W of flows.frozen_metric; the columns of ``left`` (2, d, r), left singular vectors or 0,
    have rows of their own: there it is minus the derivative of the polar factor at u dB A A^T, with
    the divided differences of s / (s^2 + beta^2)^(1/2) in terms of the metric p = s / phi(s)."""
    inverses, rows = [], []
    for side, gradient in enumerate(gradients(pair, target)):
        u, s, vt = np.linalg.svd(gradient, full_matrices=False)
        inverses.append((vt.T * (phi(s) / s)) @ vt)
        # Central differences, h^6 off and round-off over h.
        near, far, further = (phi(s + h) - phi(s - h) for h in (2e-3, 4e-3, 6e-3))
        slope = (45 * near - 9 * far + further) / 0.12
        p, beta = s / phi(s), 1e-8 / phi(np.array([1e-8]))[0]
        gram = pair[1 - side].T @ pair[1 - side]
        for column in left[side].T[np.abs(left[side]).max(0) > 0]:
            i = int(np.argmax(np.abs(u.T @ column)))
            K = (1 + beta**2 / (p[i] * p)) / (p[i] + p)
            K[i] = slope[i]
            rows.append((side, column, gram @ (vt.T * K) @ vt))

    def closed(x: Array) -> Array:
        return np.asarray(x - left @ (left.transpose(0, 2, 1) @ x))

    b, a_transposed = closed(pair)
    a = a_transposed.T

    def moved(change: Array) -> Array:
        db, da_transposed = closed(change)
        product = db @ a + b @ da_transposed.T
        found = closed(-np.stack([product @ a.T @ inverses[0], product.T @ b @ inverses[1]]))
        for side, column, turning in rows:
            found[side] -= np.outer(column, column @ change[side] @ turning)
        return found

    return as_matrix(moved, pair.shape)
