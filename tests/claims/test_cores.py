"""How many claims run at once by default: what this process may use, not what the machine has."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from io import StringIO
from typing import Any

import pytest

from claims.running.here import cores

QUOTA = "/sys/fs/cgroup/cpu.max"


@pytest.mark.parametrize(("quota", "expected"), [("50000 100000", 1), ("max 100000", 8)])
def test_the_quota_of_a_container_counts(
    quota: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, exists = builtins.open, os.path.exists

    def read(path: Any, *args: Any, **kwargs: Any) -> Any:
        return StringIO(quota) if path == QUOTA else opened(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", read)
    monkeypatch.setattr(os.path, "exists", lambda path: path == QUOTA or exists(path))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity here")
def test_affinity_counts() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from claims.running.here import cores; print(cores())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"
