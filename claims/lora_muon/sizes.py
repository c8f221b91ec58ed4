"""The sizes at which the claims on learning rates train."""

from __future__ import annotations

from typing import Any

# Every claim on learning rates takes its sizes from here. The paper's own are for a GPU.
SIZES: dict[str, dict[str, Any]] = {
    "full": {
        "corpus": "synthetic", "characters": 400_000, "length": 64, "width": 64, "depth": 2,
        "steps": 200, "batch": 8, "seeds": 6, "ranks": (2, 4, 8, 16, 32), "rank": 16,
        "widths": (32, 128), "depths": (1, 4), "rescalings": (3.0, 9.0, 27.0),
    },
    "paper": {
        "corpus": "tinyshakespeare", "width": 128, "steps": 1000, "batch": 16, "rank": 32,
        "widths": (64, 256),
    },
}  # fmt: skip
