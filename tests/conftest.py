"""Fixtures for every room."""

from __future__ import annotations

import os

# Read when numpy and torch are loaded: the test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from tests.elsewhere import elsewhere

torch.set_num_threads(1)

REAL = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=[*REAL, "elsewhere"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Each device that this machine has, and one that it needs not have."""
    if request.param == "elsewhere":
        with elsewhere() as there:
            yield there
    else:
        yield torch.device(request.param)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Claims of the command line run in this process, and which ones did."""
    from claims.running import here
    from tests.command_line import InProcess

    crew = InProcess()
    monkeypatch.setattr(here, "on_this_machine", lambda *_, **__: nullcontext(crew))
    return crew.ran
