"""References on disk, for they can take minutes: each made once, under what it depends on."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import scipy
import torch

import flows
import geometry
from benchmarks.case import FlowCase
from benchmarks.reference import Reference, Yardstick, make
from simulate.atomic import write_atomically


class References:
    """A folder of references, each an .npz named by what it was made from and of."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say

    def of(self, case: FlowCase, seeds: Sequence[int], yardstick: Yardstick) -> Reference:
        """The reference of the core of ``case``, read where it is whole, else made and written."""
        core, seeds = case.core, list(seeds)
        path = self.folder / f"{key(core, seeds, yardstick)}.npz"
        if path.exists():
            try:
                return read(path, core, len(seeds))
            except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
                self.say(f"{path} is damaged ({error}): made again")
        self.say(f"reference: {yardstick.how}, beta {core.beta:g}, {len(seeds)} seeds")
        reference = make(core, seeds, yardstick, self.of)
        write(path, reference)
        return reference


def key(case: FlowCase, seeds: Sequence[int], yardstick: Yardstick) -> str:
    """What the reference depends on, as a name for a file.

    The starts and the target are in it as numbers, so that one drawn otherwise is another; this
    package's integrator is in it as its source.
    """
    fields = {name: value for name, value in asdict(case).items() if name != "error_bound"}
    digest = hashlib.sha256()
    versions = (np.__version__, scipy.__version__, torch.__version__)
    code = _sources() if yardstick.how == "flows" else ""
    content = [fields, list(seeds), asdict(yardstick), versions, code]
    digest.update(json.dumps(content, sort_keys=True).encode())
    for tensor in (*case.starts(seeds), case.problem.left, case.problem.right):
        digest.update(tensor.contiguous().numpy().tobytes())
    name = yardstick.how.replace(" ", "-")
    return f"{name}-beta-{case.beta:g}-{len(seeds)}-seeds-{digest.hexdigest()[:16]}"


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    for room in (geometry, flows):
        for path in sorted(Path(str(room.__file__)).parent.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read(path: Path, case: FlowCase, seeds: int) -> Reference:
    """The reference in ``path``. Raises an OSError, KeyError, ValueError, ... where it is none."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        B, A = file["B"], file["A"]
        source, doubt = str(file["source"]), float(file["doubt"])
    lead = (seeds, case.grid)
    expected = ((*lead, case.m, case.rank), (*lead, case.rank, case.n))
    if (B.shape, A.shape) != expected:
        raise ValueError(f"shapes {expected} are expected; given {(B.shape, A.shape)}")
    return Reference((B, A), source, doubt)


def write(path: Path, reference: Reference) -> None:
    """Write ``path`` atomically."""
    B, A = reference.factors
    source, doubt = np.array(reference.source), np.array(reference.doubt)
    write_atomically(path, lambda stream: np.savez(stream, B=B, A=A, source=source, doubt=doubt))
