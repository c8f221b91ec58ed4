"""The far end of a lane: a process that answers with outcomes until nobody asks any more.

Nothing heavy is imported at the top: the number of threads has to be settled before numpy and
torch are loaded, and Ctrl-C before anything takes its time.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection

from simulate.orphans import end_with_parent

# Read when numpy and torch are loaded. Two threads in every worker collapse under load.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def serve(
    connection: Connection, registry: str, subject: str | None = None, gpu: int | None = None
) -> None:
    """Run the claims whose ids come in, and send back every field of the outcome but the claim.

    Before it come the shares of the claim's work that are done, as floats. ``subject`` names the
    optimiser under test. ``gpu`` is the number of the only one that this process, and those that it
    starts, are to see.
    """
    # Ctrl-C reaches the whole process group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    if gpu is not None:
        os.environ.update(_seeing(gpu))
    from claims.registry import Means
    from claims.running.one import run_claim
    from claims.selection import load_registry
    from claims.subject import load_subject

    claims = load_registry(registry)
    tested = None if subject is None else load_subject(subject)
    while True:
        try:
            identifier, asked, processes = connection.recv()
        except (EOFError, OSError):
            return
        claim, means = claims[identifier], Means(asked.store, processes, connection.send)
        outcome = run_claim(claim, asked.tier, asked.seed, means, tested, asked.place)
        connection.send({name: what for name, what in vars(outcome).items() if name != "claim"})


def _seeing(gpu: int) -> dict[str, str]:
    """Variables that CUDA reads when it begins: one GPU, and products that round one way."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    chosen = seen.split(",")[gpu] if seen else str(gpu)
    return {"CUDA_VISIBLE_DEVICES": chosen, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
