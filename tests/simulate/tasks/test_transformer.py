"""The batched transformer: against one written member by member, causal, and members apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from simulate.tasks import Architecture, CharacterTransformer

SMALL = Architecture(vocabulary=11, length=8, width=16, depth=2, heads=4)
LOW = replace(SMALL, rank=3)
both = pytest.mark.parametrize("architecture", [SMALL, LOW], ids=["dense", "low rank"])
LAYERS = ("query", "key", "value", "output", "up", "down")


def model(architecture: Architecture, *seeds: int, **options: Any) -> CharacterTransformer:
    return CharacterTransformer(architecture, seeds, **{"dtype": torch.float64, **options})


def text(members: int, batch: int = 3, length: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(SMALL.vocabulary, (members, batch, length), generator=generator)


def reference(architecture: Architecture, weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Logits (batch, length, V) of one member, by torch.nn.functional and a written-out softmax."""
    width, heads = architecture.width, architecture.heads
    length = tokens.shape[-1]

    def rms(x: Tensor) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], eps=1e-6)

    def layer(x: Tensor, block: int, name: str) -> Tensor:
        place = f"blocks.{block}.layers.{name}"
        if architecture.rank is None:
            return functional.linear(x, weights[f"{place}.weight"])
        return functional.linear(x, weights[f"{place}.B"] @ weights[f"{place}.A"])

    x = rms(functional.embedding(tokens, weights["embedding"]) + weights["positions"][:length])
    future = torch.ones(length, length).triu(1).bool()
    for block in range(architecture.depth):
        y = rms(x)
        mixed = []
        of_heads = zip(
            *(layer(y, block, name).split(width // heads, -1) for name in LAYERS[:3]), strict=True
        )
        for q, k, v in of_heads:
            if architecture.qk_norm:
                q, k = rms(q), rms(k)
            scores = q @ k.mT / (width // heads) ** 0.5
            mixed.append(functional.softmax(scores.masked_fill(future, -torch.inf), -1) @ v)
        x = x + layer(torch.cat(mixed, -1), block, "output")
        x = x + layer(functional.gelu(layer(rms(x), block, "up")), block, "down")
    return functional.linear(rms(x), weights["embedding"])


@pytest.mark.parametrize("qk_norm", [True, False])
@both
def test_logits_and_gradients_are_those_of_single_members(
    architecture: Architecture, qk_norm: bool
) -> None:
    architecture = replace(architecture, qk_norm=qk_norm)
    ensemble = model(architecture, 5, 6, 7)
    inputs, targets = text(3), text(3, seed=1)
    ensemble.token_losses(inputs, targets).mean((1, 2)).sum().backward()
    logits = ensemble(inputs)
    assert logits.shape == (3, 3, 8, 11)
    for member in range(3):
        weights = {
            name: p.detach()[member].clone().requires_grad_()
            for name, p in ensemble.named_parameters()
        }
        expected = reference(architecture, weights, inputs[member])
        torch.testing.assert_close(logits[member], expected, rtol=1e-12, atol=1e-13)
        functional.cross_entropy(expected.flatten(0, 1), targets[member].flatten()).backward()
        for name, p in ensemble.named_parameters():
            assert p.grad is not None
            theirs = weights[name].grad
            torch.testing.assert_close(p.grad[member], theirs, rtol=1e-10, atol=1e-13)


@both
def test_a_later_token_changes_no_earlier_logit(architecture: Architecture) -> None:
    ensemble, tokens = model(architecture, 0, 1), text(2)
    before = ensemble(tokens)
    for place in range(8):
        changed = tokens.clone()
        changed[..., place] = (changed[..., place] + 1) % architecture.vocabulary
        after = ensemble(changed)
        assert torch.equal(after[..., :place, :], before[..., :place, :])
        assert bool((after[..., place:, :] != before[..., place:, :]).any(-1).all())


@both
def test_a_shorter_window_has_the_same_logits(architecture: Architecture) -> None:
    ensemble, tokens = model(architecture, 0, 1), text(2)
    torch.testing.assert_close(
        ensemble(tokens[..., :5]), ensemble(tokens)[..., :5, :], rtol=1e-12, atol=1e-14
    )


@both
def test_members_and_windows_do_not_see_each_other(architecture: Architecture) -> None:
    ensemble, tokens = model(architecture, 0, 1, 2), text(3)
    before = ensemble(tokens)
    with torch.no_grad():
        for p in ensemble.parameters():
            p[1] = torch.nan
    tokens[0, 1] = 0
    after = ensemble(tokens)
    assert bool(after[1].isnan().all())
    assert torch.equal(after[2], before[2])
    assert torch.equal(after[0, [0, 2]], before[0, [0, 2]])
    assert not torch.equal(after[0, 1], before[0, 1])


@both
def test_a_start_depends_on_its_seed_alone(architecture: Architecture) -> None:
    among, alone = model(architecture, 3, 2**33 + 5, 4), model(architecture, 2**33 + 5)
    truncated = model(architecture, 5)
    for (name, p), q, r in zip(
        among.named_parameters(), alone.parameters(), truncated.parameters(), strict=True
    ):
        assert torch.equal(p[1], q[0]), name
        assert not torch.equal(q, r), name
        assert not torch.equal(p[0], p[2]), name


def test_layers_begin_orthogonal_and_ranks_as_parts_of_the_dense_model() -> None:
    gain = 0.7
    dense = model(replace(SMALL, gain=gain), 0, 1)
    previous: list[tuple[Tensor, Tensor]] = []
    for rank in (1, 2, 5, 16):
        low = model(replace(SMALL, gain=gain, rank=rank), 0, 1)
        products: list[tuple[Tensor, Tensor]] = []
        for (B, A), W in zip(low.roles().pairs, dense.roles().matrices, strict=True):
            balanced = gain * torch.eye(rank, dtype=torch.float64)
            torch.testing.assert_close(B.mT @ B, balanced.expand(2, -1, -1), rtol=0, atol=1e-14)
            torch.testing.assert_close(A @ A.mT, balanced.expand(2, -1, -1), rtol=0, atol=1e-14)
            # A best approximation leaves the other singular values, each the gain.
            remainder = torch.linalg.svdvals((W - B @ A).detach())
            values = torch.tensor([gain] * (16 - rank) + [0.0] * rank, dtype=torch.float64)
            torch.testing.assert_close(remainder, values.expand(2, -1), rtol=0, atol=1e-14)
            products.append((B, A))
        for (left, right), small in zip(products, previous, strict=bool(previous)):
            r = small[0].shape[-1]
            torch.testing.assert_close(left[..., :r], small[0], rtol=0, atol=1e-14)
            torch.testing.assert_close(right[:, :r], small[1], rtol=0, atol=1e-14)
        previous = products
    for name in ("embedding", "positions"):
        assert torch.equal(getattr(low, name), getattr(dense, name))


def test_a_model_of_full_rank_is_the_dense_one() -> None:
    dense, full = model(SMALL, 0, 1), model(replace(SMALL, rank=16), 0, 1)
    torch.testing.assert_close(full(text(2)), dense(text(2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_powers_of_two_rescale_without_a_trace(dtype: torch.dtype) -> None:
    plain = model(LOW, 0, 1, dtype=dtype)
    rescaled = model(replace(LOW, factor_rescaling=8.0), 0, 1, dtype=dtype)
    third = model(replace(LOW, factor_rescaling=3.0), 0, 1, dtype=dtype)
    for (B, A), (cB, A_c) in zip(plain.roles().pairs, rescaled.roles().pairs, strict=True):
        assert torch.equal(cB, 8 * B)
        assert torch.equal(A_c, A / 8)
    assert torch.equal(rescaled(text(2)), plain(text(2)))
    torch.testing.assert_close(third(text(2)), plain(text(2)), rtol=1e-5, atol=1e-5)


@both
def test_roles_part_the_parameters(architecture: Architecture) -> None:
    ensemble = model(architecture, 0, 1)
    pairs, matrices, others = ensemble.roles()
    listed = [*(factor for pair in pairs for factor in pair), *matrices, *others]
    assert len({id(p) for p in listed}) == len(listed) == len(list(ensemble.parameters()))
    assert all(len(p) == 2 for p in listed)
    assert (len(pairs), len(matrices)) == ((0, 12) if architecture.rank is None else (12, 0))


def test_dtype_and_device(device: torch.device) -> None:
    for dtype in (torch.float32, torch.float64):
        ensemble = model(LOW, 0, dtype=dtype, device=device)
        logits = ensemble(text(1).to(device))
        assert (logits.dtype, logits.device.type) == (dtype, device.type)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 0}, "width must be a positive int, got 0"),
        ({"heads": 3}, "heads must divide the width, got heads=3 and width=16"),
        ({"rank": 17}, r"rank: at most min\(m, n\) = width = 16 is expected, got 17"),
        ({"rank": 0}, "rank must be a positive int, got 0"),
        ({"gain": float("nan")}, "gain must be finite and > 0, got nan"),
        ({"factor_rescaling": 2.0}, "factor_rescaling needs low-rank layers, got 2.0"),
    ],
)
def test_bad_sizes_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **wrong)


def test_bad_seeds_dtypes_devices_and_tokens_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="seeds: at least one"):
        model(SMALL)
    with pytest.raises(ValueError, match=r"floating dtype is expected, got torch\.int64"):
        model(SMALL, 0, dtype=torch.int64)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="cuda:0 is asked for, and this machine has no CUDA"):
        model(SMALL, 0, device="cuda:0")
    ensemble = model(SMALL, 0, 1)
    shape = r"tokens: \(E, batch, length\) int64 with E = 2 and length at most 8 are expected, got "
    for tokens in (text(1), text(2, length=9), text(2)[0], text(2).int()):
        with pytest.raises(ValueError, match=shape):
            ensemble(tokens)
    for token in (-1, 11):
        tokens = text(2)
        tokens[1, 0, 0] = token
        with pytest.raises(ValueError, match=r"tokens in 0\.\.10 are expected"):
            ensemble(tokens)
