"""Processes to map work over."""

from __future__ import annotations

import time
from concurrent.futures import Future

import pytest

from simulate.processes import local_processes


def leave(error: BaseException, running: list[Future[None]], seconds: float) -> None:
    """Leave the with statement of two processes by an error, while both run."""
    with local_processes(2) as processes:
        running.extend(processes.submit(time.sleep, seconds) for _ in range(2))
        raise error


def test_ctrl_c_waits_for_nothing_that_runs() -> None:
    running: list[Future[None]] = []
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        leave(KeyboardInterrupt(), running, seconds=60)
    assert time.monotonic() - begun < 40
    assert all(future.exception() is not None for future in running)


def test_an_error_lets_what_runs_finish() -> None:
    running: list[Future[None]] = []
    with pytest.raises(ValueError, match="of mine"):
        leave(ValueError("of mine"), running, seconds=0.1)
    assert [future.exception() for future in running] == [None, None]
