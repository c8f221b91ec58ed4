"""TinyShakespeare, the corpus of the LoRA-Muon study: found or fetched, and always checked."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from pathlib import Path

from simulate.atomic import write_atomically
from simulate.tasks.corpus import (
    AlteredCorpusError,
    Corpus,
    MissingCorpusError,
    corpus_of_bytes,
    read_corpus_file,
)

VARIABLE = "PAPER_CHECKS_TINYSHAKESPEARE"
ADDRESS = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TIMEOUT_SECONDS = 20.0
# Above the file's 1.1 MB; more is not read, whatever is at the address.
MOST_BYTES = 4_000_000


def tiny_shakespeare(path: str | Path | None = None) -> Corpus:
    """The corpus of 1,115,394 characters, 65 of them distinct, split nine to one.

    The file is the one at ``path``; else the one that the environment variable
    PAPER_CHECKS_TINYSHAKESPEARE names; else the one in the cache folder
    (``$XDG_CACHE_HOME/paper-checks``, ``~/.cache/paper-checks``), fetched into it where it is
    missing. A file that is named is never replaced by another source.

    Raises:
        MissingCorpusError: no such file, or no file in the cache and no network.
        AlteredCorpusError: the content is not what it should be, by its SHA-256.
    """
    named = path or os.environ.get(VARIABLE)
    place = Path(named) if named else cache_folder() / "tinyshakespeare.txt"
    if path is None and named and not place.is_file():
        raise MissingCorpusError(f"{VARIABLE}: there is no file {place}")
    if named or place.exists():
        content, advice = read_corpus_file(place), "" if named else " (remove it to fetch it again)"
        _require_unaltered(content, f"{place}{advice}")
    else:
        content = _fetched(place)
        _require_unaltered(content, ADDRESS)
        try:
            write_atomically(place, lambda stream: stream.write(content))
        except OSError as error:
            raise MissingCorpusError(
                f"tinyshakespeare was fetched but cannot be kept at {place} ({error}); "
                "set XDG_CACHE_HOME to a folder that can be written to"
            ) from error
    return corpus_of_bytes(content, "tinyshakespeare", None, str(place))


def cache_folder() -> Path:
    """Where fetched corpora are kept: by the XDG base directory specification."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The specification has relative paths ignored.
    return (given if given.is_absolute() else Path.home() / ".cache") / "paper-checks"


def _require_unaltered(content: bytes, origin: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise AlteredCorpusError(origin, given=digest, expected=SHA256)


def _fetched(place: Path) -> bytes:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read(MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise MissingCorpusError(
            f"tinyshakespeare is not in the cache, {place}, and could not be fetched from {ADDRESS}"
            f" ({error}); give its path, or set {VARIABLE} to it"
        ) from error
    return content
