"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
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


def require_writable(folder: Path) -> None:
    """Find out whether a folder takes files, before the work that they are to keep.

    The folder may be missing still; nothing is left behind.

    Raises:
        OSError: it does not, with its name.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        told = f"{str(folder)!r} cannot be written: {error.strerror}"
        raise OSError(error.errno, told) from error


def writable_folder(store: Path | str | None) -> Path | None:
    """The folder that a caller names for what is to be kept, which takes files; None for none.

    Raises:
        OSError: as ``require_writable`` does.
    """
    if store is None:
        return None
    require_writable(folder := Path(store))
    return folder


def require_writable_file(file: Path) -> None:
    """As ``require_writable``, for one file: its folder takes files, and it is no folder itself."""
    if file.is_dir():
        raise OSError(errno.EISDIR, f"{str(file)!r} cannot be written: {os.strerror(errno.EISDIR)}")
    require_writable(file.parent)
