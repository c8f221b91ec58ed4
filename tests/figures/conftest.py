"""The synthetic run, recorded once, and the arrays behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from figures.figure import Sources
from tests.figures.synthetic import all_arrays
from tests.figures.synthetic_run import write_run


@pytest.fixture(scope="session")
def sources() -> Sources:
    return Sources(all_arrays(seeds=5))


@pytest.fixture(scope="session")
def recorded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every claim recorded. Tests read it; those that change it make their own."""
    return write_run(tmp_path_factory.mktemp("recorded"), seeds=5)
