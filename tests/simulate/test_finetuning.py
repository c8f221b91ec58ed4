"""Fine-tuning of adapters: frozen weights stay, members are apart, runs resume."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest
import torch

from simulate.checkpoint import CheckpointError, write_checkpoint
from simulate.pretrained import pretrained, read_pretrained
from simulate.schedules import linear_decay
from simulate.tasks import Corpus, LowRankAdaptation, Pretrained, synthetic_corpus
from simulate.tasks.synthetic_language import BracketLanguage
from simulate.training import EnsembleTraining
from tests.simulate.runs import LANGUAGE, PAIRS, RATES, architecture, training

SEEDS = (0, 1, 2)
each_optimizer = pytest.mark.parametrize("name", PAIRS)


@pytest.fixture(scope="module")
def dense_run() -> EnsembleTraining:
    run = training("Muon", [(0.05, seed) for seed in SEEDS])
    run.run(60)
    return run


@pytest.fixture(scope="module")
def models(dense_run: EnsembleTraining) -> Pretrained:
    return pretrained(dense_run)


@pytest.fixture(scope="module")
def second() -> Corpus:
    language = BracketLanguage(**{**vars(LANGUAGE), "seed": 1}).automaton()
    return synthetic_corpus(language, seed=0, train=20_000, validation=2_000)


def finetuning(
    name: str,
    corpus: Corpus,
    models: Pretrained,
    members: list[tuple[float, int]],
    rank: int = 4,
    dtype: torch.dtype = torch.float64,
) -> EnsembleTraining:
    return EnsembleTraining(
        corpus,
        LowRankAdaptation(models, rank),
        members,
        PAIRS[name],
        batch_size=4,
        schedule=linear_decay(40, warmup=4),
        evaluation_tokens=512,
        dtype=dtype,
    )


@each_optimizer
def test_adapters_learn_and_the_rest_stays_to_the_last_bit(
    name: str, second: Corpus, models: Pretrained
) -> None:
    run = finetuning(name, second, models, [(RATES[name], seed) for seed in SEEDS])
    before = {key: p.detach().clone() for key, p in run.model.named_parameters()}
    record = run.run(40, validate_at=[0, 40])
    assert record.diverged == {}
    assert bool((record.validation[40] < record.validation[0] - 0.05).all())
    for key, p in run.model.named_parameters():
        trained = key.endswith((".A", ".B"))
        assert torch.equal(p, before[key]) != trained, key
        if not trained:
            assert torch.equal(p, models.model.state_dict()[key]), key


# As in test_training: on the CPU that this was written on, the bits are the same.
APART = 1e-11


@each_optimizer
def test_a_member_is_trained_as_if_alone(name: str, second: Corpus, models: Pretrained) -> None:
    members = [(RATES[name], 2), (0.3 * RATES[name], 0), (2 * RATES[name], 2)]
    ensemble = finetuning(name, second, models, members)
    ensemble.run(20, validate_at=[20])
    for place, member in enumerate(members):
        alone = finetuning(name, second, models, [member])
        alone.run(20, validate_at=[20])
        torch.testing.assert_close(
            ensemble.record.losses[:, place], alone.record.losses[:, 0], rtol=0, atol=APART
        )
        for p, q in zip(ensemble.model.parameters(), alone.model.parameters(), strict=True):
            torch.testing.assert_close(p[place], q[0], rtol=0, atol=APART)
    assert float(ensemble.record.losses[-1].diff().abs().min()) > 1e-4


@pytest.mark.parametrize("name", ["FactorMuon", "AdamW on factors"])
def test_a_member_that_leaves_takes_its_frozen_weights_along(
    name: str, second: Corpus, models: Pretrained
) -> None:
    members = [(RATES[name], 0), (RATES[name], 1), (RATES[name], 2)]
    run = finetuning(name, second, models, members)
    others = finetuning(name, second, models, [members[0], members[2]])
    run.run(3)
    with torch.no_grad():
        run.model.embedding[1] = torch.nan
    record = run.run(10)
    others.run(10)
    assert list(record.diverged) == [1]
    assert set(record.diverged[1].parameters) == {key for key, _ in run.model.named_parameters()}
    for p, q in zip(run.model.parameters(), others.model.parameters(), strict=True):
        assert len(p) == 2
        torch.testing.assert_close(p, q, rtol=0, atol=APART)


@pytest.mark.parametrize("name", ["LoRAMuon", "AdamW on factors"])
def test_resumed_equals_straight(
    name: str, second: Corpus, models: Pretrained, tmp_path: Path
) -> None:
    path, members = tmp_path / "run.pt", [(RATES[name], 0), (RATES[name], 1)]
    straight, first, resumed = (
        finetuning(name, second, models, members, dtype=torch.float32) for _ in range(3)
    )
    straight.run(12)
    first.run(7, checkpoint=path)
    resumed.load(path)
    resumed.run(12)
    assert torch.equal(straight.record.losses, resumed.record.losses)
    for p, q in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(p, q)
    with pytest.raises(CheckpointError, match="adaptation: rank 3 is expected, got 4"):
        finetuning(name, second, models, members, 3, torch.float32).load(path)
    other = Pretrained(models.model, (0, 1, 5))
    with pytest.raises(CheckpointError, match="adaptation: pretrained '"):
        finetuning(name, second, other, members, dtype=torch.float32).load(path)


def test_models_read_from_a_checkpoint_are_those_of_the_run(
    dense_run: EnsembleTraining, models: Pretrained, tmp_path: Path
) -> None:
    dense_run.save(tmp_path / "dense.pt")
    sizes = architecture("Muon")
    for found in (
        read_pretrained(tmp_path / "dense.pt"),
        read_pretrained(str(tmp_path / "dense.pt"), sizes),
    ):
        assert (found.seeds, found.architecture) == (SEEDS, sizes)
        assert found.digest() == models.digest()


def test_members_that_diverged_are_no_pretrained_models(tmp_path: Path) -> None:
    run = training("Muon", [(0.05, 3), (0.05, 4), (0.05, 5)])
    run.run(1)
    with torch.no_grad():
        run.model.embedding[1] = torch.nan
    run.run(2, checkpoint=tmp_path / "c.pt")
    for found in (pretrained(run), read_pretrained(tmp_path / "c.pt")):
        assert found.seeds == (3, 5)
        assert torch.equal(found.model.embedding, run.model.embedding)
    with torch.no_grad():
        run.model.embedding[:] = torch.nan
    run.run(3, checkpoint=tmp_path / "c.pt")
    with pytest.raises(ValueError, match="members left is expected, all of them diverged"):
        pretrained(run)
    with pytest.raises(ValueError, match="members are expected, all of them diverged"):
        read_pretrained(tmp_path / "c.pt")


def test_bad_checkpoints_are_named(second: Corpus, models: Pretrained, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_pretrained(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="is damaged or none of ours"):
        read_pretrained(path)
    training("Muon", [(0.05, 0), (0.1, 0)]).save(path)
    with pytest.raises(CheckpointError, match="another shape: width 32 is expected, got 16; heads"):
        read_pretrained(path, architecture("Muon", width=32, heads=4))
    named = rf"checkpoint {re.escape(str(path))}: "
    with pytest.raises(ValueError, match=rf"{named}.*a different one for .* got \(0, 0\)"):
        read_pretrained(path)
    training("LoRAMuon", [(0.05, 0)]).save(path)
    with pytest.raises(ValueError, match=rf"{named}.*dense layers alone is expected, .*rank=4"):
        read_pretrained(path)
    write_checkpoint(path, {"contestant": "Muon", "architecture": {}}, {"losses": []})
    with pytest.raises(CheckpointError, match=rf"{named}one that EnsembleTraining wrote is expec"):
        read_pretrained(path)
    finetuning("LoRAMuon", second, models, [(0.05, 0)]).save(path)
    with pytest.raises(ValueError, match="dense models are expected, got adapters"):
        read_pretrained(path)


def test_a_corpus_with_other_characters_is_refused(models: Pretrained) -> None:
    other = synthetic_corpus(BracketLanguage().automaton(), train=1_000, validation=200)
    characters = len(other.vocabulary)
    with pytest.raises(ValueError, match=f"{characters} characters, is expected, got"):
        finetuning("LoRAMuon", other, models, [(0.05, 0)])


def test_the_optimiser_sees_the_pairs_alone(second: Corpus, models: Pretrained) -> None:
    run = finetuning("FactorMuon", second, models, [(0.05, 0)])
    (optimizer,) = run._optimizers
    seen = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert seen == [id(p) for p in chain(*run.model.roles().pairs)]
