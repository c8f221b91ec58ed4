"""Processes of this machine to map work over, with one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait

import torch

from geometry.errors import require_positive_int


def local_processes(jobs: int) -> ProcessPoolExecutor:
    """An executor of ``jobs`` processes, each with one torch and one BLAS thread.

    They end with the process that made them, however that ends, and leave Ctrl-C to it.

    Raises:
        ValueError: jobs below one.
    """
    require_positive_int("jobs", jobs)
    # A fork of a process with running threads may hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin)


def _begin() -> None:
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threadpool_limits(limits=1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
