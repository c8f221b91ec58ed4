"""Radau IIA: the published coefficients, the conditions that define it, stability, order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flows.radau import Radau

Array = NDArray[np.float64]
# The round-off of each: A comes from the inverse of a Vandermonde matrix (measured: 1e-13 at 7).
STAGES = {1: 1e-15, 3: 1e-14, 5: 1e-13, 7: 1e-12}
LIKE = torch.zeros(1, dtype=torch.float64)
ROOT = math.sqrt(6)
# Hairer, Wanner, Solving Ordinary Differential Equations II, table IV.5.6: order 5.
NODES = [(4 - ROOT) / 10, (4 + ROOT) / 10, 1.0]
MATRIX = [
    [(88 - 7 * ROOT) / 360, (296 - 169 * ROOT) / 1800, (-2 + 3 * ROOT) / 225],
    [(296 + 169 * ROOT) / 1800, (88 + 7 * ROOT) / 360, (-2 - 3 * ROOT) / 225],
    [(16 - ROOT) / 36, (16 + ROOT) / 36, 1 / 9],
]


def coefficients(stages: int) -> tuple[Radau, Array, Array]:
    """The method, its nodes c and its matrix A."""
    method = Radau.on(stages, LIKE)
    return method, method.nodes.numpy(), method.matrix.numpy()


def test_three_stages_are_the_published_ones() -> None:
    _, c, A = coefficients(3)
    assert np.abs(c - NODES).max() <= 1e-15
    assert np.abs(A - MATRIX).max() <= 1e-14


def test_one_stage_is_backward_euler() -> None:
    _, c, A = coefficients(1)
    assert (c.tolist(), A.tolist()) == ([1.0], [[1.0]])


@pytest.mark.parametrize("stages", STAGES)
def test_simplifying_conditions(stages: int) -> None:
    # B(2s - 1), C(s) and D(s - 1) together are order 2s - 1 (Butcher 1964).
    _, c, A = coefficients(stages)
    b = A[-1]
    for k in range(1, 2 * stages):
        assert abs(b @ c ** (k - 1) - 1 / k) <= STAGES[stages]
    for k in range(1, stages + 1):
        assert np.abs(A @ c ** (k - 1) - c**k / k).max() <= STAGES[stages]
    for k in range(1, stages):
        assert np.abs((b * c ** (k - 1)) @ A - b * (1 - c**k) / k).max() <= STAGES[stages]
    # And no more: the quadrature's first error is above 1e-9 for 7 stages.
    beyond = 2 * stages
    assert abs(b @ c ** (beyond - 1) - 1 / beyond) > 1e-9


@pytest.mark.parametrize("stages", STAGES)
def test_a_step_ends_in_its_last_stage(stages: int) -> None:
    _, c, A = coefficients(stages)
    assert c[-1] == 1.0
    assert c[0] > 0
    assert (np.diff(c) > 0).all()
    # The weights are the last row of A; as those of every Gauss rule they are positive.
    assert (A[-1] > 0).all()


@pytest.mark.parametrize("stages", STAGES)
def test_the_triangle_stands_in_for_the_matrix(stages: int) -> None:
    method, _, A = coefficients(stages)
    L, eye = method.lower.numpy(), np.eye(stages)
    assert np.array_equal(L, np.tril(L))
    assert (np.diag(L) > 0).all()
    # A = L U with a unit diagonal in U, so that 1 - L A^-1 has the eigenvalue 0 alone.
    U = np.linalg.solve(L, A)
    assert np.abs(U - np.triu(U)).max() <= 1e-11
    assert np.abs(np.diag(U) - 1).max() <= 1e-11
    assert np.abs(np.linalg.matrix_power(eye - L @ np.linalg.inv(A), stages)).max() <= 1e-9
    assert np.abs(method.lower_inverse.numpy() @ L - eye).max() <= 1e-12
    assert np.abs(method.inverse.numpy() @ A - eye).max() <= 1e-11


@pytest.mark.parametrize("stages", [3, 5])
def test_the_triangular_iteration_contracts(stages: int) -> None:
    # On y' = -x y the error of the stages is multiplied by 1 - (L^-1 + x)^-1 (A^-1 + x).
    method, _, _ = coefficients(stages)
    lower, inverse = method.lower_inverse.numpy(), method.inverse.numpy()
    radii = []
    for x in np.geomspace(1e-8, 1e8, 400):
        step = np.linalg.solve(lower + x * np.eye(stages), lower - inverse)
        radii.append(np.abs(np.linalg.eigvals(step)).max())
    # Measured: .14 with three stages and .24 with five, near x = 10; 0 at both ends.
    assert max(radii) < (0.2 if stages == 3 else 0.3)
    assert max(radii[0], radii[-1]) < 0.01


def stability(A: Array, z: complex) -> complex:
    """R(z) = 1 + z b^T (1 - z A)^-1 1."""
    ones = np.ones(len(A))
    return complex(1 + z * (A[-1] @ np.linalg.solve(np.eye(len(A)) - z * A, ones)))


@pytest.mark.parametrize("stages", STAGES)
def test_stability(stages: int) -> None:
    _, _, A = coefficients(stages)
    # No poles on the left and |R| <= 1 on the imaginary axis: A-stable, by the maximum principle.
    assert (np.linalg.eigvals(A).real > 0).all()
    for y in np.geomspace(1e-3, 1e6, 200):
        assert abs(stability(A, 1j * y)) <= 1 + 1e-12
        assert abs(stability(A, -y)) < 1
    # R is the Padé approximant (s - 1, s) of the exponential: |R(z)| ~ s / |z| far out, 0 in the
    # limit, and within |z|^2s of it near 0.
    for far in (1e5, 1e6, 1e7):
        assert abs(stability(A, -far)) * far == pytest.approx(stages, rel=1e-3)
    assert stability(A, -0.1) == pytest.approx(
        math.exp(-0.1), abs=0.1 ** (2 * stages) + STAGES[stages]
    )
    assert abs(1 - A[-1] @ np.linalg.solve(A, np.ones(stages))) <= 1e-12


@pytest.mark.parametrize("stages", STAGES)
def test_the_embedded_quadrature(stages: int) -> None:
    # y' = t^k: f_0 = 0^k and Z / h = A c^k, so start_weight f_0 + error Z / h is the embedded
    # quadrature minus the method's.
    method, c, A = coefficients(stages)
    estimates = []
    for k in range(stages + 1):
        estimate = method.start_weight * 0.0**k + float(method.error.numpy() @ (A @ c**k))
        estimates.append(estimate + A[-1] @ c**k - 1 / (k + 1))
    assert np.abs(estimates[:stages]).max() <= 1e-14
    assert abs(estimates[stages]) > 1e-5
    assert method.start_weight > 0


@pytest.mark.parametrize("stages", STAGES)
def test_the_polynomial_within_a_step(stages: int) -> None:
    method, c, _ = coefficients(stages)
    # Round-off times the condition number of the change of basis.
    round_off = 4 * np.finfo(float).eps * np.linalg.cond(method.coefficients.numpy())
    assert np.abs(method.basis_at(method.nodes).numpy() - np.eye(stages)).max() <= round_off
    assert float(method.basis_at(LIKE).abs().max()) == 0.0
    theta = torch.linspace(-0.5, 1.5, 12, dtype=torch.float64).view(3, 4)
    basis = method.basis_at(theta).numpy()
    assert basis.shape == (3, 4, stages)
    for k in range(1, stages + 1):
        assert np.abs(basis @ c**k - theta.numpy() ** k).max() <= round_off
    beyond = stages + 1
    assert np.abs(basis @ c**beyond - theta.numpy() ** beyond).max() > 1e-4


@pytest.mark.parametrize("stages", [-1, 0, 2, 4])
def test_the_number_of_stages_is_odd(stages: int) -> None:
    with pytest.raises(ValueError, match=f"stages: an odd number is expected; given {stages}"):
        Radau.on(stages, LIKE)


def test_the_method_is_cast() -> None:
    method = Radau.on(3, torch.zeros(1, dtype=torch.float32))
    cast = (method.nodes, method.inverse, method.lower, method.error, method.coefficients)
    assert {x.dtype for x in cast} == {torch.float32}


def logistic(A: Array, y: float, h: float, steps: int) -> float:
    """y' = y (1 - y) in so many steps, the stages by Newton's method."""
    eye = np.eye(len(A))
    for _ in range(steps):
        Z = np.zeros(len(A))
        for _ in range(8):
            stages = y + Z
            defect = Z - h * A @ (stages * (1 - stages))
            Z = Z - np.linalg.solve(eye - h * A * (1 - 2 * stages), defect)
        assert np.abs(Z - h * A @ ((y + Z) * (1 - y - Z))).max() <= 1e-15
        y = y + Z[-1]
    return float(y)


@pytest.mark.parametrize(
    ("stages", "counts"), [(1, (64, 96, 128, 192, 256)), (3, (8, 12, 16, 24, 32))]
)
def test_order(stages: int, counts: tuple[int, ...]) -> None:
    _, _, A = coefficients(stages)
    exact = 1 / (1 + 4 * math.exp(-2.0))
    errors = [abs(logistic(A, 0.2, 2.0 / count, count) - exact) for count in counts]
    # Above round-off, or the slope would be that of noise.
    assert min(errors) > 1e-13
    slope = -float(np.polyfit(np.log(counts), np.log(errors), 1)[0])
    assert slope == pytest.approx(2 * stages - 1, abs=0.1)
