"""What a sweep refuses before anything is trained, and what a failure of its cells leaves."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from simulate.cells import Cell, Contestant, Recipe, kept_cell
from simulate.checkpoint import CheckpointError
from simulate.optimizers import LoRAMuon, LowRankMuon
from simulate.processes import local_processes
from simulate.sweep import lines, sweep
from tests.simulate.runs import architecture
from tests.simulate.sweeps import (
    LORA,
    PROTOCOL,
    SEEDS,
    SPECTRON,
    Dying,
    counted,
    four_lines,
    recipe,
)


@pytest.mark.parametrize(
    "make", [lambda pairs, lr: LoRAMuon(pairs, lr=lr), partial(LoRAMuon, momentum=0.9)]
)
def test_what_no_name_stands_for_is_kept_in_no_folder(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = counted(monkeypatch)
    own = lines([Contestant("mine", make)], architecture("LoRAMuon"), 3)
    with pytest.raises(ValueError, match="results of 'mine' cannot be kept: a class or function"):
        sweep(own, recipe(), PROTOCOL, SEEDS, store=tmp_path)
    assert ran == []
    assert len(sweep(own, recipe(), replace(PROTOCOL, extensions=0), SEEDS)) == 1


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, file = counted(monkeypatch), tmp_path / "text"
    file.write_text("no folder", encoding="utf-8")
    for store in (file, str(file), file / "cells"):
        with pytest.raises(OSError, match=r"text.* cannot be written: Not a directory"):
            sweep(four_lines(), recipe(), PROTOCOL, SEEDS, store=store)
    assert ran == []


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    sweep(four_lines()[:1], recipe(), PROTOCOL, SEEDS, store=tmp_path)
    damaged = sorted(tmp_path.glob("*.cell"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=damaged.name):
        sweep(four_lines()[:1], recipe(), PROTOCOL, SEEDS, store=tmp_path)


class Failing(LoRAMuon):
    """An optimiser that takes no step."""

    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no step comes of this")


@pytest.mark.parametrize("threads", [0, 1])
def test_a_cell_that_fails_loses_none_that_is_done(tmp_path: Path, threads: int) -> None:
    bad = replace(four_lines()[0], contestant=Contestant("none", Failing))
    # The dearer line goes first.
    mixed = [bad, replace(four_lines()[1], steps=5)]
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="no step comes"):
        sweep(mixed, recipe(), PROTOCOL, SEEDS, executor=pool if threads else None, store=tmp_path)
    # What its line went on with before the failure was seen may be there too.
    done = Cell(mixed[1], PROTOCOL.rates, SEEDS)
    assert kept_cell(done, recipe(), tmp_path) is not None
    assert kept_cell(Cell(bad, PROTOCOL.rates, SEEDS), recipe(), tmp_path) is None


class Breaking(ThreadPoolExecutor):
    """Takes so many cells, which are done at once, and no more."""

    def __init__(self, cells: int) -> None:
        super().__init__(1)
        self._left = cells

    def submit(self, *arguments: Any, **named: Any) -> Any:
        if not self._left:
            raise RuntimeError("this executor is broken")
        self._left -= 1
        future = super().submit(*arguments, **named)
        future.exception()
        return future


@pytest.mark.parametrize("cells", [0, 2, 4])
def test_an_executor_that_breaks_loses_no_cell_that_is_done(tmp_path: Path, cells: int) -> None:
    with Breaking(cells) as broken, pytest.raises(RuntimeError, match="this executor is broken"):
        sweep(four_lines(), recipe(), PROTOCOL, SEEDS, executor=broken, store=tmp_path)
    assert len(list(tmp_path.glob("*.cell"))) == cells


@pytest.mark.parametrize("kept", [True, False])
def test_a_process_that_died_is_told_with_its_cells(tmp_path: Path, kept: bool) -> None:
    # The dearer line goes first.
    mixed = [replace(four_lines()[0], contestant=Contestant("dying", Dying)), four_lines(5)[1]]
    store = tmp_path if kept else None
    with local_processes(1) as pool, pytest.raises(BrokenExecutor) as found:
        sweep(mixed, recipe(), PROTOCOL, SEEDS, executor=pool, store=store)
    assert isinstance(found.value.__cause__, BrokenProcessPool)
    told, sizes = (
        str(found.value),
        f"vocabulary {four_lines()[0].architecture.vocabulary}, length 16",
    )
    under_way = f"under way: 'dying' ({sizes}, width 16, depth 1, heads 2, rank 2) at 0.01, 0.03, "
    assert f"a process that trains cells died; {under_way}0.1 with 2 seeds; " in told
    where = f"finished cells are in '{tmp_path}'" if kept else "no cell is kept, for no store= was"
    assert where in told
    assert "fewer processes or a smaller batch_size" in told
    assert len(list(tmp_path.iterdir())) == kept


def test_nothing_to_sweep_is_told() -> None:
    with pytest.raises(ValueError, match="lines: at least one is expected, got none"):
        sweep([], recipe(), PROTOCOL, SEEDS)
    with pytest.raises(ValueError, match="seeds: different ones are expected, got none"):
        sweep(four_lines(), recipe(), PROTOCOL, [])
    # The same run twice would count as two draws, and intervals come out too narrow.
    with pytest.raises(ValueError, match=r"seeds: different ones are expected, got \(0, 1, 0\)"):
        sweep(four_lines(), recipe(), PROTOCOL, (0, 1, 0))
    with pytest.raises(ValueError, match="jobs"):
        local_processes(0)
    with pytest.raises(ValueError, match="warmup"):
        recipe(warmup=1.5)
    with pytest.raises(ValueError, match=r"corpus: a Corpus is expected, .*, got 'text\.txt'"):
        Recipe(corpus=cast(Any, "text.txt"), batch_size=2)
    with pytest.raises(ValueError, match=r"dtype: a torch\.dtype is expected, got 'float32'"):
        recipe(dtype="float32")
    with pytest.raises(ValueError, match=r"make of 'Muon': .* is expected, got 'LoRAMuon'"):
        Contestant("Muon", cast(Any, "LoRAMuon"))
    for options, draws, without in (
        ({"lr": 0.1}, False, "lr"),
        ({"seed": 1}, True, "lr and seed"),
        ([("momentum", 0.9)], False, "lr"),
    ):
        said = f"options of 'Muon': a mapping is expected, without {without}, which"
        with pytest.raises(ValueError, match=said):
            Contestant("Muon", LoRAMuon, cast(Any, options), draws)
    assert Contestant("Muon", LowRankMuon, {"seed": 1}).options == {"seed": 1}


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"momentom": 0.9}, r"'wrong' with {'momentom': 0\.9} makes no optimiser: .*'momentom'"),
        ({"momentum": 1.5}, r"'wrong' with {'momentum': 1\.5} .*: momentum must lie in \[0, 1\)"),
        ({"root": "svdd"}, "'wrong' with .* makes no optimiser: unknown root 'svdd'"),
    ],
)
def test_wrong_options_are_told_before_anything_is_trained(
    options: dict[str, Any], said: str, threads: int, tmp_path: Path
) -> None:
    asked = lines([LORA, Contestant("wrong", LoRAMuon, options)], architecture("LoRAMuon"), 3)
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match=said):
        sweep(asked, recipe(), PROTOCOL, SEEDS, executor=pool if threads else None, store=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_does_not_fit_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    other = replace(architecture("LoRAMuon"), vocabulary=5)
    asked = four_lines()[:1] + lines([SPECTRON], other, 3, rank=[1])
    with pytest.raises(ValueError, match=r"the vocabulary of .* is expected, got an architecture"):
        sweep(asked, recipe(), PROTOCOL, SEEDS, store=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_option_with_a_value_for_each_member_is_no_wrong_one() -> None:
    options = {"rank": 2, "momentum": torch.linspace(0.8, 0.95, 6)}
    asked = lines([Contestant("low-rank Muon", LowRankMuon, options)], architecture("Muon"), 3)
    short = replace(PROTOCOL, extensions=0, refinements=0)
    assert bool(np.isfinite(sweep(asked, recipe(), short, SEEDS)[0].losses).all())


def test_on_a_device_elsewhere_the_first_cell_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [Contestant("wrong", LoRAMuon, {"momentom": 0.9})]
    asked = lines(wrong, architecture("LoRAMuon"), 3)
    ran = counted(monkeypatch)
    told = pytest.raises(ValueError, match=r"no CUDA device|makes no optimiser")
    with ThreadPoolExecutor(1) as threads, told:
        sweep(asked, recipe(device="cuda"), PROTOCOL, SEEDS, executor=threads)
    assert len(ran) == 1
