"""Kept memory costs no page faults when it is allocated again, and nobody asks for it unasked."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from simulate.freed_memory import keep_freed_memory
from simulate.processes import local_processes

# Above the most that glibc keeps by itself, 32 MiB.
BLOCK = 64 << 20


def faults_of_a_block_again() -> int:
    """Page faults of this process when it allocates what it has freed, four times."""
    import resource

    for allocation in range(5):
        if allocation == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = bytearray(BLOCK)
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


PROGRAM = """
import json
import simulate.training
from simulate.freed_memory import keep_freed_memory
from tests.simulate.test_freed_memory import faults_of_a_block_again
unasked = faults_of_a_block_again()
print(json.dumps([unasked, keep_freed_memory(), faults_of_a_block_again()]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc")
def test_a_process_keeps_what_it_frees_once_it_is_told_to_and_those_of_a_sweep_are() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    unasked, done, kept = json.loads(run.stdout)
    assert done
    # 64 MiB are 16384 pages, or 32 where pages are huge.
    assert unasked >= 4 * 32
    assert kept < 32
    with local_processes(1) as processes:
        assert processes.submit(faults_of_a_block_again).result() < 32


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("a library was loaded"))
    assert not keep_freed_memory()
