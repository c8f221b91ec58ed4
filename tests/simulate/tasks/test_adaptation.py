"""LoRA on pretrained models: starts, what is frozen, members apart, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from simulate.tasks import Architecture, CharacterTransformer, LowRankAdaptation, Pretrained

SMALL = Architecture(vocabulary=11, length=8, width=16, depth=2, heads=4)
SEEDS = (3, 7, 2**40)


def dense(*seeds: int, dtype: torch.dtype = torch.float64) -> CharacterTransformer:
    return CharacterTransformer(SMALL, seeds, dtype=dtype)


def adaptation(**options: Any) -> LowRankAdaptation:
    return LowRankAdaptation(Pretrained(dense(*SEEDS), SEEDS), **{"rank": 4, **options})


def model(adapted: LowRankAdaptation, *seeds: int) -> CharacterTransformer:
    return adapted.model(seeds, dtype=torch.float64)


def layers(transformer: CharacterTransformer, *names: str) -> list[Any]:
    """The layers of these names, block after block."""
    return [
        transformer.get_submodule(f"blocks.{block}.layers.{name}")
        for block in range(SMALL.depth)
        for name in names
    ]


def text(members: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(SMALL.vocabulary, (members, 3, 8), generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_member_begins_as_the_pretrained_model_of_its_seed(dtype: torch.dtype) -> None:
    pretrained = Pretrained(dense(*SEEDS, dtype=dtype), SEEDS)
    everywhere = LowRankAdaptation(pretrained, 4, tuple(SMALL.layers), scale=2.0)
    tokens = text(3)
    adapted = everywhere.model((7, 3, 7), dtype=dtype)
    expected = dense(7, 3, 7, dtype=dtype)(tokens)
    assert torch.equal(adapted(tokens), expected)


@pytest.mark.parametrize("scale", [1.0, 8**-0.5])
def test_from_other_starts_frozen_weights_give_way(scale: float) -> None:
    names = ("value", "up")
    zero = model(adaptation(layers=names, scale=scale), *SEEDS)
    generator = torch.Generator().manual_seed(0)
    starts = tuple(
        tuple(torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in pair)
        for pair in zero.roles().pairs
    )
    options: dict[str, Any] = {"layers": names, "scale": scale}
    adapted = adaptation(**options, starts=starts)
    begun, tokens = model(adapted, 7, 3), text(2)
    torch.testing.assert_close(begun(tokens), dense(7, 3)(tokens), rtol=1e-11, atol=1e-12)
    for (B, A), start in zip(begun.roles().pairs, starts, strict=True):
        assert torch.equal(B, start[0][[1, 0]])
        assert torch.equal(A, start[1][[1, 0]])
    # The control: W frozen as it was.
    for layer, of_zero in zip(layers(begun, *names), layers(zero, *names), strict=True):
        layer.weight.data = of_zero.weight.data[[1, 0]]
    assert float((begun(tokens) - dense(7, 3)(tokens)).abs().max().detach()) > 1e-2
    described = [x.described() for x in (adapted, adaptation(**options))]
    assert described[0]["starts"] != described[1]["starts"]
    with pytest.raises(ValueError, match=r"starts: shapes .* are expected, got"):
        adaptation(**options, starts=starts[:3])


def test_one_pretrained_model_serves_every_seed() -> None:
    adapted = LowRankAdaptation(Pretrained(dense(5), (5,)), 4).model((0, 1), dtype=torch.float64)
    assert torch.equal(adapted(text(2)), dense(5, 5)(text(2)))
    for B, A in adapted.roles().pairs:
        assert not bool(B.any())
        assert not torch.equal(A[0], A[1])


def test_logits_and_gradients_are_those_of_the_sum() -> None:
    scale, names = 1.5, ("value", "down")
    adapted, merged = model(adaptation(layers=names, scale=scale), 3, 7), dense(3, 7)
    both = list(zip(layers(adapted, *names), layers(merged, *names), strict=True))
    generator = torch.Generator().manual_seed(0)
    for layer, total in both:
        with torch.no_grad():
            layer.B += torch.randn(layer.B.shape, generator=generator, dtype=torch.float64)
            total.weight += scale * layer.B @ layer.A
    inputs, targets = text(2), text(2, seed=1)
    for transformer in (adapted, merged):
        transformer.token_losses(inputs, targets).mean((1, 2)).sum().backward()
    torch.testing.assert_close(adapted(inputs), merged(inputs), rtol=1e-12, atol=1e-13)
    for layer, total in both:
        B, A, G = layer.B, layer.A, total.weight.grad
        torch.testing.assert_close(B.grad, scale * G @ A.mT, rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(A.grad, scale * B.mT @ G, rtol=1e-9, atol=1e-13)


def test_only_adapters_have_a_role_and_a_gradient() -> None:
    adapted = model(adaptation(layers=("key", "up", "down")), 3, 7)
    pairs, matrices, others = adapted.roles()
    assert [tuple(B.shape) + tuple(A.shape) for B, A in pairs] == 2 * [
        (2, 16, 4, 2, 4, 16),
        (2, 64, 4, 2, 4, 16),
        (2, 16, 4, 2, 4, 64),
    ]
    assert matrices == others == []
    adapted.token_losses(text(2), text(2, seed=1)).sum().backward()
    trained = {id(factor) for pair in pairs for factor in pair}
    for name, p in adapted.named_parameters():
        assert (p.grad is not None) == p.requires_grad == (id(p) in trained), name


def test_an_adapter_depends_on_its_seed_alone() -> None:
    among, alone = model(adaptation(), 7, 3, 2**40), model(adaptation(), 3)
    for (name, p), q in zip(among.named_parameters(), alone.parameters(), strict=True):
        assert torch.equal(p[1], q[0]), name
    everywhere = model(adaptation(layers=tuple(SMALL.layers)), 3)
    of_rank_two = model(adaptation(rank=2), 3)
    for of_three in zip(
        *(layers(each, "query", "value") for each in (alone, everywhere, of_rank_two)), strict=True
    ):
        A, same, smaller = (layer.A for layer in of_three)
        assert torch.equal(A, same)
        assert torch.equal(A[:, :2], smaller)
    drawn = torch.cat([A.flatten() for _, A in everywhere.roles().pairs if A.shape[2] == 16])
    # 640 entries of deviation 1/4: their own deviation is off by 3% at one standard error.
    assert float(drawn.detach().std()) == pytest.approx(0.25, rel=0.12)


def test_training_the_model_further_leaves_the_pretrained_one_alone() -> None:
    source = dense(*SEEDS)
    pretrained = Pretrained(source, SEEDS)
    digest = pretrained.digest()
    with torch.no_grad():
        for p in source.parameters():
            p.zero_()
    assert pretrained.digest() == digest
    adapted = LowRankAdaptation(pretrained, 4).model(SEEDS, dtype=torch.float64)
    with torch.no_grad():
        for p in adapted.parameters():
            p.zero_()
    assert pretrained.digest() == digest
    assert Pretrained(dense(3, 7, 8), (3, 7, 8)).digest() != digest


def test_dtype_and_device(device: torch.device) -> None:
    for dtype in (torch.float32, torch.float64):
        adapted = adaptation().model(SEEDS, dtype=dtype, device=device)
        logits = adapted(text(3).to(device))
        assert (logits.dtype, logits.device.type) == (dtype, device.type)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rank": 17}, r"rank: at most min\(m, n\) = 16 of the layer 'query' is expected, got 17"),
        ({"rank": 0}, "rank must be a positive int, got 0"),
        ({"layers": ("query", "valeu")}, "unknown layer 'valeu'; .* did you mean 'value'"),
        ({"layers": ()}, r"layers: different names, at least one, are expected, got \(\)"),
        ({"layers": ("up", "up")}, "layers: different names, at least one, are expected"),
        ({"scale": 0.0}, r"scale must be finite and > 0, got 0\.0"),
    ],
)
def test_bad_adapters_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adaptation(**wrong)


def test_bad_models_seeds_and_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    low_rank = CharacterTransformer(replace(SMALL, rank=4), SEEDS)
    for transformer in (low_rank, adaptation().model(SEEDS)):
        with pytest.raises(ValueError, match="a model of dense layers alone is expected, got"):
            Pretrained(transformer, SEEDS)
    for seeds in ((3, 7), (3, 7, 7)):
        with pytest.raises(ValueError, match="a different one for each of the 3 pretrained"):
            Pretrained(dense(*SEEDS), seeds)
    with pytest.raises(ValueError, match=r"seeds of pretrained .* are expected, got \[4\]"):
        adaptation().model((3, 4))
    with pytest.raises(ValueError, match="seeds: at least one"):
        adaptation().model(())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="cuda is asked for, and this machine has no CUDA"):
        adaptation().model((3,), device="cuda")
