"""The same flow from every contestant in every formulation, and the references for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks.references
from benchmarks.accuracy import largest_error
from benchmarks.ambient import probe
from benchmarks.contestant import Contestant
from benchmarks.formulation import full, reduced
from benchmarks.peers import CONTESTANTS, OWN
from benchmarks.reference import Reference, Yardstick, by_closed_form, by_scipy
from benchmarks.references import References, key
from benchmarks.study import Session
from tests.benchmarks.toy import SCIPY, SEEDS, TOY, quiet_session


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return quiet_session(tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="module")
def reference(session: Session) -> Reference:
    return session.references.of(TOY, SEEDS, SCIPY)


# jax takes seconds to import and to compile; the benchmark shows its errors.
LIGHT = [each for each in CONTESTANTS if each.package != "diffrax" and each.installed]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("contestant", LIGHT, ids=lambda each: each.name)
def test_contestants_integrate_the_same_flow(contestant: Contestant, reference: Reference) -> None:
    answer = contestant.prepare(TOY, SEEDS, 1e-8).run()
    assert largest_error(answer.factors, reference.factors) <= 1e-6
    # Every method takes six to twelve right-hand sides a step, and dozens of steps.
    assert 50 < answer.evaluations < 20_000


def test_the_reduction_is_one_and_comes_back() -> None:
    start = TOY.starts(SEEDS)
    given, small = full(TOY, start), reduced(TOY, start)
    assert small.start[0].shape == (2, 4, 2)  # k + r of m = 6 rows
    for lifted, factor in zip(
        small.lift(*(part[:, None] for part in small.start)), given.start, strict=True
    ):
        np.testing.assert_allclose(lifted[:, 0], factor, atol=1e-14)
    assert small.bases is not None
    left, right = small.bases
    np.testing.assert_allclose(left @ small.target @ right.mT, [given.target] * 2, atol=1e-14)


def test_the_embedded_flow_is_the_same_flow_elsewhere() -> None:
    case = replace(TOY, embedded_in=16)
    P, Q = case.embedding
    torch.testing.assert_close(case.starts(SEEDS)[0], P @ TOY.starts(SEEDS)[0])
    torch.testing.assert_close(
        P @ TOY.problem.dense_target() @ Q.mT, case.problem.dense_target(), atol=1e-14, rtol=0
    )
    got = probe(case, SEEDS, 1e-6, repeats=1)
    here = OWN.prepare(TOY, SEEDS, 1e-6).run()
    assert largest_error(got.factors, here.factors) < 1e-10
    assert got.outside < 1e-13
    with pytest.raises(ValueError, match="embedded_in is expected"):
        _ = TOY.embedding


def test_the_reference_is_converged(reference: Reference) -> None:
    # Another method, another formulation: the exact reduction at 1e-11.
    finest = OWN.prepare(TOY, SEEDS, 1e-11).run()
    assert largest_error(finest.factors, reference.factors) <= 1e-10


def test_own_references_say_what_checked_them(session: Session) -> None:
    checked = session.references.of(TOY, range(2), Yardstick("flows", checked=1))
    assert checked.source == "flows at 1e-11, checked by DOP853 at 1e-12 on 1 of 2 seeds"
    assert 0 < checked.doubt < 1e-9
    alone = session.references.of(TOY, range(2), Yardstick("flows"))
    assert alone.source == "flows at 1e-11, checked by itself at 1e-10"
    assert 0 < alone.doubt < 1e-8


def test_the_closed_form_is_the_flow_of_aligned_starts() -> None:
    case = replace(TOY, start="aligned")
    exact = by_closed_form(case, [0, 1])
    assert largest_error(by_scipy(case, [1]), (exact[0][1:], exact[1][1:])) < 1e-10
    # A path that starts far from where it ends: being at the end alone is not enough.
    B, A = exact
    assert largest_error((B[:, :1], A[:, :1]), (B[:, -1:], A[:, -1:])) > 0.5
    with pytest.raises(ValueError, match="aligned starts are expected; given 'gaussian'"):
        by_closed_form(TOY, [0])


def test_a_reference_is_made_once(
    session: Session, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Reference:
        raise AssertionError("made again")

    monkeypatch.setattr(benchmarks.references, "make", never)
    again = session.references.of(replace(TOY, error_bound=1.0), range(2), SCIPY)
    for factor, kept in zip(again.factors, reference.factors, strict=True):
        np.testing.assert_array_equal(factor, kept)
    with pytest.raises(AssertionError, match="made again"):
        session.references.of(TOY, range(3), SCIPY)


@pytest.mark.parametrize("damage", ["cut", "flipped", "of another shape", "no archive"])
def test_a_damaged_reference_is_named_and_made_again(tmp_path: Path, damage: str) -> None:
    lines: list[str] = []
    case, yardstick = replace(TOY, start="aligned"), Yardstick("closed form")
    references = References(tmp_path, lines.append)
    made = references.of(case, [0], yardstick)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    third = len(content) // 3
    flipped = content[:third] + bytes([content[third] ^ 0xFF]) + content[third + 1 :]
    if damage == "of another shape":
        np.savez(path, B=made.factors[0][:, 1:], A=made.factors[1], source="", doubt=0.0)
    else:
        spoiled = {"cut": content[: len(content) // 2], "flipped": flipped, "no archive": b"text"}
        path.write_bytes(spoiled[damage])
    lines.clear()
    again = references.of(case, [0], yardstick)
    assert lines[0].startswith(f"{path} is damaged (")
    assert lines[0].endswith("): made again")
    np.testing.assert_array_equal(again.factors[0], made.factors[0])
    lines.clear()
    references.of(case, [0], yardstick)
    assert lines == []


def test_a_reference_is_named_by_all_that_it_depends_on() -> None:
    names = [
        key(TOY, [0, 1], SCIPY),
        key(TOY, [0, 2], SCIPY),
        key(replace(TOY, beta=0.2), [0, 1], SCIPY),
        key(replace(TOY, grid=5), [0, 1], SCIPY),
        key(TOY, [0, 1], Yardstick("flows")),
        key(TOY, [0, 1], Yardstick("flows", checked=1)),
    ]
    assert len(set(names)) == len(names)
    assert key(replace(TOY, error_bound=1.0), [0, 1], SCIPY) == names[0]
