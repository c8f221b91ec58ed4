"""The compiled kernel: the plain path to round-off, lane by lane, and refusals that say why."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flows import MatrixFactorization, spectral_flow
from flows.compiled import (
    KernelUnavailable,
    arguments,
    available,
    compiled_spectrum,
    compiled_velocity,
    why_unavailable,
)
from flows.coordinates import ReducedCoordinates
from geometry.smoothing import SMOOTHINGS

ROOT = Path(__file__).parents[2]
U = torch.finfo(torch.float64).eps / 2
SIZES = [(2, 1), (10, 5), (16, 8), (7, 3), (40, 10)]
BETAS = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]


@pytest.fixture
def numba() -> None:
    """Skips, and says why, where numba is missing."""
    pytest.importorskip("numba", reason="the compiled kernel needs numba")


def random_lanes(lanes: int, d: int, r: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(lanes, 2, d, r, generator=generator, dtype=torch.float64)
    return states, torch.randn(lanes, d, d, generator=generator, dtype=torch.float64)


def reduced(lanes: int, d: int, r: int, l2: float = 0.0) -> tuple[ReducedCoordinates, Tensor]:
    """Coordinates of size d of a problem, and starts in them of a size like the target's."""
    modes = d - r
    problem = MatrixFactorization.planted(
        m=48, n=44, singular_values=torch.linspace(3, 0.5, modes).tolist(), rank=r, seed=1, l2=l2
    )
    B, A = problem.gaussian_init(0.1, seed=range(lanes))
    coordinates = ReducedCoordinates.of(problem, B, A)
    return coordinates, coordinates.restrict(B, A).contiguous()


def as_pairs(states: Tensor) -> Tensor:
    return states.unflatten(-2, (2, -1))


def formula(
    states: Tensor, target: Tensor, beta: Tensor, l2: float, smoothing: str
) -> tuple[Tensor, Tensor]:
    """The velocity by LAPACK's SVD, and the round-off it may be missed by: u ||G|| / beta."""
    b, a = states[:, 0], states[:, 1].mT
    e = b @ a - target
    gradient = torch.stack([e @ a.mT, e.mT @ b], dim=1) + l2 * states
    u, s, vt = torch.linalg.svd(gradient, full_matrices=False)
    scale = beta.reshape(-1, 1, 1)
    f = s / torch.hypot(s, scale) if smoothing == "sqrt" else torch.tanh(s / scale)
    # The gradient's own rounding, relative to the terms that cancel in it, belongs to it.
    terms = (torch.linalg.matrix_norm(b) * torch.linalg.matrix_norm(a)) + (
        torch.linalg.matrix_norm(target)
    )
    size = terms * torch.linalg.matrix_norm(states).amax(-1) + l2
    return -(u * f.unsqueeze(-2)) @ vt, U * (50 + 20 * size / beta)


def assert_agrees(
    states: Tensor, target: Tensor, beta: Tensor, l2: float = 0.0, smoothing: str = "sqrt"
) -> None:
    expected, tolerance = formula(states, target, beta, l2, smoothing)
    velocity = compiled_velocity(states, target, beta, l2, smoothing)
    errors = (velocity - expected).abs().amax((1, 2, 3))
    assert bool((errors <= tolerance).all()), (errors / tolerance).max()


@pytest.mark.usefixtures("numba")
class TestAgreement:
    @pytest.mark.parametrize("smoothing", ["sqrt", "tanh"])
    @pytest.mark.parametrize(("d", "r"), SIZES)
    def test_of_random_lanes_at_every_beta(self, d: int, r: int, smoothing: str) -> None:
        states, target = random_lanes(5, d, r)
        for beta in BETAS:
            for l2 in (0.0, 0.3):
                assert_agrees(
                    states, target, torch.full((5,), beta, dtype=torch.float64), l2, smoothing
                )

    @pytest.mark.parametrize("smoothing", ["sqrt", "tanh"])
    @pytest.mark.parametrize("beta", BETAS)
    @pytest.mark.parametrize(("d", "r"), [(2, 1), (10, 5), (16, 8)])
    def test_with_the_field(self, d: int, r: int, beta: float, smoothing: str) -> None:
        coordinates, states = reduced(6, d, r, l2=0.05)
        problem = MatrixFactorization.planted(
            m=48, n=44, singular_values=torch.linspace(3, 0.5, d - r).tolist(), rank=r, seed=1
        )
        field = spectral_flow(problem, beta, smoothing=smoothing, route="svd")
        pairs = as_pairs(states).contiguous()
        expected = as_pairs(field.velocity(coordinates, states))
        velocity = compiled_velocity(pairs, coordinates.target, beta, 0.05, smoothing)
        _, tolerance = formula(
            pairs, coordinates.target, torch.full((6,), beta, dtype=torch.float64), 0.05, ""
        )
        assert float((velocity - expected).abs().amax((1, 2, 3)).sub(tolerance).max()) <= 0

    def test_with_one_beta_a_lane(self) -> None:
        states, target = random_lanes(7, 10, 5)
        beta = torch.logspace(-6, 0, 7, dtype=torch.float64)
        assert_agrees(states, target, beta)
        assert_agrees(states, target, beta, smoothing="tanh")
        together = compiled_velocity(states, target, beta)
        for lane in range(7):
            alone = compiled_velocity(states, target, float(beta[lane]))
            assert torch.equal(together[lane], alone[lane])

    @pytest.mark.parametrize("beta", BETAS)
    def test_of_rank_deficient_gradients(self, beta: float) -> None:
        states, target = random_lanes(4, 10, 5)
        states[0, :, :, 3] = states[0, :, :, 1]  # two equal columns
        states[1, :, :, 2] = 0.0
        states[2, 0, :, 1:] = 0.0  # rank one on one side
        target[3] = states[3, 0] @ states[3, 1].mT + 1e-9 * target[3]  # nearly fitted
        for smoothing in ("sqrt", "tanh"):
            assert_agrees(
                states, target, torch.full((4,), beta, dtype=torch.float64), 0.0, smoothing
            )

    def test_of_a_lora_start_and_of_zero(self) -> None:
        states, target = random_lanes(3, 10, 5)
        states[0, 0] = 0.0
        states[1] = 0.0
        beta = torch.full((3,), 1e-3, dtype=torch.float64)
        assert_agrees(states, target, beta)
        assert_agrees(states, target, beta, smoothing="tanh")
        velocity = compiled_velocity(states, target, beta)
        # With b = 0 only b moves, and with both 0 nothing does.
        assert float(velocity[0, 0].abs().max()) > 0.1
        assert float(velocity[0, 1].abs().max()) == 0.0
        assert float(velocity[1].abs().max()) == 0.0

    @pytest.mark.parametrize("beta", [1e-2, 1e-4, 1e-6])
    def test_with_graded_gradients(self, beta: float) -> None:
        # Columns from 1 to 1e-7, as of modes of which some have converged.
        states, target = random_lanes(4, 16, 8)
        states *= torch.logspace(0, -7, 8, dtype=torch.float64)
        assert_agrees(states, target, torch.full((4,), beta, dtype=torch.float64))


@pytest.mark.usefixtures("numba")
class TestLanes:
    @pytest.mark.parametrize("lanes", [1, 3, 4, 5, 70])
    def test_a_lane_alone_has_the_same_bits(self, lanes: int) -> None:
        states, target = random_lanes(lanes, 10, 5, seed=lanes)
        beta = torch.logspace(-5, 0, lanes, dtype=torch.float64)
        together = compiled_spectrum(states, target, beta)
        for lane in {0, lanes // 2, lanes - 1}:
            one = slice(lane, lane + 1)
            alone = compiled_spectrum(states[one], target[one], beta[one])
            assert all(torch.equal(x[one], y) for x, y in zip(together, alone, strict=True))
        assert_agrees(states, target, beta)

    def test_neither_position_nor_neighbours_matter(self) -> None:
        states, target = random_lanes(40, 16, 8)
        # Neighbours of all kinds: some need no sweep, some are hard.
        states[::3] *= 1e-8
        states[1::3, :, :, 4:] = states[1::3, :, :, :4]
        for smoothing in ("sqrt", "tanh"):
            first = compiled_velocity(states, target, 1e-4, 0.1, smoothing)
            order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
            other = compiled_velocity(states[order], target[order], 1e-4, 0.1, smoothing)
            assert torch.equal(first[order], other)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200, 1e60])
    def test_a_lane_that_is_not_finite_is_nan_and_alone(self, bad: float) -> None:
        states, target = random_lanes(35, 10, 5)
        expected = compiled_spectrum(states, target, 1e-3)
        spoilt = states.clone()
        spoilt[[3, 33], 1, 2, 1] = bad
        kept = torch.ones(35, dtype=torch.bool)
        kept[[3, 33]] = False
        for part, reference in zip(compiled_spectrum(spoilt, target, 1e-3), expected, strict=True):
            assert torch.equal(part[kept], reference[kept])
            assert bool(part[~kept].isnan().all())

    def test_a_bad_target_spoils_its_lane_alone(self) -> None:
        states, target = random_lanes(3, 10, 5)
        expected = compiled_velocity(states, target, 0.1)
        target[1, 0, 0] = math.nan
        velocity = compiled_velocity(states, target, 0.1)
        assert torch.equal(velocity[[0, 2]], expected[[0, 2]])
        assert bool(velocity[1].isnan().all())

    def test_no_lanes_at_all(self) -> None:
        states, target = random_lanes(0, 10, 5)
        assert compiled_velocity(states, target, 0.1).shape == (0, 2, 10, 5)


@pytest.mark.usefixtures("numba")
class TestSpectrum:
    @pytest.mark.parametrize("smoothing", ["sqrt", "tanh"])
    @pytest.mark.parametrize("beta", [1.0, 1e-3, 1e-6])
    def test_of_the_gradients(self, beta: float, smoothing: str) -> None:
        states, target = random_lanes(34, 16, 8)
        found = compiled_spectrum(states, target, beta, 0.2, smoothing)
        velocity, G, V, s, metric, slope = found
        scales = torch.full((34,), beta, dtype=torch.float64)
        expected, tolerance = formula(states, target, scales, 0.2, smoothing)
        assert bool(((velocity - expected).abs().amax((1, 2, 3)) <= tolerance).all())
        e = states[:, 0] @ states[:, 1].mT - target
        gradient = torch.stack([e @ states[:, 1], e.mT @ states[:, 0]], dim=1) + 0.2 * states
        size = float(gradient.abs().max())
        assert float((G - gradient).abs().max()) <= 100 * U * size
        identity = torch.eye(8, dtype=torch.float64)
        assert float((V.mT @ V - identity).abs().max()) <= 100 * U
        expected = torch.linalg.svdvals(G)
        assert float((s.sort(-1, descending=True).values - expected).abs().max()) <= 20 * U * size
        if smoothing == "sqrt":
            assert float((metric / torch.hypot(s, s.new_tensor(beta)) - 1).abs().max()) <= 4 * U
        smooth, b = SMOOTHINGS[smoothing], s.new_tensor(beta)
        assert float((metric * smooth.on_singular_values(s, b) / s - 1).abs().max()) <= 20 * U
        assert float((slope - smooth.slope(s, b)).abs().max()) <= 20 * U / beta
        # V diagonalises G^T G + beta^2, relative to its own diagonal.
        p = torch.hypot(s, torch.tensor(beta, dtype=torch.float64))
        GV = G @ V
        H = (GV.mT @ GV + beta**2 * identity) / (p.unsqueeze(-1) * p.unsqueeze(-2))
        assert float((H - identity).abs().max()) <= 200 * U * size / min(beta, 1.0)

    @settings(deadline=None, max_examples=60)
    @given(
        seed=st.integers(0, 10**6),
        d=st.integers(1, 12),
        r=st.integers(1, 10),
        scale=st.floats(1e-4, 1e2),
        beta=st.floats(1e-6, 1e2),
    )
    def test_singular_values_of_the_velocity(
        self, seed: int, d: int, r: int, scale: float, beta: float
    ) -> None:
        states, target = random_lanes(3, d, r, seed)
        states *= scale
        b, a = states[:, 0], states[:, 1].mT
        e = b @ a - target
        gradient = torch.stack([e @ a.mT, e.mT @ b], dim=1)
        s = torch.linalg.svdvals(gradient)
        expected = s / torch.sqrt(s**2 + beta**2)
        given = torch.linalg.svdvals(compiled_velocity(states, target, beta))
        _, tolerance = formula(
            states, target, torch.full((3,), beta, dtype=torch.float64), 0.0, "sqrt"
        )
        assert bool(((given - expected).abs().amax((1, 2)) <= tolerance).all())


@pytest.mark.usefixtures("numba")
class TestRefusals:
    def test_other_dtypes(self) -> None:
        states, target = random_lanes(2, 4, 2)
        with pytest.raises(ValueError, match=r"states: .*float64 on the CPU; given torch.float32"):
            compiled_velocity(states.float(), target, 0.1)
        with pytest.raises(ValueError, match=r"target: .*float64 on the CPU; given torch.float32"):
            compiled_spectrum(states, target.float(), 0.1)
        # Its rounding alone, 6e-8, would show in the velocity.
        with pytest.raises(ValueError, match=r"beta: .*float64 on the CPU; given torch.float32"):
            compiled_velocity(states, target, torch.full((2,), 0.1))

    def test_other_devices(self) -> None:
        states, target = random_lanes(2, 4, 2)
        with pytest.raises(ValueError, match=r"float64 on the CPU; given torch.float64 on meta"):
            compiled_velocity(states.to("meta"), target, 0.1)
        beta = torch.full((2,), 0.1, dtype=torch.float64, device="meta")
        with pytest.raises(ValueError, match=r"beta: .*CPU; given torch.float64 on meta"):
            compiled_velocity(states, target, beta)

    def test_other_layouts(self) -> None:
        states, target = random_lanes(2, 4, 4)
        with pytest.raises(ValueError, match="states: a contiguous tensor is expected"):
            compiled_velocity(states.mT, target, 0.1)
        with pytest.raises(ValueError, match="target: a contiguous tensor is expected"):
            compiled_velocity(states, target.mT, 0.1)

    def test_other_shapes(self) -> None:
        states, target = random_lanes(2, 4, 2)
        with pytest.raises(ValueError, match=r"shape \(L, 2, d, r\) is expected"):
            compiled_velocity(states.flatten(1, 2), target, 0.1)
        with pytest.raises(ValueError, match=r"shape \(2, 4, 4\) is expected.*given \(1, 4, 4\)"):
            compiled_velocity(states, target[:1], 0.1)
        with pytest.raises(ValueError, match=r"one a lane \(2,\).*given shape \(3,\)"):
            compiled_velocity(states, target, torch.ones(3, dtype=torch.float64))

    @pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf, 1e-70])
    def test_scales_out_of_range(self, beta: float) -> None:
        states, target = random_lanes(2, 4, 2)
        with pytest.raises(ValueError, match="beta must be finite and >= 1e-60"):
            compiled_velocity(states, target, beta)
        with pytest.raises(ValueError, match="beta must be finite and >= 1e-60"):
            compiled_velocity(states, target, torch.tensor([0.1, beta], dtype=torch.float64))

    def test_unknown_smoothings(self) -> None:
        with pytest.raises(ValueError, match=r"unknown smoothing 'tan'.*did you mean 'tanh'"):
            compiled_velocity(*random_lanes(2, 4, 2), 0.1, smoothing="tan")


def test_importing_the_package_does_not_import_numba() -> None:
    code = "import sys, flows.compiled; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_where_numba_is_missing_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    arguments.kernel_of.cache_clear()
    assert not available()
    assert "needs numba (pip install 'paper-checks[fast]')" in str(why_unavailable())
    with pytest.raises(KernelUnavailable, match="needs numba"):
        compiled_velocity(*random_lanes(2, 4, 2), 0.1)


@pytest.mark.usefixtures("numba")
def test_where_numba_is_there_the_kernel_is_available() -> None:
    assert available()
    assert why_unavailable() is None
