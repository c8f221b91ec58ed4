"""A run taken up from a checkpoint has the bits of one that was never stopped."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from simulate.checkpoint import CheckpointError
from simulate.schedules import cosine_decay
from simulate.training import EnsembleTraining
from tests.simulate.runs import OPTIMIZERS, RATES, architecture, corpus, training


def make(name: str) -> EnsembleTraining:
    members = [(RATES[name], 0), (RATES[name], 1), (2 * RATES[name], 2)]
    return training(name, members, dtype=torch.float32, schedule=cosine_decay(12))


def lose_a_member(run: EnsembleTraining) -> None:
    with torch.no_grad():
        run.model.embedding[1] = torch.inf


def same(one: EnsembleTraining, other: EnsembleTraining) -> bool:
    a, b = one.record, other.record
    return (
        torch.equal(a.losses.nan_to_num(-1), b.losses.nan_to_num(-1))
        and a.validation.keys() == b.validation.keys()
        and all(
            torch.equal(a.validation[step].nan_to_num(-1), b.validation[step].nan_to_num(-1))
            for step in a.validation
        )
        and a.diverged.keys() == b.diverged.keys()
        and one.active == other.active
        and one.step == other.step
        and all(
            torch.equal(p, q)
            for p, q in zip(one.model.parameters(), other.model.parameters(), strict=True)
        )
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("with_divergence", [False, True])
def test_resumed_equals_straight(name: str, with_divergence: bool, tmp_path: Path) -> None:
    path, moments = tmp_path / "runs" / "checkpoint.pt", [0, 4, 12]
    straight, first = make(name), make(name)
    for run in (straight, first):
        run.run(3)
        if with_divergence:
            lose_a_member(run)
    straight.run(12, validate_at=moments)
    first.run(7, validate_at=moments, checkpoint=path, checkpoint_every=2)
    resumed = make(name)
    resumed.load(path)
    assert resumed.step == 7
    assert resumed.active == ([0, 2] if with_divergence else [0, 1, 2])
    assert resumed.record.seconds == first.record.seconds
    resumed.run(12, validate_at=moments)
    assert same(straight, resumed)
    if with_divergence:
        one, other = straight.record.diverged[1], resumed.record.diverged[1]
        assert (one.step, one.reason) == (other.step, other.reason) == (3, "the loss is nan")
        assert one.parameters.keys() == other.parameters.keys()
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_run_that_lost_everybody_is_read_back(tmp_path: Path) -> None:
    run = training("Muon", [(0.1, 0), (0.1, 1)])
    run.run(1)
    with torch.no_grad():
        run.model.embedding[:] = torch.nan
    run.run(5, checkpoint=tmp_path / "c.pt")
    again = training("Muon", [(0.1, 0), (0.1, 1)])
    again.load(tmp_path / "c.pt")
    assert again.active == []
    assert sorted(again.record.diverged) == [0, 1]
    assert again.run(5).losses.shape == (2, 2)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    training("LoRAMuon", [(0.1, 0)]).save(path)
    other = {
        r"of another run: architecture: rank 3 is expected, got 4$": training(
            "LoRAMuon", [(0.1, 0)], sizes={"rank": 3}
        ),
        r"members \[\[0.1, 1\]\] is expected, got \[\[0.1, 0\]\]": training("LoRAMuon", [(0.1, 1)]),
        r"'Spectron', .* is expected, got \['LoRAMuon'": training("Spectron", [(0.1, 0)]),
        r"dtype 'torch.float32' is expected, got 'torch.float64'": training(
            "LoRAMuon", [(0.1, 0)], dtype=torch.float32
        ),
        r"batch_size 5 is expected, got 4": training("LoRAMuon", [(0.1, 0)], batch_size=5),
    }
    for message, run in other.items():
        before = [p.detach().clone() for p in run.model.parameters()]
        with pytest.raises(CheckpointError, match=message):
            run.load(path)
        assert all(torch.equal(p, q) for p, q in zip(before, run.model.parameters(), strict=True))


def test_a_checkpoint_of_a_run_that_is_validated_otherwise_is_refused(tmp_path: Path) -> None:
    path, text = tmp_path / "checkpoint.pt", corpus()
    training("LoRAMuon", [(0.1, 0)]).save(path)
    others = (
        ("validation text '", replace(text, validation=text.validation[:-1]), 512),
        ("evaluation_tokens 64 is expected, got 512", text, 64),
    )
    for message, other, tokens in others:
        run = EnsembleTraining(
            other,
            architecture("LoRAMuon"),
            [(0.1, 0)],
            OPTIMIZERS["LoRAMuon"],
            batch_size=4,
            evaluation_tokens=tokens,
            dtype=torch.float64,
        )
        named = re.escape(f"checkpoint {path} is of another run: {message}")
        with pytest.raises(CheckpointError, match=f"^{named}[^;]*$"):
            run.load(path)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    path, run = tmp_path / "checkpoint.pt", training("Muon", [(0.1, 0)])
    with pytest.raises(FileNotFoundError, match="there is no file"):
        run.load(path)
    run.save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", b"no checkpoint", whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="is damaged or none of ours"):
            run.load(path)


def test_a_failed_write_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = tmp_path / "checkpoint.pt", training("Muon", [(0.1, 0)])
    run.save(path)
    before = path.read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        run.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_run_that_has_begun_takes_up_no_other(tmp_path: Path) -> None:
    path, run = tmp_path / "checkpoint.pt", training("Muon", [(0.1, 0)])
    run.run(1, checkpoint=path)
    with pytest.raises(ValueError, match="a run that has not begun is expected, got step 1"):
        run.load(path)


def test_a_file_that_cannot_be_written_is_told_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no folder", encoding="utf-8")
    run = training("Muon", [(0.1, 0)])
    for file in (tmp_path, tmp_path / "text" / "c.pt", tmp_path / "text" / "runs" / "c.pt"):
        with pytest.raises(OSError, match=r"cannot be written: (Is|Not) a directory"):
            run.run(2, checkpoint=file)
    assert run.step == 0
    run.run(1, checkpoint=tmp_path / "new" / "c.pt")
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == ["new"]
