"""Memory that a process frees, kept for what it allocates next."""

from __future__ import annotations

import ctypes
import platform

# Of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_KEPT = 1 << 30  # bytes


def keep_freed_memory() -> bool:
    """Let this process keep blocks below 1 GiB that it frees; True where that can be set.

    glibc gives large blocks back to the system as soon as they are free, and what is allocated
    next comes as pages that the system has to find and to zero: in the training of an ensemble,
    whose activations are such blocks, thousands of page faults a step. From here on the process
    holds on to the most memory that it ever had at once.

    That is for a process to decide that is one's own, for all that it does, so nothing calls this
    on import. ``simulate.processes.local_processes`` calls it in the processes that it makes.

    Returns:
        False, and nothing is changed, without glibc.

    Reference: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # No number of free bytes at the end of the heap is then too many.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, -1))
