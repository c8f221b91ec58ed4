"""Where TinyShakespeare is looked for, in which order, and that it is always checked."""

from __future__ import annotations

import hashlib
import http.client
import io
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

from simulate.tasks import AlteredCorpusError, CorpusError, MissingCorpusError, tiny_shakespeare
from simulate.tasks.shakespeare import ADDRESS, SHA256, VARIABLE

TEXT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"
MODULE = "simulate.tasks.shakespeare"


class Network:
    """Stands in for urlopen: serves ``content``, or raises it where it is an error."""

    def __init__(self, content: bytes | Exception) -> None:
        self.content = content
        self.asked: list[str] = []

    def __call__(self, address: str, timeout: float) -> io.BytesIO:
        assert timeout > 0
        self.asked.append(address)
        if isinstance(self.content, Exception):
            raise self.content
        return io.BytesIO(self.content)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Network:
    """A network that is down, an empty cache, no variable, and a short text as the right one."""
    down = Network(urllib.error.URLError("no route to host"))
    monkeypatch.setattr(urllib.request, "urlopen", down)
    monkeypatch.setattr(f"{MODULE}.SHA256", hashlib.sha256(TEXT).hexdigest())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    return down


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "given.txt"
    path.write_bytes(TEXT)
    return path


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "paper-checks" / "tinyshakespeare.txt"


def test_a_path_is_enough(network: Network, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(file.with_name("another.txt")))
    corpus = tiny_shakespeare(file)
    assert corpus.name == "tinyshakespeare"
    assert corpus.decode(torch.cat([corpus.train, corpus.validation])).encode() == TEXT
    assert len(corpus.train) == int(0.9 * len(TEXT))
    assert network.asked == []


def test_the_variable_comes_before_the_cache(
    network: Network, file: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"something else")
    monkeypatch.setenv(VARIABLE, str(file))
    assert len(tiny_shakespeare().train) == int(0.9 * len(TEXT))
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(AlteredCorpusError):
        tiny_shakespeare()


def test_it_is_fetched_once_and_kept(network: Network, cached: Path) -> None:
    network.content = TEXT
    first = tiny_shakespeare()
    assert cached.read_bytes() == TEXT
    assert [path.name for path in cached.parent.iterdir()] == [cached.name]
    network.content = OSError("down again")
    assert torch.equal(tiny_shakespeare().train, first.train)
    assert network.asked == [ADDRESS]


def test_without_a_network_it_says_what_to_do(network: Network, cached: Path) -> None:
    with pytest.raises(MissingCorpusError) as caught:
        tiny_shakespeare()
    for part in (str(cached), ADDRESS, "no route to host", "give its path", VARIABLE):
        assert part in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert not cached.parent.exists()


@pytest.mark.parametrize(
    "error", [TimeoutError("timed out"), http.client.IncompleteRead(b"half")], ids=repr
)
def test_a_network_that_breaks_off_is_no_network(network: Network, error: Exception) -> None:
    network.content = error
    with pytest.raises(MissingCorpusError, match="could not be fetched"):
        tiny_shakespeare()


@pytest.mark.parametrize("content", [b"", TEXT[:-1], b"<html>Log in first</html>"])
def test_what_is_not_the_file_is_not_kept(network: Network, cached: Path, content: bytes) -> None:
    network.content = content
    with pytest.raises(AlteredCorpusError, match="SHA-256") as caught:
        tiny_shakespeare()
    assert caught.value.given == hashlib.sha256(content).hexdigest()
    assert caught.value.expected == hashlib.sha256(TEXT).hexdigest()
    assert not cached.exists()


def test_a_damaged_file_is_named_wherever_it_is(
    network: Network, file: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = TEXT.replace(b"F", b"f")
    for path in (file, cached):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged)
    network.content = TEXT
    with pytest.raises(AlteredCorpusError, match=r"given\.txt: SHA-256") as given:
        tiny_shakespeare(file)
    assert isinstance(given.value, CorpusError)
    assert isinstance(given.value, ValueError)
    assert given.value.given in str(given.value)
    assert given.value.expected in str(given.value)
    with pytest.raises(AlteredCorpusError, match="remove it to fetch it again"):
        tiny_shakespeare()
    monkeypatch.setenv(VARIABLE, str(file))
    with pytest.raises(AlteredCorpusError, match=r"given\.txt"):
        tiny_shakespeare()
    assert cached.read_bytes() == damaged
    assert network.asked == []


def test_a_missing_file_is_not_replaced_by_another_source(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.content = TEXT
    with pytest.raises(MissingCorpusError, match=r"there is no file .*none\.txt"):
        tiny_shakespeare(tmp_path / "none.txt")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone.txt"))
    with pytest.raises(MissingCorpusError, match=rf"{VARIABLE}: there is no file .*gone\.txt"):
        tiny_shakespeare()
    assert network.asked == []


def test_a_cache_that_cannot_be_written_is_named(network: Network, tmp_path: Path) -> None:
    network.content = TEXT
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(MissingCorpusError, match="set XDG_CACHE_HOME"):
        tiny_shakespeare()


def test_the_cache_is_in_the_home_folder_by_default(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.content = TEXT
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for ignored in (None, "", "relative/folder"):
        if ignored is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        tiny_shakespeare()
        kept = tmp_path / "home" / ".cache" / "paper-checks" / "tinyshakespeare.txt"
        assert kept.read_bytes() == TEXT
        kept.unlink()


def test_the_hash_is_that_of_the_known_file(file: Path) -> None:
    assert SHA256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    with pytest.raises(AlteredCorpusError, match=SHA256):
        tiny_shakespeare(file)
