"""The structured Jacobian: it solves what it says, and what it leaves out does not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from flows import MatrixFactorization, integrate, spectral_flow
from flows.coordinates import ReducedCoordinates
from flows.frozen_metric import FrozenMetric
from flows.rules import RULES
from flows.spectrum import Spectrum, spectrum_of
from tests.flows.independent import Array, sqrt_sign, tanh_sign
from tests.flows.jacobians import exact, gauss_newton, gradients, velocity

LANES, D, R = 3, 7, 3
SIZE = 2 * D * R
SIGNS = {"sqrt": sqrt_sign, "tanh": tanh_sign}
BETA = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PAIR, TARGET = drawn(LANES, 2, D, R), drawn(LANES, D, D, seed=1)
# The reach that leaves no mode slow, and one that leaves some in every lane.
REACHES = {"all fast": 1e9, "some slow": 0.3}


def spectrum_at(pair: Tensor, target: Tensor, beta: Tensor, smoothing: str = "sqrt") -> Spectrum:
    lanes = [gradients(*lane) for lane in zip(pair.numpy(), target.numpy(), strict=True)]
    return spectrum_of(torch.as_tensor(np.stack(lanes)), beta[:, None], smoothing)


def metric_with(reach: float, smoothing: str = "sqrt") -> FrozenMetric:
    spectrum = spectrum_at(PAIR, TARGET, BETA, smoothing)
    return FrozenMetric.at(PAIR, spectrum, BETA, torch.full_like(BETA, reach))


def dense(metric: FrozenMetric, lane: int, smoothing: str = "sqrt") -> Array:
    phi = SIGNS[smoothing](float(BETA[lane]))
    slow = metric.slow[lane].numpy()
    return gauss_newton(PAIR[lane].numpy(), TARGET[lane].numpy(), phi, slow)


def chosen(metric: FrozenMetric) -> Tensor:
    """(L, 2, r) booleans, the slow modes."""
    return metric.slow.square().sum(-2) > 0.5


@pytest.mark.parametrize("smoothing", SIGNS)
@pytest.mark.parametrize("reach", REACHES)
def test_it_solves_the_dense_system(reach: str, smoothing: str) -> None:
    metric = metric_with(REACHES[reach], smoothing)
    shifts = torch.tensor([1e-3, 1.0, 1e4], dtype=torch.float64)
    for z, residual in ((shifts, drawn(LANES, 2, D, R, seed=2)), (shifts.flip(0), PAIR)):
        solved = metric.solve(z, residual)
        for lane in range(LANES):
            matrix = float(z[lane]) * np.eye(SIZE) - dense(metric, lane, smoothing)
            expected = np.linalg.solve(matrix, residual[lane].numpy().ravel())
            apart = np.abs(solved[lane].numpy().ravel() - expected).max()
            assert apart <= 1e-10 * np.abs(expected).max()


def test_the_flow_is_frozen_along_slow_modes() -> None:
    metric, residual = metric_with(REACHES["some slow"]), drawn(LANES, 2, D, R, seed=5)
    slow = chosen(metric)
    assert bool(slow.flatten(1).any(1).all())
    assert not bool(slow.flatten(1).all(1).any())
    # The columns are left singular vectors of the gradients: orthonormal, and G G^T x = s^2 x.
    gram = metric.slow.mT @ metric.slow
    assert float((gram - torch.diag_embed(slow.double())).abs().max()) <= 1e-12
    spectrum = spectrum_at(PAIR, TARGET, BETA)
    G, squares = spectrum.gradient, spectrum.singular_values.square()[..., None, :]
    apart = G @ (G.mT @ metric.slow) - metric.slow * squares
    assert float((apart / squares).abs().max()) <= 1e-12
    shifts = torch.tensor([0.1, 1.0, 100.0], dtype=torch.float64)
    solved = shifts[:, None, None, None] * metric.solve(shifts, residual)
    along, given = metric.slow.mT @ solved, metric.slow.mT @ residual
    assert float((along - given).abs().max()) <= 1e-12
    # Elsewhere it is not: the other modes are damped.
    assert float((solved - residual).abs().flatten(1).amax(1).min()) > 1e-3


def test_which_modes_are_slow() -> None:
    p = spectrum_at(PAIR, TARGET, BETA).metric
    # Without a step every mode is slow that the smoothing leaves sharp, and no other.
    sharp = p > RULES.fast * BETA[:, None, None]
    assert torch.equal(chosen(metric_with(0.0)), sharp)
    assert 0 < int(sharp.sum()) < sharp.numel()
    # A longer step turns slow modes into fast ones, never the other way, until none is left.
    counts = []
    for nearer, further in zip((0.0, 0.1, 0.3, 1.0), (0.1, 0.3, 1.0, 1e9), strict=True):
        before, after = chosen(metric_with(nearer)), chosen(metric_with(further))
        assert bool((before | ~after).all())
        counts.append(int(after.sum()))
    assert counts[0] > counts[1] > counts[-1] == 0


def test_one_beta_for_all_lanes() -> None:
    spectrum, reach = spectrum_at(PAIR, TARGET, torch.ones(LANES).double()), torch.zeros(LANES)
    one, many = (
        FrozenMetric.at(PAIR, spectrum, beta, reach.double())
        for beta in (torch.tensor(1.0).double(), torch.ones(LANES).double())
    )
    assert all(torch.equal(*parts) for parts in zip(one.parts, many.parts, strict=True))


def test_a_selection_solves_its_lanes() -> None:
    metric, lanes = metric_with(REACHES["some slow"]), torch.tensor([2, 0, 2])
    residual, shifts = drawn(LANES, 2, D, R, seed=6), BETA
    few = metric.select(lanes).solve(shifts[lanes], residual[lanes])
    assert float((few - metric.solve(shifts, residual)[lanes]).abs().max()) <= 1e-14


def test_a_slice_is_a_view_and_is_solved_by_itself() -> None:
    metric, residual = metric_with(REACHES["some slow"]), drawn(LANES, 2, D, R, seed=6)
    together = metric.solve(BETA, residual)
    for lane in range(LANES):
        here = slice(lane, lane + 1)
        part = metric.select(here)
        assert part.slow.data_ptr() == metric.slow[here].data_ptr()
        alone = part.solve(BETA[here], residual[here])
        assert float((alone - together[here]).abs().max()) <= 1e-14


def test_the_exact_jacobian_is_the_derivative_of_the_velocity() -> None:
    # The tests' own reference: central differences, h^2 / beta^2 off and round-off over h.
    pair, target, beta, h = PAIR[0].numpy(), TARGET[0].numpy(), 0.5, 1e-5
    jacobian = exact(pair, target, beta)
    for seed in range(3):
        change = np.random.default_rng(seed).standard_normal(pair.shape)
        ends = [velocity(pair + x * change, target, sqrt_sign(beta)) for x in (h, -h)]
        expected = (ends[0] - ends[1]).ravel() / (2 * h)
        assert np.abs(jacobian @ change.ravel() - expected).max() <= 1e-8
        assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("beta", [0.1, 1e-3])
def test_near_a_converged_state_it_is_the_exact_jacobian(beta: float) -> None:
    # The metric is beta (1 + s^2 / (2 beta^2)): frozen, it is (s / beta)^2 off at most. The part
    # of the Hessian that is left out is |G| times a constant of the optimum, below .1 here.
    pair, none = PAIR[0].numpy(), np.zeros((2, D, R))
    differences = []
    for share in (0.3, 0.1, 0.01, 1e-3):
        target = pair[0] @ pair[1].T + 0.05 * share * beta * TARGET[0].numpy()
        size = max(np.linalg.norm(part, 2) for part in gradients(pair, target))
        jacobian = exact(pair, target, beta)
        apart = jacobian - gauss_newton(pair, target, sqrt_sign(beta), none)
        differences.append(np.linalg.norm(apart, 2) / np.linalg.norm(jacobian, 2))
        assert differences[-1] <= (size / beta) ** 2 + 0.1 * size
    assert differences[0] > 1e-3
    assert differences == sorted(differences, reverse=True)


def contraction(pair: Tensor, target: Tensor, beta: float, h: float, reach: float) -> float:
    """The spectral radius of 1 - (z - J_W)^-1 (z - J), z = 3.6 / h."""
    z, beta_, size = 3.6 / h, torch.tensor([beta], dtype=torch.float64), pair.numel()
    spectrum = spectrum_at(pair[None], target[None], beta_)
    metric = FrozenMetric.at(pair[None], spectrum, beta_, torch.tensor([reach]).double())
    matrix = z * np.eye(size) - exact(pair.numpy(), target.numpy(), beta)
    columns = torch.as_tensor(matrix.T.copy()).view(size, *pair.shape)
    each = metric.select(torch.zeros(size, dtype=torch.long))
    solved = each.solve(torch.full((size,), z, dtype=torch.float64), columns)
    iteration = np.eye(size) - solved.flatten(1).numpy().T
    return float(np.abs(np.linalg.eigvals(iteration)).max())


def test_the_iteration_contracts_along_a_trajectory() -> None:
    # From the first arrivals to the last but one; without the projection the iteration creeps.
    beta, times = 1e-3, torch.linspace(0.8, 1.6, 5, dtype=torch.float64)
    sigma = torch.linspace(3, 0.5, 8).tolist()
    problem = MatrixFactorization.planted(m=64, n=64, singular_values=sigma, rank=8)
    path = integrate(
        spectral_flow(problem, beta),
        problem.gaussian_init(0.1, seed=[0]),
        times,
        method="dormand_prince",
        rtol=1e-6,
    )
    assert isinstance(path.coordinates, ReducedCoordinates)
    target = path.coordinates.target[0]
    # Measured: .20 against .75, and .25 against .91.
    for h, projected, unprojected in ((0.003, 0.4, 0.7), (0.01, 0.5, 0.9)):
        radii, control = (
            [
                contraction(state.unflatten(0, (2, -1)), target, beta, h, reach)
                for state in path.states[0]
            ]
            for reach in (h / 3.6, 1e9)
        )
        assert max(radii) < projected
        assert max(control) > unprojected
