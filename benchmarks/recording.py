"""The record of a benchmark that is rows and a bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from claims.results.strict_json import write_json


def record_rows(
    path: Path,
    benchmark: str,
    rows: Sequence[Mapping[str, Any]],
    threads: int,
    bar: Mapping[str, Any],
    **versions: str,
) -> None:
    """Write everything as JSON, atomically; ``versions`` are those beside torch's."""
    content = {
        "schema": 1,
        "benchmark": benchmark,
        "threads": threads,
        "torch": torch.__version__,
        **versions,
        "rows": list(rows),
        "bar": dict(bar),
    }
    write_json(path, content)
