"""Tensorion: Muon on matrices to the bit, its own rule on tensors, ensembles, states, errors."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from geometry.polar import msign
from geometry.tensor import offline_unfolding, online_unfolding, tensor_lmo
from geometry.unfolding import fold, unfold, unfolded_shape, unfoldings
from simulate.optimizers import Muon, Tensorion, tensor_parameters

SHAPES = [(4, 5, 3), (6, 4, 3, 3), (6, 4, 3, 3), (2, 3, 2, 2, 2), (5, 7)]
LIKE_MUON: dict[str, Any] = {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def parameters(dtype: torch.dtype = torch.float64) -> list[Parameter]:
    return [Parameter(random(*shape, seed=i, dtype=dtype)) for i, shape in enumerate(SHAPES)]


def run(optimizer: torch.optim.Optimizer, params: list[Parameter], steps: range) -> None:
    for step in steps:
        for i, p in enumerate(params):
            p.grad = random(*p.shape, seed=100 * (step + 1) + i, dtype=p.dtype)
        optimizer.step()


def same(ours: list[Parameter], theirs: list[Parameter]) -> bool:
    return all(torch.equal(W, V) for W, V in zip(ours, theirs, strict=True))


def matrices(dtype: torch.dtype) -> list[Parameter]:
    found = [
        Parameter(random(*shape, seed=i, dtype=dtype))
        for i, shape in enumerate([(5, 7), (20, 18), (18, 20), (5, 7), (33, 4)])
    ]
    # By columns in memory, as tied or transposed weights are.
    return [*found, Parameter(random(19, 18, seed=9, dtype=dtype).mT)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("unfolding", ["online", "offline", (0,), (1,)])
def test_on_matrices_it_is_torchs_muon_to_the_bit(dtype: torch.dtype, unfolding: Any) -> None:
    ours, theirs = matrices(dtype), matrices(dtype)
    run(Tensorion(ours, 0.02, unfolding=unfolding, orthogonalizer="torch"), ours, range(6))
    run(torch.optim.Muon(theirs, 0.02, **LIKE_MUON), theirs, range(6))
    assert same(ours, theirs)
    # And Nesterov's momentum with it.
    run(Tensorion(ours, 0.02, nesterov=True, orthogonalizer="torch"), ours, range(3))
    run(
        torch.optim.Muon(theirs, 0.02, nesterov=True, adjust_lr_fn="match_rms_adamw"),
        theirs,
        range(3),
    )
    assert same(ours, theirs)


@pytest.mark.parametrize("orthogonalizer", ["svd", "muon", "polar_express"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_on_matrices_it_is_muon_to_the_bit(orthogonalizer: str, dtype: torch.dtype) -> None:
    ours, theirs = matrices(dtype), matrices(dtype)
    run(Tensorion(ours, 0.02, orthogonalizer=orthogonalizer), ours, range(5))
    run(Muon(theirs, 0.02, **LIKE_MUON, orthogonalizer=orthogonalizer), theirs, range(5))
    assert same(ours, theirs)


def by_hand(W: Tensor, gradients: list[Tensor], unfolding: str | tuple[int, ...]) -> Tensor:
    """The heavy ball M <- .9 M + G; lr .1, weight decay .5."""
    M, order = torch.zeros_like(W), W.ndim
    for G in gradients:
        M = 0.9 * M + G
        if unfolding == "online":
            norms = [torch.linalg.matrix_norm(unfold(M, t), "nuc") for t in unfoldings(order)]
            tau = unfoldings(order)[int(torch.stack(norms).argmax())]
        else:
            tau = offline_unfolding(W.shape) if isinstance(unfolding, str) else unfolding
        rows, columns = unfolded_shape(W.shape, tau)
        O = fold(msign(unfold(M, tau)), tau, W.shape)  # noqa: E741
        W = W - 0.1 * 0.5 * W - 0.1 * 0.2 * max(rows, columns) ** 0.5 * O
    return W


@pytest.mark.parametrize("unfolding", ["online", "offline", (1,)])
@pytest.mark.parametrize("shape", [(4, 5, 3), (6, 4, 3, 3), (2, 3, 2, 2, 2)])
def test_follows_an_independent_loop(
    shape: tuple[int, ...], unfolding: str | tuple[int, ...]
) -> None:
    W, gradients = random(*shape, seed=0), [random(*shape, seed=1 + i) for i in range(12)]
    p = Parameter(W.clone())
    optimizer = Tensorion([p], 0.1, weight_decay=0.5, momentum=0.9, unfolding=unfolding)
    for G in gradients:
        p.grad = G.clone()
        optimizer.step()
    assert (p.detach() - by_hand(W, gradients, unfolding)).abs().max() <= 1e-12


def test_a_step_is_along_the_lmo_and_has_a_root_mean_square_of_a_fifth() -> None:
    for shape in SHAPES:
        p = Parameter(torch.zeros(shape, dtype=torch.float64))
        p.grad = random(*shape, seed=3)
        Tensorion([p], 1.0, adjust_lr_fn="unadjusted").step()
        assert (p.detach() + tensor_lmo(p.grad)).abs().max() <= 1e-13
        p.data.zero_()
        Tensorion([p], 1.0).step()
        assert float(p.detach().square().mean().sqrt()) == pytest.approx(0.2, abs=1e-13)


@pytest.mark.parametrize("orthogonalizer", ["svd", "torch"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_members_are_what_they_are_alone(orthogonalizer: str, dtype: torch.dtype) -> None:
    shape, count = (4, 3, 3, 3), 6
    members = random(count, *shape, seed=1, dtype=dtype)
    gradients = [random(count, *shape, seed=2 + step, dtype=dtype) for step in range(8)]
    rates = torch.linspace(0.01, 0.06, count, dtype=torch.float64)
    ensemble = Parameter(members.clone().reshape(2, 3, *shape))
    options: dict[str, Any] = {"order": 4, "orthogonalizer": orthogonalizer}
    optimizer = Tensorion([ensemble], rates.reshape(2, 3), **options)
    chosen: set[int] = set()
    for G in gradients:
        ensemble.grad = G.reshape(2, 3, *shape)
        optimizer.step()
        momentum = optimizer.state[ensemble]["momentum_buffer"]
        chosen |= {*online_unfolding(momentum, 4).flatten().tolist()}
    for i in range(count):
        alone = Parameter(members[i].clone())
        its_own = Tensorion([alone], float(rates[i]), **options)
        for G in gradients:
            alone.grad = G[i].clone()
            its_own.step()
        error = float((ensemble.detach().reshape(count, *shape)[i] - alone.detach()).abs().max())
        assert error <= (1e-12 if dtype == torch.float64 else 0.0)
    # Members did not all have one unfolding all the time.
    assert len(chosen) > 1


def test_an_ensemble_takes_the_order_and_no_member_sees_another() -> None:
    p = Parameter(random(3, 4, 5, 6, seed=0))
    optimizer = Tensorion([p], order=3)
    p.grad = random(3, 4, 5, 6, seed=1)
    p.grad[1, 0, 0, 0] = float("inf")
    with pytest.raises(ValueError, match=r"first of them in ensemble member \(1,\), at step 1"):
        optimizer.step()
    p.grad[1] = 0.0
    optimizer.step()
    moved = p.detach() - random(3, 4, 5, 6, seed=0) * (1 - 1e-3 * 0.1)
    assert float(moved[1].abs().max()) <= 1e-15
    assert float(moved[[0, 2]].abs().max()) > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_state_dict_in_mid_run_continues_bit_for_bit(dtype: torch.dtype) -> None:
    uninterrupted, resumed = parameters(dtype), parameters(dtype)
    run(Tensorion(uninterrupted, 0.05), uninterrupted, range(6))
    first = Tensorion(resumed, 0.05)
    run(first, resumed, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Tensorion(resumed, 9.0, unfolding=(0,), order=2)
    second.load_state_dict(torch.load(file))
    run(second, resumed, range(3, 6))
    assert same(resumed, uninterrupted)


def test_a_bad_gradient_of_a_tensor_changes_nothing() -> None:
    params = parameters()
    optimizer = Tensorion(params)
    run(optimizer, params, range(2))
    before = copy.deepcopy((params, optimizer.state_dict()["state"]))
    assert params[3].grad is not None
    params[3].grad[1, 0, 1, 1, 0] = float("nan")
    message = (
        r"the gradient of parameter 3 of group 0, shape \(2, 3, 2, 2, 2\), must be finite, got 1 "
        r"NaN or infinite entries of 48, at step 3; nothing was updated"
    )
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert same(params, before[0])
    for i, state in optimizer.state_dict()["state"].items():
        assert torch.equal(state["momentum_buffer"], before[1][i]["momentum_buffer"])


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3,), {}, r"parameter 0 of group 0 must have shape \(n_1, ..., n_d\), d >= 2, got"),
        ((3, 4), {"order": 3}, r"parameter 0 of group 0 must have shape \(..., n_1, ..., n_3\)"),
        ((3, 4, 5), {"order": 1}, "order must be at least 2, got 1"),
        ((3, 4, 5), {"unfolding": "onlin"}, "unknown unfolding 'onlin'.*did you mean 'online'"),
        ((3, 4, 5), {"unfolding": (0, 3)}, r"modes 0 to 2, each once, are expected; given \(0, 3"),
        ((3, 4, 5), {"unfolding": ()}, "some but not all of the modes"),
        ((3, 4, 5), {"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ((3, 4, 5), {"orthogonalizer": "svdd"}, "unknown orthogonalizer 'svdd'"),
        ((3, 4, 5), {"adjust_lr_fn": "none"}, "unknown adjust_lr_fn 'none'"),
        ((3, 4, 5), {"lr": torch.ones(3)}, r"leading batch dimensions \(\), got shape \(3,\)"),
    ],
)
def test_rejects(shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tensorion([Parameter(torch.zeros(shape))], **options)


def test_parameters_of_a_module_are_told_apart() -> None:
    model = torch.nn.Sequential(
        torch.nn.Embedding(7, 4),
        torch.nn.Conv1d(4, 6, 3),
        torch.nn.BatchNorm1d(6),
        torch.nn.Linear(6, 2),
    )
    tensors, others = tensor_parameters(model)
    assert [tuple(p.shape) for p in tensors] == [(6, 4, 3), (2, 6)]
    assert [tuple(p.shape) for p in others] == [(7, 4), (6,), (6,), (6,), (2,)]
    tensors, _ = tensor_parameters(model, leave=["3.*"])
    assert [tuple(p.shape) for p in tensors] == [(6, 4, 3)]
    with pytest.raises(ValueError, match=r"leave: 'head\.\*' matches no parameter of Sequential"):
        tensor_parameters(model, leave=["head.*"])
