"""A file is written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    """Call ``write`` on a file beside ``path``, which takes its place only once it is complete.

    The folder is made where it is missing; a failure leaves neither a part nor a changed ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes may write the same file, such as a reference that both lack.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path
