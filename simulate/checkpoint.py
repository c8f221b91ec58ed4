"""Checkpoints: written whole or not at all, and read only into a run of the same make."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from simulate.atomic import write_atomically

# Before torch's own bytes, whose checksums torch.load does not look at.
TITLE = b"paper-checks checkpoint 1 "


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or of another run."""


def write_checkpoint(path: Path, made_by: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write beside ``path`` and move there: a run that is killed leaves the last one whole.

    Args:
        path: the file; its folder is made where it is missing.
        made_by: what the run is, by name; plain values.
        state: tensors, numbers, texts, and lists and dicts of them.
    """
    content = io.BytesIO()
    torch.save({"made_by": dict(made_by), "state": dict(state)}, content)
    whole = _head(content.getvalue()) + content.getvalue()
    write_atomically(path, lambda stream: stream.write(whole))


def checkpoint_content(path: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
    """What run a checkpoint is of, and the state in it, its tensors on the device.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: a damaged file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint: there is no file {path}")
    head, newline, content = path.read_bytes().partition(b"\n")
    if head + newline != _head(content):
        raise CheckpointError(
            f"checkpoint {path} is damaged or none of ours: a first line with the SHA-256 of the "
            f"rest is expected, got {len(head) + len(newline) + len(content)} bytes without it"
        )
    loaded = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return loaded["made_by"], loaded["state"]


def read_checkpoint(
    path: Path, expected: Mapping[str, Any], device: torch.device
) -> dict[str, Any]:
    """The state in a checkpoint, its tensors on the device.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: a damaged file, or one of another run: each difference is named, with what
            was given and what is expected.
    """
    made_by, state = checkpoint_content(path, device)
    if other := differences(expected, made_by):
        raise CheckpointError(f"checkpoint {path} is of another run: {'; '.join(other)}")
    return state


def differences(expected: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Each as a sentence; of mappings within them, by the names within these."""
    told = []
    for name in {**expected, **given}:
        one, other = expected.get(name), given.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            told += [f"{name}: {difference}" for difference in differences(one, other)]
        elif one != other:
            told.append(f"{name} {one!r} is expected, got {other!r}")
    return told


def _head(content: bytes) -> bytes:
    return TITLE + hashlib.sha256(content).hexdigest().encode() + b"\n"
