"""The orthogonaliser table: scalar responses, and the matrix iteration follows its scalar one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geometry.newton_schulz import OddPolynomial, frobenius_normalize, newton_schulz_weight
from geometry.orthogonalizers import ORTHOGONALIZERS, scalar_response
from geometry.polar import msign, orthogonalize

METHODS = sorted(ORTHOGONALIZERS)
ITERATIVE = [method for method in METHODS if ORTHOGONALIZERS[method].coefficients is not None]
UNCUSHIONED = {"cushion": 0.0, "safety": 1.0}


def random_matrices(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def grid(lowest: float = 1e-3) -> Tensor:
    lin = torch.linspace(lowest, 1, 200_001, dtype=torch.float64)
    return torch.cat([lin, lowest ** torch.linspace(0, 1, 200_001, dtype=torch.float64)])


@pytest.mark.parametrize(
    ("method", "steps", "parameters", "worst"),
    [
        ("cubic", 5, {}, 0.992),
        ("cubic", 12, {}, 0.871),
        ("quintic", 5, {}, 0.977),
        ("quintic", 12, {}, 0.0192),
        ("quintic_steep", 5, {}, 0.968),
        ("quintic_steep", 12, {}, 4.95e-6),
        ("muon", 5, {}, 0.529),
        ("muon", 50, {}, 0.318),
        ("polar_express", 5, UNCUSHIONED, 0.113),
        ("polar_express", 6, UNCUSHIONED, 9.16e-4),
        ("polar_express", 7, UNCUSHIONED, 4.81e-10),
        # What the cushion and the safety factor of half precision cost.
        ("polar_express", 5, {}, 0.131),
        ("polar_express", 6, {}, 1.62e-3),
        ("polar_express", 7, {}, 1.02e-8),
        ("cans", 5, {}, 0.796),
        ("cans", 10, {}, 3.52e-6),
    ],
)
def test_worst_response_on_three_decades(
    method: str, steps: int, parameters: dict[str, float], worst: float
) -> None:
    response = scalar_response(method, grid(), steps, **parameters)
    assert float((1 - response).abs().max()) == pytest.approx(worst, rel=6e-3)


def test_svd_response_is_exact_and_keeps_zero() -> None:
    assert torch.equal(scalar_response("svd", grid()), torch.ones_like(grid()))
    assert float(scalar_response("svd", torch.zeros(1))) == 0


def test_muon_never_converges_and_stays_in_its_limit_range() -> None:
    for steps in (40, 41, 80):
        response = scalar_response("muon", grid(), steps)
        assert float(response.min()) == pytest.approx(0.6818, abs=5e-5)
        assert float(response.max()) == pytest.approx(1.1344, abs=5e-5)


def test_lora_muon_table_serves_four_decades_and_not_five() -> None:
    response = scalar_response("lora_muon", grid(1e-4))
    assert float(response.min()) >= 0.9990
    assert float(response.max()) <= 1.0005
    below = scalar_response("lora_muon", torch.tensor([1e-5]))
    assert float(below) == pytest.approx(0.21, abs=5e-3)


def test_lower_bound_moves_what_polar_express_and_cans_serve() -> None:
    s = grid(1e-5)
    for method, steps in (("polar_express", 10), ("cans", 16)):
        default = (1 - scalar_response(method, s, steps)).abs().max()
        lowered = (1 - scalar_response(method, s, steps, lower_bound=1e-5)).abs().max()
        assert float(lowered) <= 1e-4 < float(default), method


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(6, 6), (7, 3), (3, 7)])
def test_matrix_iteration_is_the_scalar_one_on_singular_values(
    method: str, shape: tuple[int, int], device: torch.device
) -> None:
    G = random_matrices(2, *shape).to(device)
    U, s, Vh = torch.linalg.svd(G, full_matrices=False)
    s = s / torch.linalg.vector_norm(s, dim=-1, keepdim=True)
    expected = (U * scalar_response(method, s).unsqueeze(-2)) @ Vh
    result = orthogonalize(G, method)
    assert result.shape == G.shape
    assert result.device.type == device.type
    # Each step amplifies rounding by at most the polynomial's slope at 0.
    slope = 1.0
    for polynomial in ORTHOGONALIZERS[method].polynomials():
        slope *= max(polynomial.coefficients[0], 1.0)
    assert float((result - expected).abs().max()) <= 7 * 2e-16 * slope * 10


@pytest.mark.parametrize("method", METHODS)
def test_equivariance_transposition_and_batch(method: str, device: torch.device) -> None:
    G = random_matrices(3, 6, 4, seed=1).to(device)
    Q = torch.linalg.qr(random_matrices(6, 6, seed=2)).Q.to(device)
    P = torch.linalg.qr(random_matrices(4, 4, seed=3)).Q.to(device)
    W = orthogonalize(G, method)
    assert (orthogonalize(Q @ G @ P, method) - Q @ W @ P).abs().max() <= 1e-11
    assert (orthogonalize(G.mT, method) - W.mT).abs().max() <= 1e-11
    assert (torch.stack([orthogonalize(M, method) for M in G]) - W).abs().max() <= 1e-11


@pytest.mark.parametrize("method", METHODS)
def test_power_of_two_scaling_is_bitwise_and_zero_stays_zero(
    method: str, device: torch.device
) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        G = random_matrices(3, 5, 4, seed=4).to(device, dtype)
        G[1] = 0
        W = orthogonalize(G, method)
        assert W.dtype == dtype
        assert torch.equal(W[1], torch.zeros_like(W[1]))
        for exponent in (-60, -3, 60):
            assert torch.equal(orthogonalize(G * 2.0**exponent, method), W)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_stays_near_double(
    method: str, dtype: torch.dtype, device: torch.device
) -> None:
    G = random_matrices(4, 8, 6, seed=5).to(device, dtype)
    W = orthogonalize(G, method)
    error = torch.linalg.matrix_norm(W.double() - orthogonalize(G.double(), method))
    assert W.dtype == dtype
    # Five to eight steps of about 6 u sqrt(r) each, times the growth of small directions.
    assert float(error.max()) <= 150 * torch.finfo(dtype).eps
    # No overflow at the top of float16's range, where the Frobenius norm itself overflows.
    assert torch.isfinite(orthogonalize(torch.full((9, 9), 6e4, device=device, dtype=dtype))).all()


def test_converged_methods_agree_with_msign(device: torch.device) -> None:
    G = random_matrices(4, 8, 3, seed=6).to(device)
    exact = msign(G)
    for method, steps in (
        ("cubic", 25),
        ("quintic", 20),
        ("quintic_steep", 20),
        ("polar_express", 10),
        ("cans", 16),
    ):
        assert (orthogonalize(G, method, steps) - exact).abs().max() <= 1e-13, method
    assert (orthogonalize(G, "muon", 20) - exact).abs().max() >= 1e-2
    assert torch.equal(orthogonalize(G, "svd"), exact)


def test_rank_deficient_input_keeps_its_kernel(device: torch.device) -> None:
    G = (random_matrices(7, 2, seed=7) @ random_matrices(2, 5, seed=8)).to(device)
    for method in METHODS:
        assert torch.linalg.svdvals(orthogonalize(G, method))[2] <= 1e-11, method


def test_frobenius_normalize_survives_the_ends_of_the_range(device: torch.device) -> None:
    G = random_matrices(4, 4, seed=9).to(device)
    for scale in (1e-300, 1.0, 1e300):
        norm = torch.linalg.matrix_norm(frobenius_normalize(G * scale))
        assert float(norm) == pytest.approx(1, abs=1e-15 * 8)


def test_odd_polynomials_of_any_degree() -> None:
    X = random_matrices(3, 4, seed=10)
    U, s, Vh = torch.linalg.svd(X, full_matrices=False)
    for coefficients in ((2.0,), (1.5, -0.5), (2.0, -1.5, 0.5), (1.0, -0.2, 0.3, 0.01)):
        polynomial = OddPolynomial(coefficients)
        expected = sum(c * s ** (2 * i + 1) for i, c in enumerate(coefficients))
        assert torch.allclose(polynomial(s), torch.as_tensor(expected), rtol=1e-14)
        assert torch.allclose(polynomial.apply_to_matrix(X), (U * expected) @ Vh, rtol=1e-12)
        assert torch.equal(polynomial(-s), -polynomial(s))


def test_every_orthogonaliser_is_documented() -> None:
    for name, declared in ORTHOGONALIZERS.items():
        assert declared.name == name
        assert len(declared.source) > 10
        assert name in (orthogonalize.__doc__ or "")


EYE = torch.eye(2)


@pytest.mark.parametrize(
    ("arguments", "parameters", "message"),
    [
        ((EYE, "polar_expres"), {}, "unknown method 'polar_expres'.*did you mean 'polar_express'"),
        ((EYE, "qr"), {}, "unknown method 'qr'; expected one of 'cans', 'certified', 'cubic'"),
        ((EYE, "muon", 0), {}, "steps must be a positive int, got 0"),
        ((EYE, "muon", 2.0), {}, "steps must be a positive int, got 2.0"),
        ((EYE, "svd", -1), {}, "steps must be a positive int, got -1"),
        ((EYE, "lora_muon", 9), {}, "'lora_muon' is a table of 8 steps, got steps=9"),
        ((EYE, "cubic"), {"safety": 1.0}, "method 'cubic' takes no parameters, got 'safety'"),
        ((EYE, "cans"), {"lowerbound": 1.0}, "unknown parameter .*did you mean 'lower_bound'"),
        ((EYE,), {"lower_bound": 0.0}, r"lower_bound must lie in \(0, 1\]"),
        ((torch.ones(3),), {}, r"got shape \(3,\)"),
        ((torch.ones(2, 2, dtype=torch.int32),), {}, "floating-point dtype"),
        ((EYE * float("nan"),), {}, "G must be finite"),
        ((EYE * float("inf"), "svd"), {}, "G must be finite"),
    ],
)
def test_rejects(
    arguments: tuple[Tensor, str, int], parameters: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        orthogonalize(*arguments, **parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ITERATIVE)
def test_the_weight_of_a_gram_matrix_is_the_iteration(method: str, device: torch.device) -> None:
    polynomials = ORTHOGONALIZERS[method].polynomials()
    X = random_matrices(2, 3, 9, 4, seed=11).to(device)
    X[1, 1] = 0
    weight = newton_schulz_weight(X.mT @ X, polynomials)
    assert weight.shape == (2, 3, 4, 4)
    assert float((X @ weight - orthogonalize(X, method)).abs().max()) <= 1e-10
    assert torch.equal(weight[1, 1], torch.zeros_like(weight[1, 1]))
    assert torch.equal(weight[0, 0], newton_schulz_weight((X.mT @ X)[0, 0], polynomials))
    # The control: in float32 the Gram matrix has lost what the matrix had.
    s = torch.tensor([1.0, 1e-2, 1e-4, 1e-4], dtype=torch.float64, device=device)
    Y = torch.linalg.qr(X[0, 0]).Q * s @ torch.linalg.qr(X[0, 1, :4]).Q
    exact = Y @ newton_schulz_weight(Y.mT @ Y, polynomials)
    Y = Y.float()
    single = Y @ newton_schulz_weight(Y.mT @ Y, polynomials)
    apart = torch.linalg.matrix_norm(torch.stack([single, orthogonalize(Y, method)]) - exact)
    assert float(apart[1]) <= 0.1
    if method == "lora_muon":
        assert float(apart[0]) > 0.1
