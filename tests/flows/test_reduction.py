"""The exact reduction: (b, a) in the two spans follows the same flow as (B, A)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import Field, MatrixFactorization, gradient_flow, integrate, spectral_flow
from flows.coordinates import AmbientCoordinates, ReducedCoordinates
from flows.starts import Factors

RTOL = 1e-9
# Both runs solve the same equations to a local error of RTOL; what is left is amplified a few
# times while modes escape their saddle. A wrong basis is off by the size of the target.
AGREEMENT = 50 * RTOL

FIELDS = {
    "gradient flow": lambda problem: gradient_flow(problem),
    "gradient flow, decay": lambda problem: gradient_flow(problem, weight_decay=0.2),
    "sqrt": lambda problem: spectral_flow(problem, 0.1),
    "sqrt, svd": lambda problem: spectral_flow(problem, 0.1, route="svd"),
    "sqrt, decay": lambda problem: spectral_flow(problem, 0.1, weight_decay=0.2),
    "tanh": lambda problem: spectral_flow(problem, 0.1, smoothing="tanh"),
}


def planted(m: int, n: int, k: int, rank: int, l2: float = 0.0) -> MatrixFactorization:
    sigma = [2.0 - 0.3 * i for i in range(k)]
    return MatrixFactorization.planted(m=m, n=n, singular_values=sigma, rank=rank, l2=l2, seed=1)


def apart(field: Field, start: Factors) -> float:
    """Largest relative difference of the products over the trajectory."""
    times = torch.linspace(0, 2, 21, dtype=torch.float64)
    full, reduced = (
        integrate(field, start, times, reduce=reduce, rtol=RTOL, atol=1e-2 * RTOL)
        for reduce in (False, True)
    )
    for ambient, lifted in zip(full.factors, reduced.factors, strict=True):
        assert ambient.shape == lifted.shape
    largest = float(full.products.abs().max())
    return float((full.products - reduced.products).abs().max()) / largest


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_full_equals_reduced_along_the_trajectory(
    name: str, l2: float, device: torch.device
) -> None:
    problem = MatrixFactorization.planted(
        m=14, n=11, singular_values=[2.0, 1.4], rank=3, l2=l2, seed=1, device=device
    )
    assert apart(FIELDS[name](problem), problem.lora_init(0.05, seed=range(2))) <= AGREEMENT


@pytest.mark.parametrize(
    ("m", "n", "k", "rank"),
    [(6, 9, 3, 4), (5, 5, 4, 3), (9, 6, 5, 2), (4, 12, 4, 4), (1, 6, 1, 1), (3, 3, 3, 3)],
)
def test_spans_that_fill_the_space_lose_nothing(m: int, n: int, k: int, rank: int) -> None:
    problem = planted(m, n, k, rank)
    start = problem.gaussian_init(0.3, seed=range(2))
    assert apart(FIELDS["sqrt"](problem), start) <= AGREEMENT
    reduced = ReducedCoordinates.of(problem, *start)
    assert reduced.target.shape[-1] == max(min(m, k + rank), min(n, k + rank))


def rank_deficient(problem: MatrixFactorization) -> dict[str, Factors]:
    B, A = problem.gaussian_init(0.3, seed=[0, 1])
    zeros = torch.zeros_like(B), torch.zeros_like(A)
    repeated_B, repeated_A = B.clone(), A.clone()
    repeated_B[..., 1] = repeated_B[..., 0]
    repeated_A[..., 2, :] = 0.0
    strength = torch.full((3,), 0.2, dtype=torch.float64)
    inside = problem.aligned_init(strength, strength, seed=[0, 1])
    return {
        "repeated columns": (repeated_B, repeated_A),
        "inside the target's span": inside,
        "one factor zero": (zeros[0], A),
        "saddle at zero": zeros,
    }


@pytest.mark.parametrize(
    "name", ["repeated columns", "inside the target's span", "one factor zero"]
)
@pytest.mark.parametrize("flow", ["gradient flow", "sqrt"])
def test_rank_deficient_starts(name: str, flow: str) -> None:
    problem = planted(10, 8, 3, 3)
    assert apart(FIELDS[flow](problem), rank_deficient(problem)[name]) <= AGREEMENT


def test_the_saddle_at_zero_stays_put_in_both() -> None:
    problem = planted(10, 8, 3, 3)
    start = rank_deficient(problem)["saddle at zero"]
    for reduce in (False, True):
        trajectory = integrate(spectral_flow(problem, 0.1), start, [1.0], reduce=reduce)
        assert not bool(trajectory.products.any())


@settings(deadline=None, max_examples=40)
@given(
    m=st.integers(1, 9),
    n=st.integers(1, 9),
    k=st.integers(1, 5),
    rank=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_lift_undoes_restrict(m: int, n: int, k: int, rank: int, seed: int) -> None:
    k, rank = min(k, m, n), min(rank, m, n)
    problem = planted(m, n, k, rank)
    B, A = problem.gaussian_init(1.0, seed=[seed, seed + 1])
    reduced = ReducedCoordinates.of(problem, B, A)
    state = reduced.restrict(B, A)
    for lifted, factor in zip(reduced.lift(state), (B, A), strict=True):
        assert float((lifted - factor).abs().max()) <= 1e-13
    assert torch.equal(reduced.join(reduced.blocks(state)), state)
    for gram in (reduced.left.mT @ reduced.left, reduced.right.mT @ reduced.right):
        diagonal = torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1).round())
        assert float((gram - diagonal).abs().max()) <= 1e-13
    # The target itself lies in the spans.
    back = reduced.left @ reduced.target @ reduced.right.mT
    target = (problem.left * problem.singular_values) @ problem.right.mT
    assert float((back - target).abs().max()) <= 1e-13


def test_lift_carries_a_time_axis() -> None:
    problem = planted(7, 6, 2, 2)
    B, A = problem.gaussian_init(1.0, seed=range(3))
    reduced = ReducedCoordinates.of(problem, B, A)
    states = reduced.restrict(B, A)[:, None].expand(-1, 4, -1, -1)
    lifted_B, lifted_A = reduced.lift(states)
    assert lifted_B.shape == (3, 4, 7, 2)
    assert lifted_A.shape == (3, 4, 2, 6)
    assert float((lifted_B - B[:, None]).abs().max()) <= 1e-14
    assert float((reduced.loss(states) - problem.loss(B, A)[:, None]).abs().max()) <= 1e-13
    lanes = torch.tensor([2, 0])
    chosen = reduced.select(lanes)
    assert torch.equal(chosen.gradient(states[lanes, 0]), reduced.gradient(states[:, 0])[lanes])


def test_a_basis_that_misses_the_target_is_wrong() -> None:
    problem = planted(10, 8, 3, 2)
    start = problem.lora_init(0.05, seed=[0])
    B, A = start
    right = torch.linalg.qr(A.mT).Q
    left = torch.linalg.qr(torch.cat([problem.left[None], B + 1e-3], dim=-1)).Q
    crippled = ReducedCoordinates.in_bases(problem, left, right)
    times = torch.linspace(0, 2, 5, dtype=torch.float64)
    field = gradient_flow(problem)
    wrong = integrate(field, start, times, coordinates=crippled).products
    right_one = integrate(field, start, times, reduce=False).products
    assert float((wrong - right_one).abs().max()) > 0.1


def test_ambient_states_are_the_factors() -> None:
    problem = planted(5, 4, 2, 2)
    B, A = problem.gaussian_init(1.0, seed=[0])
    ambient = AmbientCoordinates(problem)
    for lifted, factor in zip(ambient.lift(ambient.restrict(B, A)), (B, A), strict=True):
        assert torch.equal(lifted, factor)
