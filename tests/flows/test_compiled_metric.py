"""The compiled frozen metric: the plain one to round-off, lane by lane, and what it refuses."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flows import MatrixFactorization, integrate, spectral_flow
from flows.compiled import (
    Factorisation,
    KernelUnavailable,
    arguments,
    compiled_factorisation,
    compiled_solution,
    compiled_spectrum,
)
from flows.coordinates import ReducedCoordinates
from flows.frozen_metric import PARTS, FrozenMetric
from flows.spectrum import Spectrum
from tests.flows.independent import sqrt_sign
from tests.flows.jacobians import gauss_newton

U = torch.finfo(torch.float64).eps / 2
SIZES = [(2, 1), (5, 3), (16, 8), (3, 8)]
BETAS = [1e-2, 1e-4, 1e-6]
# States, targets, beta, shifts and residuals.
Lanes = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def numba() -> None:
    """Skips, and says why, where numba is missing."""
    pytest.importorskip("numba", reason="the compiled kernel needs numba")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_lanes(lanes: int, d: int, r: int, beta: float, seed: int = 0) -> Lanes:
    """The modes of a lane have converged to varied degrees."""
    pair, apart = drawn(lanes, 2, d, r, seed=seed), drawn(lanes, d, d, seed=seed + 1)
    apart *= torch.logspace(0, -7, d, dtype=torch.float64)
    apart *= torch.logspace(1, -4, lanes, dtype=torch.float64)[:, None, None]
    shifts = 1 / torch.linspace(1e-4, 0.1, lanes, dtype=torch.float64)
    scales = torch.full((lanes,), beta, dtype=torch.float64)
    residual = drawn(lanes, 2, d, r, seed=seed + 2)
    return pair, pair[:, 0] @ pair[:, 1].mT - apart, scales, shifts, residual


def trajectory_lanes(beta: float) -> Lanes:
    """Along spectral flows, from a small start to past the arrival of most modes."""
    problem = MatrixFactorization.planted(
        m=9, n=8, singular_values=[2.0, 1.2, 0.7, 0.3], rank=3, seed=1
    )
    start = problem.gaussian_init(0.05, seed=range(3))
    times = torch.linspace(0, 2.5, 11, dtype=torch.float64)
    path = integrate(spectral_flow(problem, 1e-2), start, times)
    assert isinstance(path.coordinates, ReducedCoordinates)
    states = path.states.flatten(0, 1).unflatten(-2, (2, -1)).contiguous()
    lanes = len(states)
    shifts = torch.logspace(3, 1, lanes, dtype=torch.float64)
    target = path.coordinates.target.repeat_interleave(11, dim=0)
    scales = torch.full((lanes,), beta, dtype=torch.float64)
    return states, target, scales, shifts, drawn(*states.shape, seed=7)


def deficient_lanes(beta: float) -> Lanes:
    """Factors that are zero or have equal columns."""
    pair, target = drawn(4, 2, 10, 5, seed=5), drawn(4, 10, 10, seed=6)
    pair[0, 0] = 0.0
    pair[1] = 0.0
    pair[2, :, :, 3] = pair[2, :, :, 1]
    pair[3, :, :, 1:] = 0.0
    scales, shifts = (torch.full((4,), x, dtype=torch.float64) for x in (beta, 20.0))
    return pair, target, scales, shifts, drawn(4, 2, 10, 5, seed=7)


def factorised(
    pair: Tensor, target: Tensor, beta: Tensor, shifts: Tensor, residual: Tensor
) -> Factorisation:
    spectrum = compiled_spectrum(pair, target, beta)
    return compiled_factorisation(pair, spectrum, beta, shifts, residual)


def largest(x: Tensor) -> Tensor:
    """The largest entry of each lane."""
    return x.abs().flatten(1).amax(1)


def assert_agrees(
    pair: Tensor, target: Tensor, beta: Tensor, shifts: Tensor, given: Tensor
) -> None:
    """Factorisation and solve, to the round-off that the spread of p and the stiffness amplify."""
    spectrum = compiled_spectrum(pair, target, beta)
    plain = FrozenMetric.at(pair, spectrum, beta, shifts, given)
    parts = compiled_factorisation(pair, spectrum, beta, shifts, given)
    left, vectors, grams, weights, basis, dual, rates, states = parts
    # A left vector is G v / s, both taken from the same spectrum.
    apart = (left - plain.turning.left) * spectrum.singular_values[..., None, :]
    assert bool((largest(apart) <= 20 * U * largest(spectrum.gradient)).all())
    assert torch.equal(vectors, spectrum.vectors)
    assert float((weights / plain.turning.weights - 1).abs().max()) <= 20 * U
    apart, added = largest(grams - plain.turning.grams), pair.shape[-1] + pair[0, 0].numel()
    assert bool((apart <= 4 * U * added * largest(grams)).all())
    # What a left vector is off by is how far its mode is above round-off.
    far = torch.where(plain.turning.left.abs().amax(-2) > 0, spectrum.singular_values, torch.inf)
    blur = largest(spectrum.gradient) / far.amin((1, 2))
    stiffness, terms = rates.amax((1, 2)), largest(pair).square() * pair[0, 0].numel()
    apart = largest(rates.sort().values - plain.rates.sort().values)
    assert bool((apart <= 50 * U * (stiffness + terms / beta)).all())
    identity = torch.eye(pair.shape[-1], dtype=torch.float64)
    spread = (spectrum.metric.amax(-1) / spectrum.metric.amin(-1)).sqrt().amax(-1)
    assert bool((largest(dual.mT @ basis - identity) <= 200 * U * spread).all())
    gram = states.mT @ states
    off = gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
    assert bool((largest(off) <= 100 * U * largest(gram)).all())
    for step in (0.1 / shifts, 1 / shifts, 10 / shifts):
        residual = drawn(*pair.shape, seed=1)
        expected, solved = (
            plain.solve(1 / step, residual),
            compiled_solution(parts, 1 / step, residual),
        )
        condition = (spread + terms / beta * step + blur) * largest(expected)
        assert bool((largest(solved - expected) <= 100 * U * condition).all())
        # The same parts in both solves: nothing is left but the rounding of the solve.
        again = FrozenMetric.of_parts(parts).solve(1 / step, residual)
        condition = spread * (1 + stiffness * step).sqrt() * largest(expected)
        assert bool((largest(solved - again) <= 50 * U * condition).all())


@pytest.mark.usefixtures("numba")
class TestAgreement:
    @pytest.mark.parametrize("beta", BETAS)
    @pytest.mark.parametrize(("d", "r"), SIZES)
    def test_of_random_lanes(self, d: int, r: int, beta: float) -> None:
        assert_agrees(*random_lanes(9, d, r, beta))

    def test_some_modes_are_solved_by_themselves(self) -> None:
        left = factorised(*random_lanes(40, 16, 8, 1e-3))[0]
        share = float((left.abs().amax(-2) > 0).double().mean())
        assert 0.1 < share < 0.9

    @pytest.mark.parametrize("beta", BETAS)
    @pytest.mark.parametrize("lanes", [trajectory_lanes, deficient_lanes])
    def test_of_states_of_all_kinds(self, lanes: Callable[[float], Lanes], beta: float) -> None:
        assert_agrees(*lanes(beta))

    def test_with_one_beta_a_lane(self) -> None:
        pair, target, _, shifts, residual = random_lanes(7, 16, 8, 1.0)
        beta = torch.logspace(-6, 0, 7, dtype=torch.float64)
        assert_agrees(pair, target, beta, shifts, residual)

    def test_one_beta_for_all_lanes(self) -> None:
        pair, target, beta, shifts, residual = random_lanes(5, 6, 3, 1e-2)
        spectrum = compiled_spectrum(pair, target, 1e-2)
        expected = factorised(pair, target, beta, shifts, residual)
        for single in (1e-2, beta[0]):
            parts = compiled_factorisation(pair, spectrum, single, shifts, residual)
            assert all(torch.equal(x, y) for x, y in zip(parts, expected, strict=True))

    @pytest.mark.parametrize("push", [1e9, 0.0])
    def test_against_the_dense_matrix(self, push: float) -> None:
        pair, target, beta, _, residual = random_lanes(3, 6, 3, 0.3)
        # Small enough for rows that turn by more than is had to second order.
        shifts = torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64)
        parts = factorised(pair, target, beta, shifts, push * residual)
        solved = compiled_solution(parts, shifts, residual)
        # Where all modes arrive none is solved by itself, and some are where none does.
        assert bool(parts[0].any()) is (push == 0.0)
        for lane in range(3):
            here, goal, left = (x[lane].numpy() for x in (pair, target, parts[0]))
            matrix = -gauss_newton(here, goal, sqrt_sign(0.3), left)
            matrix += float(shifts[lane]) * np.eye(len(matrix))
            expected = np.linalg.solve(matrix, residual[lane].numpy().ravel())
            apart = np.abs(solved[lane].numpy().ravel() - expected).max()
            assert apart <= 1e-10 * np.abs(expected).max()


@pytest.mark.usefixtures("numba")
class TestLanes:
    @pytest.mark.parametrize("lanes", [1, 31, 32, 33, 70])
    def test_a_lane_alone_has_the_same_bits(self, lanes: int) -> None:
        given = random_lanes(lanes, 10, 5, 1e-3, seed=lanes)
        parts, residual = factorised(*given), drawn(lanes, 2, 10, 5)
        together = compiled_solution(parts, given[3], residual)
        for lane in {0, lanes // 2, lanes - 1}:
            one = slice(lane, lane + 1)
            alone = factorised(*(x[one] for x in given))
            assert all(torch.equal(x[one], y) for x, y in zip(parts, alone, strict=True))
            solved = compiled_solution(alone, given[3][one], residual[one])
            assert torch.equal(together[one], solved)

    @pytest.mark.parametrize(("d", "r"), [(16, 8), (7, 5)])
    def test_neither_position_nor_neighbours_matter(self, d: int, r: int) -> None:
        # From no mode by itself to all, and states that need many rotations beside ones with none.
        given = random_lanes(40, d, r, 1e-4)
        given[0][::5] = 0.0
        given[0][1::5, :, :, r // 2 :] = given[0][1::5, :, :, : r - r // 2]
        order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
        first, other = factorised(*given), factorised(*(x[order] for x in given))
        assert all(torch.equal(x[order], y) for x, y in zip(first, other, strict=True))
        residual, shifts = drawn(40, 2, d, r), given[3]
        together = compiled_solution(first, shifts, residual)
        moved = compiled_solution(other, shifts[order], residual[order])
        assert torch.equal(together[order], moved)

    def test_a_block_with_no_mode_by_itself_is_like_one_with_some(self) -> None:
        given = random_lanes(40, 7, 5, 1e-4)
        given[-1][:5] *= 1e9
        mixed, alone = factorised(*given), factorised(*(x[:5] for x in given))
        assert not bool(alone[0].any())
        assert bool(mixed[0].any())
        assert all(torch.equal(x[:5], y) for x, y in zip(mixed, alone, strict=True))
        shifts, residual = torch.full((40,), 10.0, dtype=torch.float64), drawn(40, 2, 7, 5)
        together = compiled_solution(mixed, shifts, residual)
        assert torch.equal(together[:5], compiled_solution(alone, shifts[:5], residual[:5]))

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
    @pytest.mark.parametrize(
        "part",
        ["pair", "gradient", "vectors", "singular_values", "metric", "slope", "beta", "shifts"],
    )
    def test_a_lane_that_is_not_finite_is_nan_and_alone(self, part: str, bad: float) -> None:
        pair, target, beta, shifts, pushed = random_lanes(35, 10, 5, 1e-3)
        spectrum = compiled_spectrum(pair, target, beta)
        given = {"pair": pair, "beta": beta, "shifts": shifts, **spectrum._asdict()}

        def parts() -> Factorisation:
            pieces = Spectrum(*(given[name] for name in Spectrum._fields))
            about = given["beta"], given["shifts"], pushed
            return compiled_factorisation(given["pair"], pieces, *about)

        expected, residual = parts(), drawn(35, 2, 10, 5)
        given[part] = given[part].clone()
        for lane in (3, 33):
            given[part][lane].view(-1)[-1] = bad
        spoilt = parts()
        kept = torch.ones(35, dtype=torch.bool)
        kept[[3, 33]] = False
        assert all(torch.equal(x[kept], y[kept]) for x, y in zip(spoilt, expected, strict=True))
        solved, good = (compiled_solution(x, shifts, residual) for x in (spoilt, expected))
        assert torch.equal(solved[kept], good[kept])
        # 1e200 overflows where it is squared; elsewhere it is a number like another.
        if not math.isfinite(bad) or part in ("pair", "vectors"):
            assert all(bool(x[~kept].isnan().all()) for x in spoilt)
            assert bool(solved[~kept].isnan().all())

    @pytest.mark.parametrize("p", [0.0, -1.0])
    def test_a_metric_that_is_not_positive_is_nan(self, p: float) -> None:
        pair, target, beta, shifts, residual = random_lanes(3, 6, 3, 1e-3)
        spectrum = compiled_spectrum(pair, target, beta)
        spectrum.metric[1, 0, 2] = p
        parts = compiled_factorisation(pair, spectrum, beta, shifts, residual)
        assert all(bool(x[1].isnan().all()) for x in parts)
        assert all(bool(x[[0, 2]].isfinite().all()) for x in parts)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_bad_residual_or_shift_spoils_its_lane_alone(self, bad: float) -> None:
        given = random_lanes(34, 6, 3, 1e-3)
        parts, shifts, residual = factorised(*given), given[3].clone(), drawn(34, 2, 6, 3)
        expected = compiled_solution(parts, shifts, residual)
        residual[33, 1, 4, 1] = bad
        shifts[2] = bad
        solved = compiled_solution(parts, shifts, residual)
        assert bool(solved[[2, 33]].isnan().all())
        solved[[2, 33]] = expected[[2, 33]]
        assert torch.equal(solved, expected)

    def test_no_lanes_at_all(self) -> None:
        given = random_lanes(0, 6, 3, 1e-3)
        parts = factorised(*given)
        shapes = [(0, 2, 6, 3), *[(0, 2, 3, 3)] * 5, (0, 2, 3), (0, 2, 6, 3)]
        assert [tuple(part.shape) for part in parts] == shapes
        assert compiled_solution(parts, given[3], given[0]).shape == (0, 2, 6, 3)


def spread(tensor: Tensor) -> Tensor:
    """The same numbers, every second place of memory."""
    return torch.stack([tensor, tensor], dim=-1)[..., 0]


@pytest.mark.usefixtures("numba")
class TestRefusals:
    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (Tensor.float, r": .*float64 on the CPU; given torch.float32"),
            (lambda x: x.to("meta"), r": .*float64 on the CPU; given torch.float64 on meta"),
            (spread, r": a contiguous tensor is expected"),
            (lambda x: x[:1].flatten(), r": .* is expected; given "),
        ],
    )
    def test_other_dtypes_devices_layouts_and_shapes(
        self, spoil: Callable[[Tensor], Tensor], message: str
    ) -> None:
        pair, target, beta, shifts, residual = random_lanes(2, 4, 4, 1e-2)
        spectrum = compiled_spectrum(pair, target, beta)
        parts = compiled_factorisation(pair, spectrum, beta, shifts, residual)
        given: dict[str, Any] = {"pair": pair, "beta": beta, "shifts": shifts, "residual": residual}
        for name in given:
            changed = {**given, name: spoil(given[name]), "spectrum": spectrum}
            if (name, spoil) != ("beta", spread):
                with pytest.raises(ValueError, match=name + message):
                    compiled_factorisation(**changed)
        for name in Spectrum._fields[1:]:
            other = spectrum._replace(**{name: spoil(getattr(spectrum, name))})
            with pytest.raises(ValueError, match=name + message):
                compiled_factorisation(pair, other, beta, shifts, residual)
        for place, name in enumerate(PARTS):
            changed_parts = tuple(spoil(x) if k == place else x for k, x in enumerate(parts))
            with pytest.raises(ValueError, match=name + message):
                compiled_solution(changed_parts, shifts, pair)
        with pytest.raises(ValueError, match="shifts" + message):
            compiled_solution(parts, spoil(shifts), pair)
        with pytest.raises(ValueError, match="residual" + message):
            compiled_solution(parts, shifts, spoil(pair))


def test_where_numba_is_missing_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = drawn(2, 2, 4, 2)
    parts = (drawn(2, 2, *shape) for shape in ((2, 2), (2,), (2,), (2,)))
    spectrum = Spectrum(pair, pair, *parts)
    monkeypatch.setitem(sys.modules, "numba", None)
    arguments.kernel_of.cache_clear()
    with pytest.raises(KernelUnavailable, match="needs numba"):
        compiled_factorisation(pair, spectrum, 0.1, drawn(2), pair)
