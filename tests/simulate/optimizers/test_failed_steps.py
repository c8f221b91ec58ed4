"""A factorisation that fails is one member's: it is named, and the others step as without it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simulate.optimizers import (
    FactorizationError,
    FactorMuon,
    FailedStepError,
    LoRAMuon,
    LoRARite,
    LoRARiteCore,
    LowRankMSGD,
    LowRankMuon,
    Muon,
    NotFiniteError,
    Riemannion,
    RiemannLoRA,
    SpectralDescent,
    Spectron,
    Tensorion,
    keep_members,
    step_or_leave,
)
from tests.geometry.test_msign import random_matrices

Make = Callable[..., torch.optim.Optimizer]
RATES = (0.05, 0.02, 0.1, 0.03)
BAD = 1
MATRICES: dict[str, Make] = {
    "Muon": partial(Muon, orthogonalizer="svd", momentum=0.5),
    "LowRankMSGD": partial(LowRankMSGD, rank=2, seed=torch.tensor([3, 5, 7, 9])),
    "LowRankMuon": partial(
        LowRankMuon, rank=2, sketch="gaussian", momentum=0.5, seed=torch.tensor([3, 5, 7, 9])
    ),
    "SpectralDescent": SpectralDescent,
    "Tensorion": partial(Tensorion, order=2),
}
PAIRS: dict[str, Make] = {
    "FactorMuon": partial(FactorMuon, orthogonalizer="svd"),
    "LoRAMuon": partial(LoRAMuon, orthogonalizer="svd"),
    "LoRARite": LoRARite,
    "LoRARiteCore": partial(LoRARiteCore, orthogonalizer="svd"),
    "Riemannion": Riemannion,
    "RiemannLoRA": RiemannLoRA,
    "Spectron": partial(Spectron, orthogonalizer="svd"),
}
DID_NOT_CONVERGE = "linalg.svd: (Batch element 0): The algorithm failed to converge (error code: 3)"


def matrices() -> list[nn.Parameter]:
    return [nn.Parameter(random_matrices(4, 8, 6, seed=seed)) for seed in (0, 1)]


def pairs() -> list[tuple[nn.Parameter, nn.Parameter]]:
    return [
        (
            nn.Parameter(random_matrices(4, 8, 3, seed=seed)),
            nn.Parameter(random_matrices(4, 3, 6, seed=10 + seed)),
        )
        for seed in (0, 1)
    ]


def flat(given: list[Any]) -> list[nn.Parameter]:
    return [p for each in given for p in (each if isinstance(each, tuple) else (each,))]


def give_gradients(given: list[Any], going: list[int], step: int) -> None:
    for number, p in enumerate(flat(given)):
        p.grad = random_matrices(4, *p.shape[1:], seed=100 * (step + 1) + number)[going]


def let_fail(monkeypatch: pytest.MonkeyPatch, matrix: Tensor) -> list[int]:
    """Let an SVD fail whose batch holds a matrix with these singular values, up to a factor.

    Returns:
        The sizes of the batches that failed, as they fail.
    """
    real, failed = torch.linalg.svd, list[int]()
    expected = torch.linalg.svdvals(matrix)

    def svd(X: Tensor, *args: Any, **options: Any) -> Any:
        s = torch.linalg.svdvals(X)
        if s.shape[-1] == len(expected):
            apart = (s / s[..., :1] - expected / expected[0]).abs().amax(-1)
            if bool((apart < 1e-9).any()):
                failed.append(apart.numel())
                raise torch.linalg.LinAlgError(DID_NOT_CONVERGE)  # type: ignore[attr-defined]
        return real(X, *args, **options)

    monkeypatch.setattr(torch.linalg, "svd", svd)
    return failed


def factorised_by(name: str) -> Tensor:
    """The last matrix of which the bad member alone takes an SVD in its first step."""
    seen: list[Tensor] = []
    real, alone = torch.linalg.svd, Run(name, [BAD])

    def svd(X: Tensor, *args: Any, **options: Any) -> Any:
        seen.append(X.detach().clone())
        return real(X, *args, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.linalg, "svd", svd)
        alone.steps(1)
    return seen[-1].flatten(0, -3)[0]


class Run:
    """An ensemble that members leave."""

    def __init__(self, name: str, members: list[int]) -> None:
        self.given: list[Any] = matrices() if name in MATRICES else pairs()
        self.going = list(range(4))
        make = {**MATRICES, **PAIRS}[name]
        self.optimizer = make(self.given, lr=torch.tensor(RATES, dtype=torch.float64))
        self.left: dict[int, str] = {}
        if len(members) < 4:
            keep_members(self.optimizer, torch.tensor(members))
            self.going = members

    def leave(self, reasons: Mapping[int, str]) -> bool:
        self.left.update({self.going[place]: reason for place, reason in reasons.items()})
        kept = [place for place in range(len(self.going)) if place not in reasons]
        self.going = [self.going[place] for place in kept]
        if kept:
            keep_members(self.optimizer, torch.tensor(kept))
        return bool(kept)

    def steps(self, number: int) -> None:
        for step in range(number):
            give_gradients(self.given, self.going, step)
            step_or_leave(self.optimizer, self.leave)


# LoRA-RITE takes none.
@pytest.mark.parametrize("name", sorted({*MATRICES, *PAIRS} - {"LoRARite"}))
def test_a_member_whose_svd_fails_leaves_and_the_others_have_their_bits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = Run(name, [0, 2, 3])
    others.steps(3)
    failed = let_fail(monkeypatch, factorised_by(name))
    run = Run(name, [0, 1, 2, 3])
    before = [p.detach().clone() for p in flat(run.given)]
    give_gradients(run.given, run.going, 0)
    with pytest.raises(FactorizationError, match=r"in members \[1\]; nothing was updated") as found:
        run.optimizer.step()
    assert found.value.reasons == {
        BAD: "a factorisation failed: linalg.svd: The algorithm failed to converge (error code: 3)"
    }
    assert all(torch.equal(p, kept) for p, kept in zip(flat(run.given), before, strict=True))
    assert not run.optimizer.state
    # The batch, and then the member.
    assert len(failed) == 2
    assert failed[0] > failed[1]

    run.steps(3)
    assert run.going == [0, 2, 3]
    assert run.left == found.value.reasons
    for p, q in zip(flat(run.given), flat(others.given), strict=True):
        assert torch.equal(p, q)
    assert float((flat(run.given)[0].detach() - before[0][[0, 2, 3]]).abs().min()) > 0


def huge(given: list[Any], *where: Any) -> None:
    """Gradients whose squares overflow: LAPACK does not converge on the infinities."""
    for p in flat(given):
        assert p.grad is not None
        p.grad[where] *= 1e200


def test_a_factorisation_that_really_fails_is_its_member_s() -> None:
    run, others = Run("LoRARite", [0, 1, 2, 3]), Run("LoRARite", [0, 2, 3])
    run.steps(2)
    others.steps(5)
    give_gradients(run.given, run.going, 2)
    huge(run.given, BAD)
    with pytest.raises(
        FactorizationError, match=r"pairs \[0, 1\] of LoRARite at step 2: a fact.*in members \[1\]"
    ) as found:
        run.optimizer.step()
    assert found.value.reasons[BAD].startswith("a factorisation failed: linalg.")
    for step in (2, 3, 4):
        give_gradients(run.given, run.going, step)
        if step == 2:
            huge(run.given, BAD)
        step_or_leave(run.optimizer, run.leave)
    assert run.left == found.value.reasons
    for p, q in zip(flat(run.given), flat(others.given), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(("batch", "members"), [((), ()), ((1,), (0,)), ((2, 3), (0, 1))])
def test_members_are_the_first_dimension(batch: tuple[int, ...], members: tuple[int, ...]) -> None:
    B, A = (nn.Parameter(random_matrices(*batch, *shape)) for shape in ((8, 3), (3, 6)))
    for p in (B, A):
        p.grad = random_matrices(*p.shape, seed=1)
    huge([B, A])
    optimizer = LoRARite([(B, A)], lr=0.1)
    with pytest.raises(FactorizationError, match=r"pairs \[0\] of LoRARite at step 0") as found:
        optimizer.step()
    assert found.value.members == members
    if not members:
        with pytest.raises(FactorizationError):
            step_or_leave(optimizer, lambda reasons: pytest.fail(f"there are none: {reasons}"))


def test_what_overflows_on_the_way_to_a_factorisation_is_one_member_s_too() -> None:
    W = nn.Parameter(random_matrices(3, 8, 6))
    optimizer = Muon([W], lr=0.1, momentum=0.5, orthogonalizer="svd")
    for sign in (1.0, -1.0):
        W.grad = random_matrices(3, 8, 6, seed=1)
        # Less the momentum it is twice what a float holds.
        W.grad[1] = sign * 1.7e308
        if sign > 0:
            optimizer.step()
    with pytest.raises(NotFiniteError, match=r"in members \[1\]") as found:
        optimizer.step()
    assert found.value.reasons == {1: "the update overflows"}


def test_a_batch_that_fails_where_no_member_does_is_raised_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = torch.linalg.svd

    def svd(X: Tensor, *args: Any, **options: Any) -> Any:
        if X.shape[:-2].numel() > 2:
            raise torch.linalg.LinAlgError("of the batch alone")  # type: ignore[attr-defined]
        return real(X, *args, **options)

    monkeypatch.setattr(torch.linalg, "svd", svd)
    run = Run("Muon", [0, 1, 2, 3])
    with pytest.raises(torch.linalg.LinAlgError, match="of the batch alone"):  # type: ignore[attr-defined]
        run.steps(1)
    assert run.going == [0, 1, 2, 3]


@pytest.mark.parametrize("name", [*MATRICES, *PAIRS])
def test_what_is_done_again_for_one_member_is_its_own_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, spied = Run(name, [0, 1, 2, 3]), Run(name, [0, 1, 2, 3])
    whole.steps(3)
    spied.steps(2)
    kind, found = type(spied.optimizer), list[Tensor]()
    real = kind.updated  # type: ignore[attr-defined]

    def updated(self: Any, first: Any, *rest: Any) -> Any:
        factor = first.factors[0] if name in PAIRS else first
        if factor.shape[1] > 1:
            raise torch.linalg.LinAlgError("anything")  # type: ignore[attr-defined]
        moved, kept = real(self, first, *rest)
        found.append(moved[0] if name in PAIRS else moved)
        return moved, kept

    monkeypatch.setattr(kind, "updated", updated)
    give_gradients(spied.given, spied.going, 2)
    with pytest.raises(torch.linalg.LinAlgError, match="anything"):  # type: ignore[attr-defined]
        spied.optimizer.step()
    expected = torch.stack([p[0] if name in PAIRS else p for p in whole.given]).detach()
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-12)


def test_a_factor_that_loses_its_rank_is_its_member_s_and_a_start_without_it_is_refused() -> None:
    make = partial(Riemannion, lr=torch.tensor(RATES, dtype=torch.float64))
    start, given = pairs(), pairs()
    with torch.no_grad():
        start[0][0][BAD, :, 0] = 0.0
    optimizer = make(start)
    give_gradients(start, [0, 1, 2, 3], 0)
    with pytest.raises(ValueError, match="locally optimal initialisation") as refused:
        optimizer.step()
    assert not isinstance(refused.value, FailedStepError)

    optimizer = make(given)
    give_gradients(given, [0, 1, 2, 3], 0)
    optimizer.step()
    with torch.no_grad():
        given[0][0][BAD, :, 0] = 0.0
    give_gradients(given, [0, 1, 2, 3], 1)
    with pytest.raises(
        FactorizationError, match=r"pairs \[0, 1\] of Riemannion at step 1"
    ) as found:
        optimizer.step()
    assert found.value.reasons == {BAD: "a factor has lost its rank"}


def test_the_error_travels_between_processes() -> None:
    error = FactorizationError("said", {2: "why", 0: "because"})
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.reasons, copy.members) == ("said", {0: "because", 2: "why"}, (0, 2))
