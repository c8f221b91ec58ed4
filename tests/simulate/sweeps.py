"""Sweeps small enough for tests."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch

from simulate import sweep as module
from simulate.cells import Cell, CellResult, Contestant, Line, Recipe, run_cell
from simulate.optimizers import LoRAMuon, Spectron
from simulate.sweep import lines
from simulate.tuning import Protocol
from tests.simulate.runs import architecture, corpus

LORA, SPECTRON = Contestant("LoRA-Muon", LoRAMuon), Contestant("Spectron", Spectron)
PROTOCOL = Protocol((0.01, 0.03, 0.1), extensions=1)
SEEDS = (0, 1)


class Dying(LoRAMuon):
    """Ends its process in the first step, as the system does where memory runs out."""

    def step(self, closure: Any = None) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def recipe(**options: Any) -> Recipe:
    defaults: dict[str, Any] = {
        "batch_size": 4,
        "evaluation_tokens": 512,
        "dtype": torch.float64,
    }
    return Recipe(corpus(), **{**defaults, **options})


def four_lines(steps: int = 3) -> list[Line]:
    return lines([LORA, SPECTRON], architecture("LoRAMuon"), steps, rank=[2, 4])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The cells that are run from now on."""
    ran: list[Cell] = []

    def run(cell: Cell, recipe: Recipe) -> CellResult:
        ran.append(cell)
        return run_cell(cell, recipe)

    monkeypatch.setattr(module, "run_cell", run)
    return ran
