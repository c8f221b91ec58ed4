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
BETA = torch.tensor([0.5, 2.0, 8.0], dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PAIR, TARGET = drawn(LANES, 2, D, R), drawn(LANES, D, D, seed=1)
PUSHED = drawn(LANES, 2, D, R, seed=7)
# A push that makes every mode arrive, one that leaves some in every lane, and none at all.
PUSHES = {"all arrive": 1e9, "some stay": 0.5, "all stay": 0.0}


def spectrum_at(pair: Tensor, target: Tensor, beta: Tensor, smoothing: str = "sqrt") -> Spectrum:
    lanes = [gradients(*lane) for lane in zip(pair.numpy(), target.numpy(), strict=True)]
    return spectrum_of(torch.as_tensor(np.stack(lanes)), beta[:, None], smoothing)


def metric_with(push: float, smoothing: str = "sqrt") -> FrozenMetric:
    spectrum = spectrum_at(PAIR, TARGET, BETA, smoothing)
    return FrozenMetric.at(PAIR, spectrum, BETA, torch.ones_like(BETA), push * PUSHED)


def dense(metric: FrozenMetric, lane: int, smoothing: str = "sqrt") -> Array:
    phi = SIGNS[smoothing](float(BETA[lane]))
    left = metric.turning.left[lane].numpy()
    return gauss_newton(PAIR[lane].numpy(), TARGET[lane].numpy(), phi, left)


def chosen(metric: FrozenMetric) -> Tensor:
    """(L, 2, r) booleans, the modes that are solved by themselves."""
    return metric.turning.left.square().sum(-2) > 0.5


@pytest.mark.parametrize("smoothing", SIGNS)
@pytest.mark.parametrize("push", PUSHES)
def test_it_solves_the_dense_system(push: str, smoothing: str) -> None:
    metric = metric_with(PUSHES[push], smoothing)
    # Rows that turn by less than a fifth of z are had to second order only.
    shifts, own = torch.tensor([0.01, 0.03, 0.1], dtype=torch.float64), metric.turning
    sizes = own.grams.diagonal(dim1=-2, dim2=-1)[..., None, :]
    turn = (own.weights.square() * sizes).sum(-1)
    assert bool((turn > RULES.nearly * shifts.max())[chosen(metric)].all())
    for z, residual in ((shifts, drawn(LANES, 2, D, R, seed=2)), (shifts.flip(0), PAIR)):
        solved = metric.solve(z, residual)
        for lane in range(LANES):
            matrix = float(z[lane]) * np.eye(SIZE) - dense(metric, lane, smoothing)
            expected = np.linalg.solve(matrix, residual[lane].numpy().ravel())
            apart = np.abs(solved[lane].numpy().ravel() - expected).max()
            assert apart <= 1e-10 * np.abs(expected).max()


def test_far_from_an_arrival_rows_are_had_to_second_order() -> None:
    metric, residual = metric_with(0.0), drawn(LANES, 2, D, R, seed=2)
    apart = []
    for z in (1e3, 1e4):
        solved = metric.solve(torch.full_like(BETA, z), residual)
        lanes = [
            np.linalg.solve(z * np.eye(SIZE) - dense(metric, lane), residual[lane].numpy().ravel())
            for lane in range(LANES)
        ]
        expected = torch.as_tensor(np.stack(lanes)).view_as(solved)
        apart.append(float(((solved - expected) * z).abs().max()))
    # (turning / z)^2 of what is left out: a hundredth at ten times z, and not nothing.
    assert apart[0] > 1e-9
    assert apart[0] / 130 <= apart[1] <= apart[0] / 70


def test_weights_are_divided_differences() -> None:
    metric, spectrum = metric_with(0.0), spectrum_at(PAIR, TARGET, BETA)
    s, f = spectrum.singular_values, spectrum.singular_values / spectrum.metric
    one, other = (s * f)[..., :, None], (s * f)[..., None, :]
    apart = s.square()[..., :, None] - s.square()[..., None, :]
    own = torch.eye(R, dtype=torch.bool)
    expected = torch.where(own, spectrum.slope[..., None], (one - other) / apart)
    assert float((metric.turning.weights.square() / expected - 1).abs().max()) <= 1e-12


def test_modes_by_themselves_are_those_of_the_gradient() -> None:
    metric = metric_with(PUSHES["some stay"])
    stay = chosen(metric)
    assert bool(stay.flatten(1).any(1).all())
    assert not bool(stay.flatten(1).all(1).any())
    # The columns are left singular vectors of the gradients: orthonormal, and G G^T x = s^2 x.
    left = metric.turning.left
    assert float((left.mT @ left - torch.diag_embed(stay.double())).abs().max()) <= 1e-12
    spectrum = spectrum_at(PAIR, TARGET, BETA)
    G, squares = spectrum.gradient, spectrum.singular_values.square()[..., None, :]
    assert float(((G @ (G.mT @ left) - left * squares) / squares).abs().max()) <= 1e-12


def test_which_modes_are_solved_by_themselves() -> None:
    p = spectrum_at(PAIR, TARGET, BETA).metric
    # Where nothing moves, every mode that the smoothing leaves open, and no other.
    open_ = p > RULES.open * BETA[:, None, None]
    assert torch.equal(chosen(metric_with(0.0)), open_)
    assert 0 < int(open_.sum()) < open_.numel()
    # What moves more has fewer, never the other way, until none is left.
    counts = []
    for less, more in zip((0.0, 0.1, 0.5, 2.0), (0.1, 0.5, 2.0, 1e9), strict=True):
        before, after = chosen(metric_with(less)), chosen(metric_with(more))
        assert bool((before | ~after).all())
        counts.append(int(after.sum()))
    assert counts[0] > counts[1] > counts[-1] == 0


def test_one_beta_for_all_lanes() -> None:
    spectrum = spectrum_at(PAIR, TARGET, torch.ones(LANES).double())
    one, many = (
        FrozenMetric.at(PAIR, spectrum, beta, torch.ones(LANES).double(), PUSHED)
        for beta in (torch.tensor(1.0).double(), torch.ones(LANES).double())
    )
    assert all(torch.equal(*parts) for parts in zip(one.parts, many.parts, strict=True))


def test_a_selection_solves_its_lanes() -> None:
    metric, lanes = metric_with(PUSHES["some stay"]), torch.tensor([2, 0, 2])
    residual, shifts = drawn(LANES, 2, D, R, seed=6), BETA
    few = metric.select(lanes).solve(shifts[lanes], residual[lanes])
    assert float((few - metric.solve(shifts, residual)[lanes]).abs().max()) <= 1e-14


def test_a_slice_is_a_view_and_is_solved_by_itself() -> None:
    metric, residual = metric_with(PUSHES["some stay"]), drawn(LANES, 2, D, R, seed=6)
    together = metric.solve(BETA, residual)
    for lane in range(LANES):
        here = slice(lane, lane + 1)
        part = metric.select(here)
        assert part.basis.data_ptr() == metric.basis[here].data_ptr()
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


# Step, and what the radius is below with modes by themselves and above with pencils alone.
# Measured: .058 against .75, and .098 against .91.
BOUNDS = ((0.003, 0.1, 0.7), (0.01, 0.15, 0.9))


def contraction(pair: Tensor, target: Tensor, beta: float, h: float, push: float) -> float:
    """The spectral radius of 1 - (z - J_W)^-1 (z - J), z = 3.6 / h."""
    z, beta_, size = 3.6 / h, torch.tensor([beta], dtype=torch.float64), pair.numel()
    spectrum = spectrum_at(pair[None], target[None], beta_)
    shift, residual = torch.full_like(beta_, z), push * torch.ones_like(pair[None])
    metric = FrozenMetric.at(pair[None], spectrum, beta_, shift, residual)
    matrix = z * np.eye(size) - exact(pair.numpy(), target.numpy(), beta)
    columns = torch.as_tensor(matrix.T.copy()).view(size, *pair.shape)
    each = metric.select(torch.zeros(size, dtype=torch.long))
    solved = each.solve(torch.full((size,), z, dtype=torch.float64), columns)
    iteration = np.eye(size) - solved.flatten(1).numpy().T
    return float(np.abs(np.linalg.eigvals(iteration)).max())


def test_the_iteration_contracts_along_a_trajectory() -> None:
    # From the first arrivals to the last but one, and close to arrivals.
    beta, times = 1e-3, torch.linspace(0.8, 1.6, 9, dtype=torch.float64)
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
    for h, by_themselves, by_pencils in BOUNDS:
        radii, control = (
            [
                contraction(state.unflatten(0, (2, -1)), target, beta, h, push)
                for state in path.states[0]
            ]
            for push in (0.0, 1e9)
        )
        assert max(radii) < by_themselves
        assert max(control) > by_pencils
