"""A sweep tunes every line alike, over processes or here, and goes on where it was stopped."""

from __future__ import annotations

import importlib
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from simulate.cells import (
    Cell,
    Contestant,
    cell_made_by,
    run_cell,
)
from simulate.optimizers import LoRAMuon, LowRankMuon
from simulate.processes import local_processes
from simulate.sweep import Curve, SweepProgress, lines, sweep
from simulate.tasks.transformer import CharacterTransformer
from simulate.tuning import Protocol
from tests.simulate.runs import architecture, training
from tests.simulate.sweeps import LORA, PROTOCOL, SEEDS, SPECTRON, counted, four_lines, recipe


def same(one: list[Curve], other: list[Curve]) -> bool:
    return all(
        np.array_equal(a.rates, b.rates)
        and np.array_equal(a.losses, b.losses, equal_nan=True)
        and np.array_equal(a.diverged_at, b.diverged_at)
        for a, b in zip(one, other, strict=True)
    )


def test_an_optimiser_that_draws_does_so_by_the_seed_of_its_member() -> None:
    options = {"rank": 2, "adjust_lr_fn": "original"}
    contestant = Contestant("low-rank Muon", LowRankMuon, options, draws=True)
    (line,) = lines([contestant], architecture("Muon"), 4)
    together = run_cell(Cell(line, (0.05,), (3, 4, 5)), recipe()).losses
    alone = run_cell(Cell(line, (0.05,), (4,)), recipe()).losses
    assert float(together[0, 1]) == pytest.approx(float(alone[0, 0]), rel=1e-9)
    # With the seed of another the losses differ: what is drawn matters.
    fixed = replace(contestant, options={**options, "seed": 3}, draws=False)
    (line,) = lines([fixed], architecture("Muon"), 4)
    shared = run_cell(Cell(line, (0.05,), (3, 4, 5)), recipe()).losses
    assert float(shared[0, 0]) == pytest.approx(float(together[0, 0]), rel=1e-9)
    assert abs(float(shared[0, 1] - together[0, 1])) > 1e-6


def test_lines_are_every_contestant_on_every_architecture() -> None:
    made = four_lines()
    assert [(line.contestant.name, line.architecture.rank) for line in made] == [
        ("LoRA-Muon", 2),
        ("LoRA-Muon", 4),
        ("Spectron", 2),
        ("Spectron", 4),
    ]
    grid = lines([LORA], architecture("LoRAMuon"), 3, width=[8, 16], depth=[1, 2, 3])
    assert [(x.architecture.width, x.architecture.depth) for x in grid] == [
        (width, depth) for width in (8, 16) for depth in (1, 2, 3)
    ]
    with pytest.raises(ValueError, match=r"unknown axis 'ranks'; .*did you mean 'rank'\?"):
        lines([LORA], architecture("LoRAMuon"), 3, ranks=[1])
    for values in (4, "4"):
        with pytest.raises(ValueError, match="rank: a sequence of values is expected, got"):
            lines([LORA], architecture("LoRAMuon"), 3, rank=values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps"):
        lines([LORA], architecture("LoRAMuon"), 0)


def test_the_losses_are_those_of_each_run() -> None:
    curve = sweep(four_lines()[1:2], recipe(), replace(PROTOCOL, extensions=0), np.array(SEEDS))[0]
    assert curve.losses.shape == (len(curve.rates), 2)
    run = training("LoRAMuon", [(curve.rates[2], 1)], schedule=lambda step: (1, 2 / 3, 1 / 3)[step])
    expected = float(run.run(3, validate_at=[3]).validation[3])
    assert curve.losses[2, 1] == pytest.approx(expected, abs=1e-11)
    assert (curve.diverged_at == -1).all()
    assert curve.seconds > 0
    assert np.array_equal(curve.least, curve.losses[curve.losses.mean(1).argmin()])


def test_processes_threads_and_none_agree(tmp_path: Path) -> None:
    here = sweep(four_lines(), recipe(), PROTOCOL, SEEDS)
    with ThreadPoolExecutor(2) as threads:
        assert same(here, sweep(four_lines(), recipe(), PROTOCOL, SEEDS, executor=threads))
    with local_processes(2) as processes:
        assert same(here, sweep(four_lines(), recipe(), PROTOCOL, SEEDS, executor=processes))


def test_how_many_train_at_once_is_rounding() -> None:
    cell = Cell(four_lines(4)[1], (0.01, 0.1, 1e300), (0, 1, 2))
    results = [run_cell(cell, recipe(members_at_once=count)) for count in (1, 2, 4, None)]
    for result in results:
        assert (result.diverged_at[:2] == -1).all()
        assert (result.diverged_at[2] >= 0).all()
        assert torch.equal(result.diverged_at, results[0].diverged_at)
        assert torch.allclose(result.losses, results[0].losses, rtol=0, atol=1e-11, equal_nan=True)
    # It is no part of a cell's name.
    names = [cell_made_by(cell, recipe(members_at_once=count)) for count in (2, None)]
    assert names[0] == names[1]


def test_a_sweep_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sweep(four_lines(), recipe(), PROTOCOL, SEEDS)
    seen: list[int] = []

    def stop(progress: SweepProgress) -> None:
        seen.append(progress.cells)
        if progress.cells == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(four_lines(), recipe(), PROTOCOL, SEEDS, store=tmp_path, progress=stop)
    assert len(list(tmp_path.glob("*.cell"))) == 3
    ran = counted(monkeypatch)
    assert same(whole, sweep(four_lines(), recipe(), PROTOCOL, SEEDS, store=tmp_path))
    total = len(list(tmp_path.glob("*.cell")))
    assert len(ran) == total - 3
    ran.clear()
    assert same(whole, sweep(four_lines(), recipe(), PROTOCOL, SEEDS, store=tmp_path))
    assert ran == []


def test_what_a_cell_hangs_on_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, shared = Cell(four_lines()[0], (0.1,), SEEDS), recipe()
    made_by = cell_made_by(cell, shared)
    changed = [
        cell_made_by(replace(cell, rates=(0.2,)), shared),
        cell_made_by(replace(cell, seeds=(0, 2)), shared),
        cell_made_by(replace(cell, line=replace(cell.line, steps=4)), shared),
        cell_made_by(replace(cell, line=replace(cell.line, contestant=SPECTRON)), shared),
        cell_made_by(cell, recipe(dtype=torch.float32)),
        cell_made_by(cell, recipe(warmup=0.5)),
        cell_made_by(cell, recipe(batch_size=5)),
    ]
    decayed = Contestant("LoRA-Muon", LoRAMuon, {"weight_decay": 0.1})
    changed.append(cell_made_by(replace(cell, line=replace(cell.line, contestant=decayed)), shared))
    drawing = replace(SPECTRON, draws=True)
    line = replace(cell.line, contestant=SPECTRON), replace(cell.line, contestant=drawing)
    assert len({str(cell_made_by(replace(cell, line=each), shared)) for each in line}) == 2
    monkeypatch.setattr("simulate.cells.fingerprint", lambda: "other code")
    changed.append(cell_made_by(cell, shared))
    assert all(other != made_by for other in changed)


def test_an_optimiser_of_ones_own_is_known_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "an_optimizer_of_ones_own.py"
    names = []
    for factor in (1, 100):
        file.write_text(
            "from simulate.optimizers import LoRAMuon\n"
            f"def scaled(pairs, lr): return LoRAMuon(pairs, lr={factor} * lr)\n",
            encoding="utf-8",
        )
        sys.modules.pop(file.stem, None)
        own = Contestant("mine", importlib.import_module(file.stem).scaled)
        names.append(
            cell_made_by(Cell(replace(four_lines()[0], contestant=own), (0.1,), SEEDS), recipe())
        )
    assert names[0] != names[1]


def test_runs_that_diverge_are_told_and_the_grid_goes_below() -> None:
    wild = Protocol((1e200, 1e250, 1e300), extensions=1)
    curve = sweep([four_lines(4)[2]], recipe(), wild, SEEDS)[0]
    assert curve.at_edge
    assert np.isnan(curve.losses[-1]).all()
    assert (curve.diverged_at[-1] >= 0).all()
    assert curve.rates[0] == pytest.approx(1e150)


def test_progress_ends_at_what_was_foreseen() -> None:
    told: list[tuple[int, float, float]] = []

    def tell(progress: SweepProgress) -> None:
        told.append((progress.cells, progress.operations, progress.expected))
        assert progress.left is not None
        assert progress.left >= 0

    sweep(four_lines(), recipe(), PROTOCOL, SEEDS, progress=tell)
    assert [cells for cells, *_ in told] == list(range(1, len(told) + 1))
    assert told[-1][1] == told[-1][2]
    assert all(done < expected for _, done, expected in told[:-1])


def test_a_device_may_be_given_as_such(tmp_path: Path) -> None:
    by_name = sweep(four_lines()[:1], recipe(), PROTOCOL, SEEDS, store=tmp_path)
    kept = recipe(device=torch.device("cpu"))
    assert kept.device == "cpu"
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = sweep(four_lines()[:1], kept, PROTOCOL, SEEDS, store=tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before
    assert np.array_equal(by_name[0].losses, again[0].losses)


def test_forward_flops_count_the_products() -> None:
    dense = architecture("Muon", width=16, length=16, depth=2)
    # Four d x d and two d x 4 d layers, a multiplication and an addition an entry.
    layers = 2 * (4 * 16**2 + 2 * 4 * 16**2)
    attention, logits = 2 * 17 * 16, 2 * 16 * dense.vocabulary
    assert dense.forward_flops == 2 * (layers + attention) + logits
    low = architecture("LoRAMuon", width=16, length=16, depth=2, rank=4)
    products = 2 * 4 * (4 * 2 * 16 + 2 * 5 * 16)
    assert low.forward_flops == 2 * (products + attention) + logits
    # And so does torch, of all but attention.
    for sizes in (dense, low):
        tokens = torch.zeros(1, 3, sizes.length, dtype=torch.int64)
        with FlopCounterMode(display=False) as seen, torch.no_grad():
            CharacterTransformer(sizes, [0])(tokens)
        counted = seen.get_flop_counts()["Global"][torch.ops.aten.bmm]
        assert counted == tokens.numel() * (sizes.forward_flops - 2 * attention)


def test_a_best_rate_has_an_interval() -> None:
    curve = Curve(
        four_lines()[0],
        np.array([0.01, 0.03, 0.1]),
        np.array([[2.0, 2.1], [1.5, 1.6], [1.9, 2.0]]),
        np.full((3, 2), -1),
        0.0,
    )
    best = curve.best()
    assert 0.01 < best.low <= best.rate <= best.high < 0.1
    assert math.isfinite(best.loss)
