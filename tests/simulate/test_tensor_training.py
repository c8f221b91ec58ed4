"""Tensors are trained as if each were alone, and to the target where everything is seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from simulate.cells import Contestant
from simulate.optimizers import MemberAdamW, Tensorion
from simulate.tasks import TensorCompletion, TensorRegression, Tucker
from simulate.tensor_training import train_tensors
from simulate.training_record import Departure

ADAMW = Contestant("AdamW", MemberAdamW, {"weight_decay": 0.0})


def regression(seeds: Any) -> TensorRegression:
    return TensorRegression((3, 4, 5), (2, 2, 2), seeds, samples=120, batch_size=16)


def test_members_train_as_if_alone() -> None:
    options: dict[str, Any] = {"steps": 20, "recorded": (0, 10, 20)}
    together = train_tensors(regression([1, 2]), ADAMW, (0.01, 0.1), **options).held_out
    assert together.shape == (2, 2, 3)
    assert together[..., 0].flatten().tolist() == pytest.approx([1.0] * 4)
    alone = train_tensors(regression([2]), ADAMW, (0.1,), **options).held_out
    assert torch.allclose(together[1, 1], alone[0, 0], rtol=1e-9)
    assert float((together[0] - together[1])[:, 1:].abs().min()) > 1e-3


def test_regression_is_learnt_and_entries_that_are_not_seen_are_left() -> None:
    options: dict[str, Any] = {"steps": 400, "recorded": (400,)}
    seen = train_tensors(regression(range(3)), ADAMW, (0.05,), **options).held_out
    assert float(seen.max()) < 1e-3
    completion = TensorCompletion((3, 4, 5), (2, 2, 2), range(3), share=0.5)
    left = train_tensors(completion, ADAMW, (0.05,), **options).held_out
    assert left.flatten().tolist() == pytest.approx([1.0] * 3)
    # Steps with all singular values alike move what is not seen, and not to where it belongs.
    tensorion = Contestant("Tensorion", Tensorion, {"order": 3, "weight_decay": 0.0})
    wider = TensorCompletion((6, 7, 8), (2, 2, 2), range(3), share=0.3)
    moved = train_tensors(wider, tensorion, (0.003, 0.03, 0.3), steps=40, recorded=(40,))
    assert float(moved.held_out.min()) > 1


def test_a_tucker_model_completes_and_members_are_alone() -> None:
    options: dict[str, Any] = {"steps": 150, "recorded": (0, 150), "model": Tucker((2, 3, 3))}
    shape, ranks = (6, 7, 8), (2, 2, 2)
    together = train_tensors(
        TensorCompletion(shape, ranks, [1, 2], share=0.4), ADAMW, (0.03, 0.1), **options
    ).held_out
    assert float(together[1, :, 1].max()) < 0.1
    completion = TensorCompletion(shape, ranks, [2], share=0.4)
    alone = train_tensors(completion, ADAMW, (0.1,), **options).held_out
    assert together[1, 1].tolist() == pytest.approx(alone[0, 0].tolist(), rel=1e-6)
    with pytest.raises(ValueError, match="ranks: one a mode"):
        Tucker((9, 2, 2)).begun((3, 4, 5), [0])


class Failing(Tensorion):
    """Has no polar factor of the members ``bad`` in their fourth step."""

    def __init__(self, parameters: Any, lr: Tensor, bad: tuple[int, ...]) -> None:
        super().__init__(parameters, lr=lr, order=3, weight_decay=0.0)
        self.param_groups[0]["seed"], self.taken = torch.arange(len(lr)), 0
        self.marked = bad

    def updated(self, W: Tensor, G: Tensor, buffers: Any, options: Any) -> Any:
        if self.taken == 3 and any(int(i) in self.marked for i in options["seed"]):
            raise torch.linalg.LinAlgError("linalg.svd: (Batch element 1): it is marked.")  # type: ignore[attr-defined]
        return super().updated(W, G, buffers, options)

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        self.taken += 1


@pytest.mark.parametrize("bad", [(2,), (2, 3), (0, 1, 2, 3, 4, 5)])
def test_a_tensor_whose_factorisation_fails_leaves_and_the_others_have_their_bits(
    bad: tuple[int, ...],
) -> None:
    task = TensorCompletion((6, 7, 8), (2, 2, 2), (4, 5), share=0.3)
    options: dict[str, Any] = {"steps": 10, "recorded": (0, 3, 4, 10)}
    rates = (0.003, 0.01, 0.03)
    sound = train_tensors(task, Contestant("sound", Failing, {"bad": ()}), rates, **options)
    found = train_tensors(task, Contestant("failing", Failing, {"bad": bad}), rates, **options)
    assert sound.diverged == {}
    why = Departure(3, "a factorisation failed: linalg.svd: it is marked")
    assert found.diverged == {divmod(place, 2): why for place in bad}
    for place in range(6):
        errors = found.held_out[divmod(place, 2)]
        expected = sound.held_out[divmod(place, 2)]
        if place in bad:
            assert torch.equal(errors[:2], expected[:2])
            assert bool(errors[2:].isnan().all())
        else:
            assert torch.equal(errors, expected)


def test_a_run_without_rates_or_with_steps_it_does_not_take_is_refused() -> None:
    task = TensorCompletion((3, 3, 3), (1, 1, 1), [0], share=0.5)
    for recorded in ((0, 50), (-1, 5)):
        with pytest.raises(ValueError, match=r"recorded: steps in 0\.\.5 are expected, got"):
            train_tensors(task, ADAMW, (0.1,), steps=5, recorded=recorded)
    with pytest.raises(ValueError, match="rates: at least one is expected"):
        train_tensors(task, ADAMW, (), steps=5, recorded=(0,))


def test_a_run_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must be a positive int"):
        train_tensors(regression([1]), ADAMW, (0.1,), steps=0, recorded=())
