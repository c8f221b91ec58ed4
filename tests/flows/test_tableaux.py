"""Runge–Kutta methods: order conditions, measured orders, stability."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flows import MatrixFactorization, integrate, spectral_flow
from flows.runge_kutta import Method
from flows.tableaux import TABLEAUX, Tableau
from tests.flows.independent import Flow, as_arrays, dense_target, sqrt_sign

METHODS = sorted(TABLEAUX)
DENSE = [name for name in METHODS if TABLEAUX[name].dense is not None]
Array = NDArray[np.float64]
Tree = tuple["Tree", ...]  # a rooted tree is the sorted tuple of the subtrees at its root


def trees(nodes: int) -> list[Tree]:
    """All rooted trees with so many nodes."""
    if nodes == 1:
        return [()]
    found = set()
    for sizes in partitions(nodes - 1):
        for subtrees in product(*(trees(size) for size in sizes)):
            found.add(tuple(sorted(subtrees)))
    return sorted(found)


def partitions(total: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    largest = total if largest is None else largest
    if total == 0:
        yield ()
    for first in range(min(total, largest), 0, -1):
        for rest in partitions(total - first, first):
            yield (first, *rest)


def nodes(tree: Tree) -> int:
    return 1 + sum(nodes(subtree) for subtree in tree)


def density(tree: Tree) -> int:
    return nodes(tree) * math.prod(density(subtree) for subtree in tree)


def stage_weights(tree: Tree, a: Array) -> Array:
    """The elementary weight of a tree, stage by stage (Butcher's g_i)."""
    weights = np.ones(len(a))
    for subtree in tree:
        weights = weights * (a @ stage_weights(subtree, a))
    return weights


def padded(tableau: Tableau) -> Array:
    """a with the end of the step as one more stage (first same as last)."""
    rows = tableau.rows
    return np.pad(rows, ((0, 0), (0, 1)))


def test_trees_are_counted_as_by_cayley() -> None:
    assert [len(trees(n)) for n in range(1, 7)] == [1, 1, 2, 4, 9, 20]


@pytest.mark.parametrize("name", METHODS)
def test_order_conditions(name: str) -> None:
    tableau = TABLEAUX[name]
    b = np.append(tableau.b, 0.0)
    residuals = [
        abs(b @ stage_weights(tree, padded(tableau)) - 1 / density(tree))
        for order in range(1, tableau.order + 1)
        for tree in trees(order)
    ]
    assert max(residuals) <= 1e-14
    beyond = [
        abs(b @ stage_weights(tree, padded(tableau)) - 1 / density(tree))
        for tree in trees(tableau.order + 1)
    ]
    assert max(beyond) > 1e-5


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_explicit(name: str) -> None:
    tableau = TABLEAUX[name]
    assert not np.triu(tableau.rows[:-1]).any()
    assert tableau.rows.shape == (tableau.stages + 1, tableau.stages)
    assert tableau.reference


@pytest.mark.parametrize("name", DENSE)
def test_the_embedded_method_is_one_order_below(name: str) -> None:
    tableau = TABLEAUX[name]
    assert tableau.error is not None
    a = padded(tableau)
    embedded = np.append(tableau.b, 0.0) - tableau.error
    residuals = {
        order: max(
            abs(embedded @ stage_weights(tree, a) - 1 / density(tree)) for tree in trees(order)
        )
        for order in range(1, tableau.order + 1)
    }
    assert max(residuals[order] for order in range(1, tableau.order)) <= 1e-14
    assert residuals[tableau.order] > 1e-5


@pytest.mark.parametrize("name", DENSE)
def test_dense_output_conditions(name: str) -> None:
    # b_s(theta) meets the conditions of order one below the step's, with theta^order on the right.
    tableau = TABLEAUX[name]
    assert tableau.dense is not None
    a, powers = padded(tableau), np.arange(1, tableau.dense.shape[1] + 1)
    for theta in np.linspace(0, 1, 7):
        b = tableau.dense @ theta**powers
        for order in range(1, tableau.order):
            for tree in trees(order):
                expected = theta**order / density(tree)
                assert abs(b @ stage_weights(tree, a) - expected) <= 1e-14
    assert np.abs(tableau.dense.sum(1) - np.append(tableau.b, 0.0)).max() <= 1e-14
    # The derivatives at both ends are the velocities there: the output is continuously
    # differentiable across steps.
    slope_at_end = tableau.dense @ powers
    assert np.abs(tableau.dense[:, 0] - np.eye(len(a))[0]).max() <= 1e-14
    assert np.abs(slope_at_end - np.eye(len(a))[-1]).max() <= 1e-13


# The real stability intervals: Hairer, Wanner, Solving ODEs II, table IV.2; 4-stage order 4 by
# the root of 1 - z/2 + z^2/6 - z^3/24 = 0.
@pytest.mark.parametrize(
    ("name", "interval"),
    [("euler", 2.0), ("runge_kutta_4", 2.785293563405282), ("dormand_prince", 3.3066)],
)
def test_stability_intervals(name: str, interval: float) -> None:
    assert TABLEAUX[name].stability == pytest.approx(interval, abs=1.1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_stability_interval_is_that_of_the_steps_themselves(name: str) -> None:
    tableau = TABLEAUX[name]
    like = torch.ones(1, 1, dtype=torch.float64)
    method = Method.on(tableau, like)
    for share, stable in ((0.99, True), (1.01, False)):
        h = torch.full((1,), share * tableau.stability, dtype=torch.float64)
        step = method.step(lambda y: -y, like, -like, h)
        assert (float(step.end.abs()) <= 1.0) is stable


def order_of(errors: list[float], steps: list[float]) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


# A smooth flow, far from its saddles and its end: the time scale is of order one.
PROBLEM = MatrixFactorization.planted(m=5, n=4, singular_values=[1.2, 0.8], rank=2, seed=3)
COUNTS = {
    "euler": (256, 384, 512, 768, 1024),
    "runge_kutta_4": (16, 24, 32, 48, 64),
    "dormand_prince": (16, 24, 32, 48, 64),
}


@pytest.mark.parametrize("name", METHODS)
def test_order_on_a_spectral_flow(name: str) -> None:
    start = PROBLEM.gaussian_init(1.0, seed=2)
    beta, end = 0.5, 1.0
    field = spectral_flow(PROBLEM, beta)
    reference = Flow(dense_target(PROBLEM), sqrt_sign(beta)).products(*as_arrays(start), [end])[0]
    steps = [end / count for count in COUNTS[name]]
    errors = [
        float(
            np.abs(
                integrate(field, start, [end], method=name, step=h).products[0].numpy() - reference
            ).max()
        )
        for h in steps
    ]
    # Above the reference's own error, or the slope would be that of noise.
    assert min(errors) > 3e-12
    assert order_of(errors, steps) == pytest.approx(TABLEAUX[name].order, abs=0.1)


@pytest.mark.parametrize("name", DENSE)
def test_order_of_the_dense_output(name: str) -> None:
    # One step into a logistic curve; for a linear equation this output would gain an order.
    def velocity(y: torch.Tensor) -> torch.Tensor:
        return y * (1 - y)

    start = torch.tensor([[0.2]], dtype=torch.float64)
    method = Method.on(TABLEAUX[name], start)
    steps = [0.2, 0.1, 0.05, 0.025]
    for theta in (0.3, 0.7):
        errors = []
        for h in steps:
            size = torch.tensor([h], dtype=torch.float64)
            step = method.step(velocity, start, velocity(start), size)
            inside = method.interpolate(start, size, step.K, torch.full_like(size, theta))
            errors.append(abs(float(inside) - 1 / (1 + 4 * math.exp(-theta * h))))
        assert order_of(errors, steps) == pytest.approx(TABLEAUX[name].order, abs=0.1)


def test_lanes_take_their_own_steps() -> None:
    method = Method.on(TABLEAUX["runge_kutta_4"], torch.ones(1, 1, dtype=torch.float64))
    y = torch.ones(2, 1, dtype=torch.float64)
    h = torch.tensor([0.01, 0.1], dtype=torch.float64)
    step = method.step(lambda state: -state, y, -y, h)
    assert step.end[:, 0].tolist() == pytest.approx([math.exp(-0.01), math.exp(-0.1)], abs=1e-7)
