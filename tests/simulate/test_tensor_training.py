"""Tensors are trained as if each were alone, and to the target where everything is seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from simulate.cells import Contestant
from simulate.optimizers import MemberAdamW, Tensorion
from simulate.tasks import TensorCompletion, TensorRegression, Tucker
from simulate.tensor_training import train_tensors

ADAMW = Contestant("AdamW", MemberAdamW, {"weight_decay": 0.0})


def regression(seeds: Any) -> TensorRegression:
    return TensorRegression((3, 4, 5), (2, 2, 2), seeds, samples=120, batch_size=16)


def test_members_train_as_if_alone() -> None:
    options: dict[str, Any] = {"steps": 20, "recorded": (0, 10, 20)}
    together = train_tensors(regression([1, 2]), ADAMW, (0.01, 0.1), **options)
    assert together.shape == (2, 2, 3)
    assert together[..., 0].flatten().tolist() == pytest.approx([1.0] * 4)
    alone = train_tensors(regression([2]), ADAMW, (0.1,), **options)
    assert torch.allclose(together[1, 1], alone[0, 0], rtol=1e-9)
    assert float((together[0] - together[1])[:, 1:].abs().min()) > 1e-3


def test_regression_is_learnt_and_entries_that_are_not_seen_are_left() -> None:
    options: dict[str, Any] = {"steps": 400, "recorded": (400,)}
    assert float(train_tensors(regression(range(3)), ADAMW, (0.05,), **options).max()) < 1e-3
    completion = TensorCompletion((3, 4, 5), (2, 2, 2), range(3), share=0.5)
    left = train_tensors(completion, ADAMW, (0.05,), **options)
    assert left.flatten().tolist() == pytest.approx([1.0] * 3)
    # Steps with all singular values alike move what is not seen, and not to where it belongs.
    tensorion = Contestant("Tensorion", Tensorion, {"order": 3, "weight_decay": 0.0})
    wider = TensorCompletion((6, 7, 8), (2, 2, 2), range(3), share=0.3)
    moved = train_tensors(wider, tensorion, (0.003, 0.03, 0.3), steps=40, recorded=(40,))
    assert float(moved.min()) > 1


def test_a_tucker_model_completes_and_members_are_alone() -> None:
    options: dict[str, Any] = {"steps": 150, "recorded": (0, 150), "model": Tucker((2, 3, 3))}
    shape, ranks = (6, 7, 8), (2, 2, 2)
    together = train_tensors(
        TensorCompletion(shape, ranks, [1, 2], share=0.4), ADAMW, (0.03, 0.1), **options
    )
    assert float(together[1, :, 1].max()) < 0.1
    alone = train_tensors(TensorCompletion(shape, ranks, [2], share=0.4), ADAMW, (0.1,), **options)
    assert together[1, 1].tolist() == pytest.approx(alone[0, 0].tolist(), rel=1e-6)
    with pytest.raises(ValueError, match="ranks: one a mode"):
        Tucker((9, 2, 2)).begun((3, 4, 5), [0])


def test_a_run_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must be a positive int"):
        train_tensors(regression([1]), ADAMW, (0.1,), steps=0, recorded=())
