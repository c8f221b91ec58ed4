"""The pairs of models that PEFT itself has made, where it is installed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simulate.optimizers import LoRAMuon, RiemannLoRA, lora_pairs

LINEAR = ["first", "second"]


@pytest.fixture(scope="module")
def peft() -> Any:
    """Imported where it is wanted: that takes seconds."""
    return pytest.importorskip("peft")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.first, self.second = nn.Linear(8, 12), nn.Linear(12, 6)
        # Kernels of one pixel, and as many channels as the rank.
        self.flat, self.square = nn.Conv2d(2, 2, 1), nn.Conv2d(1, 4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.second(torch.tanh(self.first(self.embedding(tokens))))
        return hidden


def adapted(peft: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    config = {"r": 2, "target_modules": LINEAR, **options}
    return peft.get_peft_model(Net(), peft.LoraConfig(**config))


def train(model: Any, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        tokens = (torch.arange(5) * (step + 3)) % 10
        optimizer.zero_grad()
        model(tokens).square().mean().backward()
        optimizer.step()


def values(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_the_pairs_are_those_of_the_layers(peft: Any) -> None:
    model = adapted(peft)
    pairs = lora_pairs(model)
    assert [(B.shape, A.shape) for B, A in pairs] == [((12, 2), (2, 8)), ((6, 2), (2, 12))]
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for pair in pairs for p in pair} == trained
    # PEFT's change of a layer is scale B A.
    for layer, (B, A) in zip(
        (model.base_model.model.first, model.base_model.model.second), pairs, strict=True
    ):
        with torch.no_grad():
            B.normal_()
            expected = layer.scaling["default"] * B @ A
        torch.testing.assert_close(layer.get_delta_weight("default"), expected)


def test_a_step_changes_the_adapter_alone(peft: Any) -> None:
    model = adapted(peft)
    before = values(model)
    train(model, LoRAMuon(lora_pairs(model), lr=0.1), range(2))
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n in before if ".lora_" in n}


def test_ranks_differ_by_pattern(peft: Any) -> None:
    model = adapted(peft, rank_pattern={"second": 5})
    pairs = lora_pairs(model)
    assert [B.shape[1] for B, _ in pairs] == [2, 5]
    before = values(model)
    train(model, LoRAMuon(pairs, lr=0.1), range(2))
    assert all(not torch.equal(p, before[n]) for n, p in model.named_parameters() if "lora_" in n)


def test_one_adapter_among_several(peft: Any) -> None:
    model = adapted(peft)
    model.add_adapter("other", peft.LoraConfig(r=3, target_modules=["second"]))
    with pytest.raises(ValueError, match=r"one of \['default', 'other'\] is expected"):
        lora_pairs(model)
    pairs = lora_pairs(model, "other")
    assert [(B.shape, A.shape) for B, A in pairs] == [((6, 3), (3, 12))]
    model.set_adapter("other")
    before = values(model)
    train(model, LoRAMuon(pairs, lr=0.1), range(2))
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n in before if ".other." in n}


def test_a_run_goes_on_from_peft_s_own_state(peft: Any) -> None:
    whole = adapted(peft)
    train(whole, LoRAMuon(lora_pairs(whole), lr=0.1), range(6))

    model = adapted(peft)
    optimizer = LoRAMuon(lora_pairs(model), lr=0.1)
    train(model, optimizer, range(3))
    adapter = copy.deepcopy(peft.get_peft_model_state_dict(model))
    state = copy.deepcopy(optimizer.state_dict())

    again = adapted(peft)
    peft.set_peft_model_state_dict(again, adapter)
    resumed = LoRAMuon(lora_pairs(again), lr=0.1)
    resumed.load_state_dict(state)
    train(again, resumed, range(3, 6))
    expected = values(whole)
    assert all(torch.equal(p, expected[name]) for name, p in again.named_parameters())


def test_starts_by_peft_lie_on_the_manifold(peft: Any) -> None:
    model = adapted(peft, init_lora_weights="orthogonal")
    before = values(model)
    train(model, RiemannLoRA(lora_pairs(model), lr=0.01, scale=4.0), range(2))
    assert all(not torch.equal(p, before[n]) for n, p in model.named_parameters() if "lora_" in n)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_dora": True}, "first: matrices B .* given DoRA, whose W is scaled row by row"),
        ({"target_modules": ["first", "embedding"]}, "embedding: .* given LoRA of an embedding"),
        ({"target_modules": ["embedding"]}, "embedding: .* given LoRA of an embedding"),
        ({"target_modules": ["first", "square"]}, r"square: .* given lora_B \(4, 2, 1, 1\) and"),
        ({"target_modules": ["flat"]}, r"flat: .* given lora_B \(2, 2, 1, 1\).* convolutions"),
    ],
)
def test_what_has_no_pairs_is_named(peft: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}.*Leave the module out, or to an adapter"):
        lora_pairs(adapted(peft, **options))


def test_another_adapter_may_have_what_has_no_pairs(peft: Any) -> None:
    model = adapted(peft)
    model.add_adapter("other", peft.LoraConfig(r=3, target_modules=["embedding"]))
    assert len(lora_pairs(model, "default")) == 2
    with pytest.raises(ValueError, match="adapter 'other'; given LoRA of an embedding"):
        lora_pairs(model, "other")


def test_what_is_trained_beside_is_left(peft: Any) -> None:
    model = adapted(peft, target_modules=["first"], lora_bias=True, modules_to_save=["second"])
    pairs = {id(p) for pair in lora_pairs(model) for p in pair}
    beside = {n for n, p in model.named_parameters() if p.requires_grad and id(p) not in pairs}
    assert len(beside) == 3
    assert sum("lora_B.default.bias" in name for name in beside) == 1
    assert sum("modules_to_save" in name for name in beside) == 2
