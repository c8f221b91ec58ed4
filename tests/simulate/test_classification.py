"""The training of image classifiers: as if alone, tuned by the protocol, kept and gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from simulate import classification
from simulate.cells import Contestant
from simulate.classification import ImageStudy, train_classifiers, tune_classifiers
from simulate.optimizers import LowRankMuon, Muon, Tensorion
from simulate.tasks import ConvolutionalClassifier, Perceptron, Textures
from simulate.training_record import Departure
from simulate.tuning import Protocol

EASY = Textures(side=8, orientations=2, periods=(3.0,), clutter=0.0, noise=0.1)
STUDY = ImageStudy(EASY, train=300, validation=100, test=200, widths=(16,), steps=40, batch_size=16)
OPTIONS = {"orthogonalizer": "muon", "weight_decay": 0.0, "adjust_lr_fn": "unadjusted"}
MUON = Contestant("Muon", Muon, OPTIONS)
LOW_RANK = Contestant(
    "low rank", LowRankMuon, OPTIONS | {"rank": 4, "sketch": "gaussian"}, draws=True
)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classification, "train_classifiers", None)
    file = tmp_path / "text"
    file.write_text("no folder", encoding="utf-8")
    with pytest.raises(OSError, match="text' cannot be written: Not a directory"):
        tune_classifiers(STUDY, MUON, Protocol((0.03, 0.1, 0.3)), (1, 2), store=file)


def test_no_seed_counts_twice() -> None:
    with pytest.raises(ValueError, match=r"seeds: different ones are expected, got \(1, 2, 1\)"):
        tune_classifiers(STUDY, MUON, Protocol((0.03, 0.1, 0.3)), (1, 2, 1))


@pytest.mark.parametrize("contestant", [MUON, LOW_RANK])
def test_members_train_as_if_alone(contestant: Contestant) -> None:
    together = train_classifiers(STUDY, contestant, [0.1, 0.1, 0.3], [1, 2, 1])
    assert together.training_loss.shape == (40, 3)
    for member, (rate, seed) in list(enumerate([(0.1, 1), (0.1, 2), (0.3, 1)]))[1:]:
        alone = train_classifiers(STUDY, contestant, [rate], [seed])
        assert torch.allclose(
            together.training_loss[:, member], alone.training_loss[:, 0], rtol=1e-3, atol=1e-3
        )
    # Rates and seeds matter.
    assert float((together.training_loss[-5:, 0] - together.training_loss[-5:, 1]).abs().min()) > 0
    assert float((together.training_loss[-5:, 0] - together.training_loss[-5:, 2]).abs().min()) > 0


def test_what_is_easy_is_learnt() -> None:
    scores = train_classifiers(STUDY, MUON, [0.1, 0.0], [1, 1])
    assert float(scores.test[0]) > 0.9
    assert float(scores.validation[0]) > 0.9
    # With rate 0 the readout alone learns, on random features.
    assert float(scores.test[1]) < float(scores.test[0]) - 0.1


class Failing(Tensorion):
    """Has no polar factor of members with seed 2 in their fourth step."""

    def __init__(self, parameters: Any, lr: Tensor, seed: Tensor) -> None:
        super().__init__(parameters, lr=lr, order=parameters[0].ndim - 1, weight_decay=0.0)
        self.param_groups[0]["seed"] = seed

    def updated(self, W: Tensor, G: Tensor, buffers: Any, options: Any) -> Any:
        self.taken: int = getattr(self, "taken", 0)
        if self.taken == 3 and bool((options["seed"] == 2).any()):
            raise torch.linalg.LinAlgError("linalg.svd: (Batch element 1): it is marked.")  # type: ignore[attr-defined]
        return super().updated(W, G, buffers, options)

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        self.taken += 1


FAILING = Contestant("failing", Failing, draws=True)


@pytest.mark.parametrize("network", [Perceptron, ConvolutionalClassifier])
def test_a_member_whose_factorisation_fails_leaves_and_the_others_go_on(network: Any) -> None:
    widths = (16,) if network is Perceptron else (4,)
    study = replace(STUDY, steps=8, recorded=(0, 2, 8), widths=widths, network=network)
    run = train_classifiers(study, FAILING, [0.1, 0.1, 0.3], [1, 2, 1])
    reason = "a factorisation failed: linalg.svd: it is marked"
    assert run.diverged == {1: Departure(3, reason)}
    finite = run.training_loss.isfinite()
    assert finite.all(0).tolist() == [True, False, True]
    # The loss that it left with is the last.
    assert finite[:, 1].tolist() == [step <= 3 for step in range(8)]
    assert run.validation_loss.isfinite()[:, 1].tolist() == [True, True, False]
    assert bool(run.test[1].isnan())
    assert bool(run.validation[1].isnan())

    others = train_classifiers(study, FAILING, [0.1, 0.3], [1, 1])
    assert others.diverged == {}
    left = [0, 2]
    assert torch.allclose(run.training_loss[:, left], others.training_loss, rtol=1e-4, atol=1e-5)
    assert torch.allclose(run.validation_loss[:, left], others.validation_loss, rtol=1e-4)

    alone = train_classifiers(study, FAILING, [0.1], [2])
    assert alone.diverged == {0: Departure(3, reason)}
    assert alone.training_loss.isfinite()[:, 0].tolist() == [step <= 3 for step in range(8)]


def test_a_member_that_overflows_leaves_too_and_its_rate_is_the_worst(tmp_path: Path) -> None:
    study = replace(STUDY, steps=6)
    # From the second step on the weights are infinite in float32.
    run = train_classifiers(study, MUON, [0.1, 1e39], [1, 1])
    assert [*run.diverged] == [1]
    assert run.diverged[1].reason == "the update overflows"
    protocol = Protocol((0.1, 1e19, 1e39), extensions=0, refinements=0)
    for _ in range(2):
        curve = tune_classifiers(study, MUON, protocol, (1, 2), store=tmp_path)
        assert bool(np.isnan(curve.validation[-1]).all())
        assert bool(np.isfinite(curve.validation[curve.best]).all())


def test_a_rate_is_tuned_on_validation_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(
        study: ImageStudy, contestant: Contestant, rates: list[float], seeds: tuple[int, ...]
    ) -> classification.Scores:
        accuracy = 0.9 - np.log10(np.array(rates) / 0.5) ** 2 / 10
        validation = torch.from_numpy(accuracy)
        return classification.Scores(
            validation,
            validation - 0.05,
            torch.full((study.steps, len(seeds)), rates[0]),
            torch.empty(0, len(seeds)),
        )

    monkeypatch.setattr(classification, "train_classifiers", planted)
    told: list[float] = []
    protocol = Protocol((0.01, 0.03, 0.1))
    curve = tune_classifiers(STUDY, MUON, protocol, (1, 2), progress=told.append)
    # The grid went on to where the best is, and its neighbourhood was halved.
    assert curve.rates[curve.best] == pytest.approx(0.5, rel=0.35)
    assert not curve.at_edge
    assert len(curve.rates) == 3 + 2 + 2
    assert (curve.accuracy == curve.test[curve.best]).all()
    assert curve.accuracy == pytest.approx(curve.validation[curve.best] - 0.05)
    assert curve.training_loss == pytest.approx(curve.rates[curve.best])
    assert told[-1] == 1.0
    assert all(0 < share <= 1 for share in told)


def test_finished_rates_are_kept_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = replace(STUDY, steps=3)
    protocol = Protocol((0.01, 0.1, 1.0), extensions=0, refinements=0)
    first = tune_classifiers(study, MUON, protocol, (1, 2), store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3

    def forbidden(*_: object) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as patched:
        patched.setattr(classification, "train_classifiers", forbidden)
        again = tune_classifiers(study, MUON, protocol, (1, 2), store=str(tmp_path))
        assert (first.test == again.test).all()
        assert (first.training_loss == again.training_loss).all()
        # Another seed, another option or another study is another run.
        for other in ((study, MUON, (1, 3)), (study, LOW_RANK, (1, 2)), (STUDY, MUON, (1, 2))):
            with pytest.raises(AssertionError, match="trained again"):
                tune_classifiers(*other[:2], protocol, other[2], store=tmp_path)


def test_what_cannot_be_trained_is_refused() -> None:
    for recorded in ((0, 50), (5, 5), (5, 0)):
        with pytest.raises(ValueError, match=r"recorded: steps that ascend in 0\.\.40 are exp"):
            replace(STUDY, recorded=recorded)
    with pytest.raises(ValueError, match="steps must be a positive int"):
        replace(STUDY, steps=0)
    with pytest.raises(ValueError, match="the rate of a member must be finite"):
        train_classifiers(STUDY, MUON, [-1.0], [1])
    with pytest.raises(ValueError, match="seeds: at least one"):
        train_classifiers(STUDY, MUON, [], [])
