"""How kernels are compiled: at a level of their own, and by one process at a time."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

numba = pytest.importorskip("numba", reason="the compiled kernel needs numba")


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled before is not compiled again."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))


def watched(seen: list[int], fails: bool = False) -> Callable[[float], float]:
    """A function that notes the level whenever it is compiled."""

    def observed(x: float) -> float:
        raise AssertionError("it is called by compiled code alone")

    @numba.extending.overload(observed)
    def compiled(x: Any) -> Callable[[Any], Any]:
        seen.append(int(numba.config.OPT))
        if fails:
            raise ValueError("it cannot be compiled")

        def doubled(x: Any) -> Any:
            return 2.0 * x

        return doubled

    return observed


def test_kernels_have_a_level_of_their_own_and_others_keep_theirs() -> None:
    from flows.compiled.entries import LEVEL, entry

    seen: list[int] = []
    observed, usual = watched(seen), int(numba.config.OPT)
    assert usual != LEVEL

    def kernel(x: float) -> float:
        return observed(x)

    assert entry(kernel)(3.0) == 6.0
    assert set(seen) == {LEVEL}
    assert int(numba.config.OPT) == usual
    seen.clear()
    assert numba.njit(kernel)(3.0) == 6.0
    assert set(seen) == {usual}


def test_the_level_is_put_back_where_a_kernel_cannot_be_compiled() -> None:
    from flows.compiled.entries import LEVEL, entry

    seen: list[int] = []
    observed, usual = watched(seen, fails=True), int(numba.config.OPT)

    def kernel(x: float) -> float:
        return observed(x)

    with pytest.raises(ValueError, match="it cannot be compiled"):
        entry(kernel)(3.0)
    assert set(seen) == {LEVEL}
    assert int(numba.config.OPT) == usual


def doubled(x: float) -> float:
    return 2.0 * x


def lock_of(kernel: Any) -> FileLock:
    """As another process has it."""
    return FileLock(Path(kernel.stats.cache_path) / f"{kernel.__name__}.lock")


def test_who_wants_a_kernel_that_another_process_compiles_waits_and_loads_it() -> None:
    from flows.compiled.entries import entry

    here: Any = entry(doubled)
    waiting = threading.Thread(target=here, args=(3.0,))
    with lock_of(here):
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        assert not here.signatures
        # What the other process does while it has the lock.
        numba.njit(cache=True)(doubled)(3.0)
    waiting.join(60.0)
    assert not waiting.is_alive()
    assert sum(here.stats.cache_hits.values()) == 1


def test_patience_with_another_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.compiled import entries

    monkeypatch.setattr(entries, "PATIENCE_SECONDS", 0.1)
    kernel = entries.entry(doubled)
    with lock_of(kernel), pytest.warns(RuntimeWarning, match="doubled is compiled by this process"):
        assert kernel(3.0) == 6.0


def test_where_files_cannot_be_locked_every_process_compiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.compiled.entries import entry

    def refuse(self: FileLock, *_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    kernel = entry(doubled)
    with pytest.warns(RuntimeWarning, match="no locks available"):
        assert kernel(3.0) == 6.0
