"""What low-rank orthogonalisation costs beside five Newton-Schulz steps: flops and time, here.

Nothing here has been measured on an accelerator, of which the paper speaks.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from claims.registry import Claim, Evidence, Measurement, Setting
from geometry.flops import counted_flops, low_rank_msign_flops, orthogonalize_flops
from geometry.polar import msign, orthogonalize
from geometry.sketch import low_rank_msign
from simulate.turns import median_interval, times_in_turn

Array = NDArray[np.float64]

FULL, EXACT = "full", "exact SVD"
METHOD, STEPS = "muon", 5
# By name, a sketch and its power iterations.
SKETCHES: dict[str, tuple[str, int]] = {
    "columns": ("columns", 0),
    "Gaussian": ("gaussian", 0),
    "Gaussian, h = 1": ("gaussian", 1),
}
# From this size on low-rank is so many times as fast at the share l / m.
LARGE, TIMES, SHARE = 1024, 10.0, 1 / 16
# Less than one.
SLOWER = math.nextafter(1.0, 0.0)
EXACTLY = "counted flops less the formula's, largest"
STATED = "the formulas less what is stated, largest"


@dataclass(frozen=True)
class _Race:
    """At one size: seconds of every round by contestant, those of sketches by (name, rank)."""

    full: Array
    exact: float
    low_rank: Mapping[tuple[str, int], Array]

    def speedup(self, sketch: str, rank: int) -> tuple[float, float, float]:
        """Median over the rounds and its interval."""
        return median_interval(self.full / self.low_rank[sketch, rank])


def _matrix(setting: Setting, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(setting.seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _generator(setting: Setting) -> torch.Generator:
    return torch.Generator().manual_seed(setting.seed + 1)


def _low_rank(M: Tensor, rank: int, sketch: str, generator: torch.Generator) -> partial[Tensor]:
    method, iterations = SKETCHES[sketch]
    return partial(
        low_rank_msign, M, rank, method, power_iterations=iterations, generator=generator,
        orthogonalizer=METHOD, steps=STEPS,
    )  # fmt: skip


def _formula(m: int, n: int, rank: int, sketch: str) -> int:
    method, iterations = SKETCHES[sketch]
    return low_rank_msign_flops(
        m, n, rank, method, power_iterations=iterations, orthogonalizer=METHOD, steps=STEPS
    )


def _full_formula(m: int, n: int) -> int:
    return orthogonalize_flops(m, n, METHOD, STEPS)


def _race(setting: Setting, size: int) -> tuple[_Race, int]:
    """Everybody of one size takes turns; and by how much a count differs from its formula."""
    M, generator = _matrix(setting, size, size).float(), _generator(setting)
    ranks = [round(share * size) for share in setting["shares"][size]]
    full = partial(orthogonalize, M, METHOD, STEPS)
    sketched = {
        (sketch, rank): _low_rank(M, rank, sketch, generator)
        for sketch, rank in product(SKETCHES, ranks)
    }
    # The first call of each, which no clock sees, is counted.
    differences = [abs(counted_flops(full) - _full_formula(size, size))]
    for (sketch, rank), call in sketched.items():
        difference = abs(counted_flops(call) - _formula(size, size, rank, sketch))
        # With more vectors a sketch may be short of rank in float32, and that takes more to see.
        differences.append(difference if 2 * rank <= size else 0)
    names = {f"{sketch}, l = {rank}": (sketch, rank) for sketch, rank in sketched}
    calls = {FULL: full} | {name: sketched[key] for name, key in names.items()}
    # Claims run on one thread: what others do on its core in between is none of the time.
    taken = times_in_turn(calls, setting["rounds"][size], clock=time.thread_time)
    exact = math.nan
    if size <= setting["exact_up_to"]:
        (exact,) = times_in_turn({EXACT: partial(msign, M)}, 1, clock=time.thread_time)[EXACT]
    race = _Race(
        np.array(taken[FULL]), exact, {key: np.array(taken[name]) for name, key in names.items()}
    )
    return race, max(differences)


def _uncounted(setting: Setting, more: int) -> int:
    """The largest difference of count and formula at small shapes, ``more`` iterations run."""
    generator, differences = _generator(setting), [0]
    for (m, n), rank, oversampling, iterations, method, sketch in product(
        setting["counted_shapes"], setting["counted_ranks"], (0, 4), (0, 2),
        (METHOD, "cubic"), ("columns", "gaussian"),
    ):  # fmt: skip
        own: dict[str, Any] = {"oversampling": oversampling, "orthogonalizer": method}
        run = partial(
            low_rank_msign, _matrix(setting, m, n), rank, sketch, **own,
            power_iterations=iterations + more, generator=generator,
        )  # fmt: skip
        formula = low_rank_msign_flops(m, n, rank, sketch, **own, power_iterations=iterations)
        differences.append(abs(counted_flops(run) - formula))
    return max(differences)


def _off_stated(setting: Setting) -> int:
    """The largest difference of the formulas, full and by columns, from the statement's own."""
    apart = []
    for (m, n), l in product(setting["counted_shapes"], setting["counted_ranks"]):  # noqa: E741
        m, n = min(m, n), max(m, n)
        full = 5 * (4 * m * m * n + 2 * m**3)
        # A third of an operation is none.
        columns = 4 * m * n * l + (12 * m * l * l - 4 * l**3) // 3 + 5 * (4 * l * l * n + 2 * l**3)
        apart += [_full_formula(m, n) - full, _formula(m, n, l, "columns") - columns]
    return max(map(abs, apart))


def _at_the_bar(sketch: str, size: int, least: float) -> Measurement:
    return Measurement(f"full over {sketch}, m = n = {size}, lower end", least, ">=", TIMES)


def check_cost(setting: Setting) -> Evidence:
    """Of an m x n matrix, m <= n, Newton-Schulz by quintics takes 4 m^2 n + 2 m^3 flops a step.

    Low-rank by l drawn columns takes two products by M, 4 m n l, QR of m x l, and its steps on
    the l x n matrix Q^T M; a Gaussian sketch one product more, a power iteration two, and QR of
    n x l and of m x l. Five steps at m = n are 30 m^3 against, with x = l / m,
    (4 x + 24 x^2 + 26/3 x^3) m^3: 86 times as many at x = 1/16, as many at x = .909. At l = m the
    low-rank way is the full one, of Q^T M, and what surrounds it. Towards it a Gaussian
    sketch may be singular in float32, and has its directions cut off by an SVD, which is timed
    but not in the formula.

    Counts are those of torch's own counter in the code that is timed; of QR, which it does not
    count, by the formula, so the formulas are held to what is stated, too. Times: contestants take
    turns, and the ratio is that of the calls of one round, its median over the rounds with an
    interval from order statistics.
    """
    measurements, remarks, differences = [], [], [_uncounted(setting, 0)]
    races: dict[int, _Race] = {}
    sizes = list(setting["shares"])
    for size in sizes:
        races[size], difference = _race(setting, size)
        differences.append(difference)
        for sketch in SKETCHES:
            if size >= LARGE:
                _, low, _ = races[size].speedup(sketch, round(SHARE * size))
                measurements.append(_at_the_bar(sketch, size, low))
            elif size == sizes[0]:
                _, _, high = races[size].speedup(sketch, size)
                name = f"full over {sketch}, l = m = n = {size}, upper end"
                measurements.append(Measurement(name, high, "<=", SLOWER))
    measurements.append(Measurement(EXACTLY, np.max(differences), "<=", 0.0))
    measurements.append(Measurement(STATED, _off_stated(setting), "<=", 0.0))
    arrays = _arrays(setting, races)
    for place, size in enumerate(sizes):
        found = zip(SKETCHES, arrays["crossover"][place], strict=True)
        told = [f"{share:.2f} ({name})" for name, share in found if np.isfinite(share)]
        if told:
            remarks.append(f"m = n = {size}: as fast as full at l / m = {', '.join(told)}")
    expected = zip(SKETCHES, arrays["crossover_by_flops"][-1], strict=True)
    told = [f"{share:.2f} ({name})" for name, share in expected]
    remarks.append(f"by flops, m = n = {sizes[-1]}: at l / m = {', '.join(told)}")
    remarks.append("no accelerator, of which the paper speaks, was measured: one thread of a CPU")
    return Evidence(tuple(measurements), arrays, tuple(remarks))


def _arrays(setting: Setting, races: Mapping[int, _Race]) -> dict[str, NDArray[Any]]:
    """S sizes, H shares, K sketches; what was not run is NaN.

    ``seconds`` and ``flops`` (S, H, K), ``speedup`` (S, H, K), ``speedup_interval`` (S, H, K, 2);
    ``full_seconds``, ``full_flops`` and ``exact_seconds`` (S,); ``crossover``, the share from
    which on low-rank is slower, and ``crossover_by_flops`` (S, K).
    """
    shares = sorted({share for each in setting["shares"].values() for share in each})
    shape = len(races), len(shares), len(SKETCHES)
    seconds, flops = np.full(shape, np.nan), np.zeros(shape)
    speedup = np.full((*shape, 3), np.nan)
    for (i, size), (j, share), (k, sketch) in product(
        enumerate(races), enumerate(shares), enumerate(SKETCHES)
    ):
        rank = round(share * size)
        flops[i, j, k] = _formula(size, size, rank, sketch)
        if (sketch, rank) in races[size].low_rank:
            seconds[i, j, k] = np.median(races[size].low_rank[sketch, rank])
            speedup[i, j, k] = races[size].speedup(sketch, rank)
    return {
        "sizes": np.array(list(races)),
        "shares": np.array(shares),
        "sketches": np.array(list(SKETCHES)),
        "seconds": seconds,
        "speedup": speedup[..., 0],
        "speedup_interval": speedup[..., 1:],
        "flops": flops,
        "full_seconds": np.array([np.median(race.full) for race in races.values()]),
        "full_flops": np.array([_full_formula(size, size) for size in races]),
        "exact_seconds": np.array([race.exact for race in races.values()]),
        "crossover": np.array(
            [[_crossover(shares, speedup[i, :, k, 0]) for k in range(shape[2])]
             for i in range(shape[0])]
        ),
        "crossover_by_flops": np.array(
            [[_crossover_by_flops(size, sketch) for sketch in SKETCHES] for size in races]
        ),
    }  # fmt: skip


def _crossover(shares: list[float], speedups: Array) -> float:
    """Where the speed-up, a power of the share between those that were run, falls to 1."""
    run = [(share, up) for share, up in zip(shares, speedups, strict=True) if np.isfinite(up)]
    for (left, above), (right, below) in pairwise(run):
        if above >= 1 > below:
            return float(left * (right / left) ** (math.log(above) / math.log(above / below)))
    return math.nan


def _crossover_by_flops(size: int, sketch: str) -> float:
    """The largest share at which low-rank takes no more flops than full."""
    counts = partial(_formula, size, size, sketch=sketch)
    return bisect_right(range(1, size + 1), _full_formula(size, size), key=counts) / size


def control_full_rank(setting: Setting) -> Evidence:
    """l = m in place of l = m / 16: a product by Q more than full, and QR."""
    size = next(size for size in setting["shares"] if size >= LARGE)
    M = _matrix(setting, size, size).float()
    sketched = _low_rank(M, size, "columns", _generator(setting))
    calls = {FULL: partial(orthogonalize, M, METHOD, STEPS), "columns": sketched}
    taken = times_in_turn(calls, setting["control_rounds"], clock=time.thread_time)
    _, low, _ = median_interval(np.array(taken[FULL]) / np.array(taken["columns"]))
    return Evidence((_at_the_bar("columns", size, low),))


def control_uncounted(setting: Setting) -> Evidence:
    """One power iteration more is run than the formula is told of."""
    return Evidence((Measurement(EXACTLY, _uncounted(setting, 1), "<=", 0.0),))


EVERY = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0)

CLAIMS = (
    Claim(
        id="low-rank.cost",
        paper="low-rank",
        title="Low-rank orthogonalisation costs a fraction of Newton-Schulz, up to l near m",
        statement=(
            r"Five quintic steps take $5(4m^2n + 2m^3)$ flops; within $l$ drawn columns "
            r"$4mnl + 4ml^2 - \frac{4}{3}l^3 + 5(4l^2n + 2l^3)$. "
            rf"At $m = n \ge {LARGE}$, $l = m/16$ that is at least {TIMES:g} times as fast; "
            r"at $l = m$ it is slower."
        ),
        reference="He, Deng, Lu, arXiv 2509.11983 (speed); flop counts derived",
        source="paper",
        setup="Gaussian m = n, float32, CPU time of one thread, Keller Jordan's five steps on M "
        "or on Q^T M; columns, Gaussian sketches, and one power iteration. Accelerators were not "
        "measured",
        criterion="flops: torch's count equals the formula, l <= m / 2, and the formula what is "
        "stated. Time: lower end of the "
        f"median's 95% interval of full over low-rank at least {TIMES:g} at l = m / 16 from "
        f"{LARGE} on; upper end below 1 at l = m, at the least size",
        check=check_cost,
        stays="it times operations on the CPU",
        dtypes=(),
        seconds=8,
        controls={"l = m": control_full_rank, "an iteration uncounted": control_uncounted},
        tiers={
            "quick": {
                "shares": {
                    256: (1 / 16, 1 / 4, 1 / 2, 3 / 4, 1.0),
                    1024: (1 / 16,),
                },
                "rounds": {256: 9, 1024: 6},
                "control_rounds": 1,
                "exact_up_to": 256,
                "counted_shapes": ((24, 40), (40, 24)),
                "counted_ranks": (1, 20),
            },
            "full": {
                "shares": {
                    256: EVERY,
                    512: EVERY,
                    1024: EVERY,
                    2048: (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4),
                },
                "rounds": {256: 25, 512: 11, 1024: 6, 2048: 6},
                "control_rounds": 2,
                "exact_up_to": 2048,
                "counted_shapes": ((24, 40), (40, 24), (32, 32), (25, 300)),
                "counted_ranks": (1, 7, 20),
            },
        },
    ),
)
