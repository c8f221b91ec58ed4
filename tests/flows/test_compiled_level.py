"""The level at which kernels are compiled, which numba has one of for all code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    from flows.compiled.blocks import LEVEL, entry

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
    from flows.compiled.blocks import LEVEL, entry

    seen: list[int] = []
    observed, usual = watched(seen, fails=True), int(numba.config.OPT)

    def kernel(x: float) -> float:
        return observed(x)

    with pytest.raises(ValueError, match="it cannot be compiled"):
        entry(kernel)(3.0)
    assert set(seen) == {LEVEL}
    assert int(numba.config.OPT) == usual
