"""What a step of LoRA-Muon costs beside the QR forms, Riemannion and dense Muon: time and memory.

On this CPU: nothing here has been measured on an accelerator, of which the paper speaks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.optim import Optimizer

from claims.lora_muon.matrices import REFERENCE, Make
from claims.registry import Claim, Evidence, Measurement, Setting
from simulate.optimizers import LoRAMuon, LoRARite, LoRARiteCore, Muon, Riemannion
from simulate.step_costs import Trace, numbers_kept, with_gradient
from simulate.turns import median_interval, times_in_turn

Array = NDArray[np.float64]

OURS, PRODUCTS = "LoRA-Muon", "LoRA-Muon, matrix products"
CORE, CORE_PRODUCTS, RITE = "LoRA-RITE's core", "LoRA-RITE's core, matrix products", "LoRA-RITE"
DENSE, RIEMANNION = "dense Muon", "Riemannion"
PAPERS = "lora_muon"
FACTORED: dict[str, Make] = {
    OURS: LoRAMuon,
    PRODUCTS: partial(LoRAMuon, orthogonalizer=PAPERS, root="newton_schulz"),
    CORE: LoRARiteCore,
    CORE_PRODUCTS: partial(LoRARiteCore, orthogonalizer=PAPERS),
    RITE: LoRARite,
}
QR_FORMS = (CORE, CORE_PRODUCTS, RITE)
# Its step takes too long for as many rounds.
SLOW: dict[str, Make] = {RIEMANNION: Riemannion}
# The statement is about ranks from here on; at it, the dense step is timed.
RANK = 16
# How many times as long the dense step takes, from this size on; below it has to be slower.
LARGE, TIMES = 4096, 20.0
LIKE_NUMERICS = "in matrix products, over QR with the same orthogonaliser"
# Less than one.
FASTER = math.nextafter(1.0, 0.0)


@dataclass(frozen=True)
class _Costs:
    """Of every contestant: seconds of its steps, round by round, numbers kept, and bytes and
    entries of the largest tensor that a step makes."""

    seconds: Mapping[str, Array]
    kept: Mapping[str, int]
    entries: Mapping[str, int]
    bytes: Mapping[str, int]

    def fastest(self, names: Sequence[str]) -> str:
        return min(names, key=lambda name: float(np.median(self.seconds[name])))


def _costs(optimizers: Mapping[str, Optimizer], rounds: int) -> _Costs:
    seen = {name: Trace() for name in optimizers}
    for name, optimizer in optimizers.items():
        # The first step makes the state, the second is one like all that follow.
        with seen[name]:
            optimizer.step()
            optimizer.step()
    # Claims run on one thread: what others do on its core in between is none of the step's time.
    steps = {name: optimizer.step for name, optimizer in optimizers.items()}
    taken = times_in_turn(steps, rounds, clock=time.thread_time)
    return _Costs(
        {name: np.array(times) for name, times in taken.items()},
        {name: numbers_kept(optimizer) for name, optimizer in optimizers.items()},
        {name: trace.largest for name, trace in seen.items()},
        {name: trace.largest_bytes for name, trace in seen.items()},
    )


def _optimizer(setting: Setting, name: str, size: int, rank: int) -> Optimizer:
    if name == DENSE:
        # Five steps in bfloat16, which is faster on this CPU than in float32.
        return Muon([with_gradient(size, size, seed=setting.seed)])
    B = with_gradient(size, rank, seed=setting.seed)
    return (FACTORED | SLOW)[name]([(B, with_gradient(rank, size, seed=setting.seed + 1))])


def _race(setting: Setting, names: Sequence[str], size: int, rank: int, rounds: int) -> _Costs:
    return _costs({name: _optimizer(setting, name, size, rank) for name in names}, rounds)


def _contest(setting: Setting, own: str, sizes: Sequence[int], ranks: Sequence[int]) -> Evidence:
    """``own`` in LoRA-Muon's place."""
    measurements: list[Measurement] = []
    remarks = [
        "no accelerator, of which the paper speaks, was measured: one thread of a CPU, float32"
    ]
    names = list(dict.fromkeys([own, *FACTORED]))
    races: dict[tuple[int, int], _Costs] = {}
    dense: dict[int, _Costs] = {}
    for size, rank in product(sizes, ranks):
        # The dense step takes a hundred times as long.
        rounds = setting["dense_rounds"] if own == DENSE else setting["rounds"][rank]
        race = races[size, rank] = _race(setting, names, size, rank, rounds)
        rival = race.fastest(QR_FORMS)
        compared = [("over the fastest QR form", own, rival, race)]
        if own == OURS:
            compared.append((LIKE_NUMERICS, PRODUCTS, CORE_PRODUCTS, race))
            compared.append(("in matrix products, over the fastest QR form", PRODUCTS, rival, race))
            if rank in setting["slow_ranks"]:
                slow = _race(setting, [own, RIEMANNION], size, rank, setting["slow_rounds"])
                compared.append(("beside the manifold's", own, RIEMANNION, slow))
        for text, one, other, raced in compared:
            middle, low, high = median_interval(raced.seconds[one] / raced.seconds[other])
            where = f"{text}, m = n = {size}, r = {rank}"
            remarks.append(f"{where} ({other}): {middle:.2f} [{low:.2f}, {high:.2f}]")
            # Matrix products beside exact numerics by LAPACK are told, and not judged.
            if rank >= RANK and (one == own or text == LIKE_NUMERICS):
                measurements.append(Measurement(f"step {where}, upper end", high, "<=", FASTER))
    timed = [size for size in sizes if own == OURS and size <= setting["dense_up_to"]]
    for size in timed:
        race = dense[size] = _race(setting, [own, DENSE], size, RANK, setting["dense_rounds"])
        least = float(np.min(race.seconds[DENSE] / race.seconds[own]))
        name = f"dense step over it, m = n = {size}, r = {RANK}, lower end"
        measurements.append(Measurement(name, least, ">=", TIMES if size >= LARGE else 1.0))
    kept = max(race.kept[own] / (2 * size * rank) for (size, rank), race in races.items())
    entries = max(race.entries[own] / (size * rank) for (size, rank), race in races.items())
    measurements += [
        Measurement("numbers kept over (m + n) r, most", kept, "<=", 1.0),
        Measurement("entries of the largest tensor over m r, most", entries, "<=", 1.0),
    ]
    return Evidence(tuple(measurements), _arrays(sizes, ranks, races, dense), tuple(remarks))


def _arrays(
    sizes: Sequence[int],
    ranks: Sequence[int],
    races: Mapping[tuple[int, int], _Costs],
    dense: Mapping[int, _Costs],
) -> dict[str, NDArray[Any]]:
    """(sizes, ranks, contestants): medians of the times and their intervals, and what memory.

    Of the dense step (sizes,), NaN where it was not run.
    """

    def of_all(quantity: str) -> NDArray[Any]:
        found = [
            getattr(races[size, rank], quantity)[name]
            for size, rank, name in product(sizes, ranks, FACTORED)
        ]
        if quantity == "seconds":
            found = [median_interval(times) for times in found]
        return np.array(found).reshape(len(sizes), len(ranks), len(FACTORED), -1)

    def of_dense(quantity: str) -> NDArray[Any]:
        found = (getattr(dense[x], quantity)[DENSE] if x in dense else np.nan for x in sizes)
        return np.array([float(np.median(values)) for values in found])

    seconds = of_all("seconds")
    return {
        "sizes": np.array(sizes),
        "ranks": np.array(ranks),
        "contestants": np.array(list(FACTORED)),
        "seconds": seconds[..., 0],
        "seconds_interval": seconds[..., 1:],
        "kept": of_all("kept")[..., 0],
        "largest_bytes": of_all("bytes")[..., 0],
        "dense_seconds": of_dense("seconds"),
        "dense_kept": of_dense("kept"),
        "dense_largest_bytes": of_dense("bytes"),
    }


def check_step_time(setting: Setting) -> Evidence:
    """Flops of a pair of rank r: LoRA-Muon multiplies each factor and gradient by itself and one
    gradient by an r x r matrix, 6 (m + n) r^2 in all; QR and triangular solves are as many and
    more, in panels of columns instead of blocks. A dense step has 30 n^3 or so at m = n.

    What a step takes is measured: contestants take turns, and the ratio is that of the steps of
    one round, its median over the rounds with an interval from order statistics. The QR form is
    the fastest of LoRA-RITE's core, exact or with the paper's orthogonaliser, and LoRA-RITE.
    """
    return _contest(setting, OURS, setting["sizes"], setting["ranks"])


def control_core(setting: Setting) -> Evidence:
    """LoRA-RITE's core in LoRA-Muon's place: no QR form is faster than the fastest."""
    return _contest(setting, CORE, setting["sizes"][:1], setting["ranks"][-1:])


def control_dense(setting: Setting) -> Evidence:
    """Dense Muon in LoRA-Muon's place."""
    return _contest(setting, DENSE, setting["sizes"][:1], setting["ranks"][-1:])


CLAIMS = (
    Claim(
        id="lora-muon.adapter-step-time",
        paper="lora-muon",
        title="A step is faster than the QR forms and far faster than the dense one",
        statement=(
            r"A step of LoRA-Muon takes less time than one of LoRA-RITE, its core or Riemannion, "
            rf"all by QR, at $r \ge {RANK}$, and a fraction of dense Muon's; it keeps "
            r"$(m + n) r$ numbers and makes no tensor larger than a factor."
        ),
        reference=REFERENCE,
        source="paper",
        setup="one pair, m = n, float32, CPU time of one thread; dense Muon with five steps of "
        "Newton-Schulz in bfloat16. Accelerators were not measured",
        criterion="ratio of the steps of one round: upper end of the median's 95% interval below "
        f"1 at r >= {RANK}; dense over it at least {TIMES:g} from {LARGE} on, above 1 below; "
        "memory counted",
        check=check_step_time,
        stays="it times steps on the CPU",
        dtypes=(),
        seconds=8,
        controls={"LoRA-RITE's core": control_core, "dense Muon": control_dense},
        tiers={
            "quick": {
                "sizes": (1024, 2048),
                "ranks": (16, 64),
                "rounds": {16: 61, 64: 31},
                "slow_ranks": (16,),
                "slow_rounds": 7,
                "dense_up_to": 1024,
                "dense_rounds": 2,
            },
            "full": {
                "sizes": (1024, 2048, 4096),
                "ranks": (4, 16, 64),
                "rounds": {4: 101, 16: 301, 64: 101},
                "slow_ranks": (4, 16, 64),
                "slow_rounds": 15,
                "dense_up_to": 4096,
            },
        },
    ),
)
