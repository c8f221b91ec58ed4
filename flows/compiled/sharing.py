"""The lanes of a kernel shared out among threads; kernels let go of the interpreter's lock.

A lane's result does not depend on the share it is in, to the bit: shares are whole blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import pairwise

import torch

_threads: ContextVar[int] = ContextVar("threads", default=1)


@contextmanager
def lanes_by_threads() -> Iterator[None]:
    """Kernels share their lanes out among as many threads as torch has; torch itself has one.

    After each of its own parallel loops OpenMP's threads go on spinning, on the cores that the
    shares are for: with two threads on two cores nothing was gained.
    """
    count = torch.get_num_threads()
    token = _threads.set(count)
    if count > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        _threads.reset(token)
        if count > 1:
            torch.set_num_threads(count)


def shared(kernel: Callable[..., bool], lanes: int, width: int, *arguments: object) -> bool:
    """``kernel(*arguments, start, stop)`` of all lanes, in shares; whether all of them succeed.

    Args:
        width: lanes of a block; every share but the last is a multiple.
    """
    blocks = -(-lanes // width)
    count = max(1, min(_threads.get(), blocks))
    ends = [min(lanes, width * (blocks * i // count)) for i in range(count)] + [lanes]
    *others, own = pairwise(ends)
    if not others:
        return kernel(*arguments, *own)
    pool = _pool(count - 1, os.getpid())
    waiting = [pool.submit(kernel, *arguments, *share) for share in others]
    # The caller takes a share as well. The others are waited for even where that one raises.
    try:
        succeeded = kernel(*arguments, *own)
    finally:
        results = [each.result() for each in waiting]
    return succeeded and all(results)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """The pool of a process: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"lanes-{process}")
