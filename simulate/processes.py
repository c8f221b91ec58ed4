"""Processes of this machine to map work over, with one thread each."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType

import torch

from geometry.errors import require_positive_int
from simulate.freed_memory import keep_freed_memory
from simulate.orphans import end_with_parent


class LocalProcesses(ProcessPoolExecutor):
    """What ``local_processes`` makes: left by Ctrl-C, its with statement ends all processes."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A pool waits for what runs, whose results nobody takes any more.
        if kind is not None and not issubclass(kind, Exception):
            for process in list((self._processes or {}).values()):
                process.kill()
        super().__exit__(kind, error, trace)


def local_processes(jobs: int) -> LocalProcesses:
    """An executor of ``jobs`` processes, each with one torch and one BLAS thread.

    They end with the process that made them, however that ends, leave Ctrl-C to it, and keep the
    memory that they free (:func:`simulate.freed_memory.keep_freed_memory`). They import the script
    that makes them, which therefore does so below ``if __name__ == "__main__":``.

    Raises:
        ValueError: jobs below one.
    """
    require_positive_int("jobs", jobs)
    # A fork of a process with running threads may hang.
    context = multiprocessing.get_context("spawn")
    return LocalProcesses(jobs, mp_context=context, initializer=_begin)


def _begin() -> None:
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threadpool_limits(limits=1)
    keep_freed_memory()
    end_with_parent()
