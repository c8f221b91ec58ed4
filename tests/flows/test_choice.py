"""Which method and which kernel run, and what is refused: what was given, and why it may not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flows import (
    Field,
    MatrixFactorization,
    Trajectory,
    gradient_flow,
    integrate,
    orthogonalized_flow,
    spectral_flow,
)
from flows import choice as rules
from flows.compiled import KernelUnavailable

SIGMA = [2.0, 1.0]


def planted(**options: Any) -> MatrixFactorization:
    return MatrixFactorization.planted(m=6, n=5, singular_values=SIGMA, rank=2, **options)


PROBLEM, SHRUNK, SINGLE = planted(), planted(l2=0.1), planted(dtype=torch.float32)
# Explicit steps at the optimum are at most 3.3 beta / (2 sigma_1) long: 8e-5, and thousands to the
# end; or .08.
STIFF, MILD = 1e-4, 0.1
SPECTRAL = spectral_flow(PROBLEM, MILD)


def near_the_optimum(problem: MatrixFactorization, lanes: int = 1) -> tuple[Tensor, Tensor]:
    """Every mode arrives within .02."""
    root = 0.99 * torch.tensor(SIGMA, dtype=torch.float64).sqrt()
    return problem.aligned_init(root, root, seed=[0] * lanes)


def run(field: Field, lanes: int = 1, **options: Any) -> Trajectory:
    tolerance = {} if "step" in options else {"rtol": 1e-6}
    options = {"stop_when_converged": False, **tolerance, **options}
    start = near_the_optimum(field.problem, lanes)
    return integrate(field, start, [0.06, 0.12, 0.18], **options)


def scales(*betas: float) -> Tensor:
    return torch.tensor(betas, dtype=torch.float64)


@pytest.mark.parametrize(
    ("field", "options", "expected"),
    [
        (spectral_flow(PROBLEM, STIFF), {}, "radau"),
        (spectral_flow(PROBLEM, STIFF, smoothing="tanh", weight_decay=0.1), {}, "radau"),
        (spectral_flow(PROBLEM, MILD), {}, "dormand_prince"),
        # Most of the lanes that are still on their way decide.
        (spectral_flow(PROBLEM, scales(STIFF, MILD, STIFF)), {"lanes": 3}, "radau"),
        # Where the implicit method does not apply, the explicit one does, however stiff.
        (spectral_flow(PROBLEM, STIFF), {"reduce": False}, "dormand_prince"),
        (spectral_flow(SHRUNK, STIFF), {}, "dormand_prince"),
        (spectral_flow(SINGLE, 1e-3), {"rtol": 1e-5}, "dormand_prince"),
        (gradient_flow(PROBLEM), {}, "dormand_prince"),
        (spectral_flow(PROBLEM, STIFF), {"step": 0.01}, "dormand_prince"),
        # What is asked for by name is taken, stiff or not.
        (spectral_flow(PROBLEM, STIFF), {"method": "dormand_prince"}, "dormand_prince"),
        (spectral_flow(PROBLEM, MILD), {"method": "radau"}, "radau"),
        (spectral_flow(PROBLEM, STIFF), {"step": 0.01, "method": "euler"}, "euler"),
    ],
)
def test_the_work_says_which_method_ran(
    field: Field, options: dict[str, Any], expected: str
) -> None:
    work = run(field, kernel="plain", **options).work
    assert (work.method, work.kernel) == (expected, "plain")


def test_short_steps_of_a_small_state_are_not_stiff() -> None:
    generator = torch.Generator().manual_seed(0)
    B, A = (1e-7 * torch.randn(s, generator=generator).double() for s in ((1, 6, 2), (1, 2, 5)))
    run = integrate(spectral_flow(PROBLEM, 1e-3), (B, A), [0.2], rtol=1e-10, atol=1e-14)
    assert run.work.method == "dormand_prince"


def test_auto_is_explicit_until_a_mode_arrives() -> None:
    field, start = spectral_flow(PROBLEM, STIFF), PROBLEM.gaussian_init(0.1, seed=0)
    early, named = (integrate(field, start, [0.3], method=x) for x in ("auto", "dormand_prince"))
    assert early.work.method == "dormand_prince"
    assert torch.equal(early.states, named.states)


def test_the_implicit_steps_go_on_where_the_explicit_ones_end() -> None:
    field = spectral_flow(PROBLEM, scales(STIFF, 1.2 * STIFF))
    auto, explicit, implicit = (
        run(field, lanes=2, method=method) for method in ("auto", "dormand_prince", "radau")
    )
    assert auto.work.method == "radau"
    for other in (explicit, implicit):
        assert float((auto.products - other.products).abs().max()) <= 1e-5
        assert float((auto.arrival_times(0.99) - other.arrival_times(0.99)).abs().max()) <= 1e-5
    # The explicit steps before count too: there are some, and fewer than without a successor.
    steps = auto.work.accepted + auto.work.rejected
    assert bool((auto.work.evaluations > 6 * 10).all())
    assert bool((steps < explicit.work.accepted).all())
    assert bool((auto.work.evaluations < explicit.work.evaluations).all())


def kernel_of(field: Field, **options: Any) -> str:
    start = field.problem.gaussian_init(0.1, seed=0)
    return integrate(field, start, [0.05], rtol=1e-5, **options).work.kernel


def test_the_work_says_which_kernel_ran() -> None:
    pytest.importorskip("numba", reason="the compiled kernel needs numba")
    for options in ({}, {"kernel": "compiled"}, {"kernel": "compiled", "method": "radau"}):
        assert kernel_of(SPECTRAL, **options) == "compiled"
    # The regulariser is the kernel's, though not the implicit method's.
    assert kernel_of(spectral_flow(SHRUNK, 0.1)) == "compiled"
    assert kernel_of(SPECTRAL, kernel="plain") == "plain"
    assert kernel_of(SPECTRAL, reduce=False) == "plain"
    assert kernel_of(gradient_flow(PROBLEM)) == "plain"
    assert kernel_of(spectral_flow(SINGLE, 0.1)) == "plain"


def test_without_numba_only_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "why_unavailable", lambda: "it needs numba")
    assert kernel_of(SPECTRAL) == kernel_of(SPECTRAL, kernel="plain") == "plain"
    with pytest.raises(KernelUnavailable, match="it needs numba"):
        kernel_of(SPECTRAL, kernel="compiled")


INAPT: list[tuple[Field, dict[str, Any], str]] = [
    (
        spectral_flow(SHRUNK, 0.1),
        {"method": "radau"},
        r"method 'radau' does not apply: its Jacobian .* regulariser; given l2 = 0\.1",
    ),
    (
        SPECTRAL,
        {"method": "radau", "reduce": False},
        r"method 'radau' does not apply: it works in the exact reduction \(reduce=True\)",
    ),
    (
        gradient_flow(PROBLEM),
        {"method": "radau"},
        "method 'radau' does not apply: it is for smoothed spectral flows; given gradient flow",
    ),
    (
        spectral_flow(SINGLE, 0.1),
        {"method": "radau"},
        r"method 'radau' does not apply: it needs float64; given torch\.float32",
    ),
    (
        SPECTRAL,
        {"method": "radau", "step": 0.25},
        r"step: method 'radau' chooses its own; given 0\.25",
    ),
    (
        gradient_flow(PROBLEM),
        {"method": "euler"},
        r"method 'euler' has no error estimate: it needs a fixed step=\.\.\.",
    ),
    *(
        (field, {"method": method}, r"the field jumps.*give method='euler' and a step")
        for field in (spectral_flow(PROBLEM, 0.0), orthogonalized_flow(PROBLEM, "muon", 5))
        for method in ("auto", "radau", "dormand_prince")
    ),
    (
        gradient_flow(PROBLEM),
        {"kernel": "compiled"},
        "kernel 'compiled' does not apply: it is for smoothed spectral flows; given gradient flow",
    ),
    (
        SPECTRAL,
        {"kernel": "compiled", "reduce": False},
        r"kernel 'compiled' does not apply: it works in the exact reduction \(reduce=True\)",
    ),
    (
        spectral_flow(SINGLE, 0.1),
        {"kernel": "compiled"},
        r"'compiled' does not apply: it is for float64 on the CPU; given torch\.float32 on cpu",
    ),
    (SPECTRAL, {"method": "radu"}, r"unknown method 'radu'; .*did you mean 'radau'\?"),
    (SPECTRAL, {"method": "dormand"}, r"unknown method 'dormand'.*'dormand_prince'\?"),
    (SPECTRAL, {"method": "radu", "step": 0.1}, r"unknown method 'radu'.*'radau'\?"),
    (SPECTRAL, {"kernel": "compild"}, r"unknown kernel 'compild'.*'compiled'\?"),
    (SPECTRAL, {"kernel": "plan"}, r"unknown kernel 'plan'; .*did you mean 'plain'\?"),
]


@pytest.mark.parametrize(("field", "options", "message"), INAPT)
def test_what_does_not_apply_is_refused(
    field: Field, options: dict[str, Any], message: str
) -> None:
    start = field.problem.gaussian_init(0.1, seed=0)
    with pytest.raises(ValueError, match=message):
        integrate(field, start, [0.25], **options)


@pytest.mark.parametrize("name", ["radau", "auto", "dormand_prince", "euler"])
def test_unknown_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected one of .*'{name}'"):
        integrate(SPECTRAL, near_the_optimum(PROBLEM), [1.0], method="no such method")
