"""Outermost functions: how they are compiled, and by whom."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from filelock import FileLock
from numba import config as _config
from numba.core.compiler_lock import global_compiler_lock

from flows.compiled.blocks import plain

# numba's level of optimisation. Its own, 3, takes two fifths longer and makes no kernel faster:
# what matters is vectors already, and inlined by force. At 1 many lanes take 2 % longer.
LEVEL: Final = 2

# How long another process may take to compile a kernel before this one does so too. The largest
# takes half a minute.
PATIENCE_SECONDS: Final = 120.0

# To the type checker what is inside is not what is set at run time.
config: Any = _config


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile an outermost function, and with it what it calls, at LEVEL, and keep it on disk.

    numba has one level for all code: it is set while the compiler is ours, and put back. Processes
    that want the same kernel at once have the first compile it and load what it has kept.
    """
    kernel: Any = plain(cache=True, nogil=True)(function)
    compiled = kernel.compile

    def compile_once(signature: Any) -> Any:
        with _no_other_process(kernel), global_compiler_lock:
            others, config.OPT = config.OPT, type(config.OPT)(LEVEL)
            try:
                return compiled(signature)
            finally:
                config.OPT = others

    kernel.compile = compile_once
    return cast(Callable[..., Any], kernel)


@contextmanager
def _no_other_process(kernel: Any) -> Iterator[None]:
    """Wait until no other process compiles the kernel.

    It only saves work: where files cannot be locked, or whoever has the lock does not get on, this
    process compiles on its own, and says so.
    """
    path = Path(kernel.stats.cache_path) / f"{kernel.__name__}.lock"
    lock = FileLock(path, timeout=PATIENCE_SECONDS)
    # Patience that runs out is an OSError as well.
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        told = f"{kernel.__name__} is compiled by this process whatever others do: {error}"
        warnings.warn(told, RuntimeWarning, stacklevel=2)
    try:
        yield
    finally:
        lock.release()
