"""The claims on low-rank descent and practical Muon: attained bounds, reference runs, momenta."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from claims.low_rank_orthogonalization import descent, descent_rate, practical
from claims.low_rank_orthogonalization.quadratics import curvatures
from claims.measuring.draws import gaussian
from claims.registry import Setting
from geometry.polar import msign
from simulate.optimizers import Muon


def test_curvatures_run_from_round_to_the_condition_asked_for() -> None:
    A, B = curvatures(range(200), 4, 6, decades=2)
    for X in (A, B):
        eigenvalues = torch.linalg.eigvalsh(X)
        assert 0.01 <= float(eigenvalues.min()) <= float(eigenvalues.max()) <= 1
        conditions = eigenvalues[:, -1] / eigenvalues[:, 0]
        assert float(conditions.min()) < 1.2
        assert float(conditions.max()) > 20
    one, _ = curvatures([7], 4, 6, decades=2)
    assert torch.equal(A[7:8], one)


def test_round_quadratics_attain_both_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def round_ones(seeds: range, m: int, n: int, decades: float) -> tuple[torch.Tensor, ...]:
        return tuple(torch.eye(size).double().expand(len(seeds), -1, -1) for size in (m, n))

    monkeypatch.setattr(descent, "curvatures", round_ones)
    evidence = descent.check_descent(Setting("quick", 3, {"members": 20, "ranks": (1, 12)}))
    assert evidence.holds
    shares = torch.from_numpy(evidence.arrays["shares"])
    # (ranks, sketches, bounds, members); duplicates leave fewer directions to weighted columns.
    assert shares[0].movedim(1, 0)[0] == pytest.approx(1, abs=1e-9)
    assert shares[1, [0, 2]].numpy() == pytest.approx(1, abs=1e-9)


def test_round_off_is_far_below_what_is_measured() -> None:
    setting = Setting("quick", 3, {"members": 300, "ranks": (1, 3, 12)})
    counts = [m.value for m in descent._descent(setting, 1 - 1e-6).measurements]
    shares = torch.from_numpy(descent.check_descent(setting).arrays["shares"])
    assert counts == [0, 0]
    # Constants a little below the largest share are violated.
    largest = float(shares.max())
    assert max(m.value for m in descent._descent(setting, largest - 1e-3).measurements) >= 1


def test_members_that_leave_change_no_run() -> None:
    """The longest horizon at full rank against a plain loop, one seed at a time."""
    runs = descent_rate._Runs((24, 6), (5, 6), "cpu")
    *means, off = descent_rate._run(runs, (8, 3, 1), 1.0)
    kept, whole = (x.unflatten(1, runs.shape) for x in means)
    assert off <= 1e-13
    for place, seed in enumerate((5, 6)):
        for horizon, K in enumerate((24, 6)):
            X = gaussian([seed], 8, 10, stream=1)[0]
            bound = float((X.square().sum() * 8 / K).sqrt())
            nuclear = frobenius = 0.0
            for _ in range(K):
                nuclear += float(torch.linalg.matrix_norm(X, ord="nuc"))
                frobenius += float(torch.linalg.matrix_norm(X))
                X = X - bound / 8 * msign(X)
            # Signs of singular values near 0 may be taken otherwise.
            assert float(kept[0, horizon, 0, place]) == pytest.approx(nuclear / K / bound, rel=1e-3)
            expected = frobenius / K / (10 / 8 * bound)
            assert float(whole[0, horizon, 0, place]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("nesterov", [True, False])
def test_two_momenta_are_those_of_muon(nesterov: bool) -> None:
    cells = tuple((0.1, b, b if nesterov else 1.0) for b in (0.0, 0.5, 0.9))
    grid = practical._Grid(cells, (1, 2), 0.3, "cpu")
    ends = []
    for make in (practical._two_momenta, practical._cases([0.0])["Muon, Nesterov"].make):
        W = nn.Parameter(grid.start())
        optimizer = make(W, grid)
        if isinstance(optimizer, Muon):
            optimizer.param_groups[0]["nesterov"] = nesterov
        practical._run(grid, optimizer, W, 5)
        ends.append(W.detach())
    assert float((ends[0] - ends[1]).abs().max()) < 1e-10
    assert not torch.equal(ends[0], grid.start())


def test_momenta_out_of_range_are_refused() -> None:
    W = nn.Parameter(torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="look_ahead in"):
        practical.TwoMomenta([W], *torch.tensor([[0.1], [0.5], [1.5]]))


def test_the_bound_term_by_term() -> None:
    grid = practical._Grid(((0.1, 0.0, 0.0), (0.2, 0.5, 1.0)), (1,), 1.0, "cpu")
    f, X = grid.problem(), grid.start()
    run = practical._Run(torch.zeros(0), s_min=0.5, s_max=1.5)
    L, fall = f.frobenius_smoothness, f.loss(X)
    first = torch.linalg.matrix_norm(f.exact_gradient(X))
    root, r = 8**0.5, 8
    without = fall[0] / (0.1 * 7) + 2 * 1.5 * root * 3.0 + 0.1 * 2.25 * L[0] * r / 2
    polyak = (
        fall[1] / (0.2 * 7)
        + 2 * 1.5 * root * first[1] / (7 * 0.5)
        + 2 * 0.5**0.5 * 1.5 * root * 3.0
        + 2 * 0.2 * 2.25 * L[1] * r / 0.5
        + 0.2 * 2.25 * L[1] * r / 2
    )
    found = practical._bound(grid, run, 7, sigma=3.0)
    assert found.tolist() == pytest.approx([2 * float(without), 2 * float(polyak)])


def test_the_weights_of_the_noise_are_within_the_theorem() -> None:
    b1, b2 = torch.meshgrid(*[torch.linspace(0, 1, 201).double()] * 2, indexing="ij")
    exact = (1 - b1 * b2) ** 2 + b1**2 * b2**2 * (1 - b1) / (1 + b1)
    assert bool((exact <= (1 - b1) + b1 * (1 - b1 * b2) * (1 - b2) + 1e-15).all())
