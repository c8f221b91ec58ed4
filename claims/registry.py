"""What a claim is, and what its evidence is.

A claim is declared, not programmed: a statement, a check, and controls that must fail by the very
criterion the check meets. How a verdict follows is told in :mod:`claims.judging`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from numpy.typing import NDArray

from claims.requirements import real_number, require_function, require_id
from geometry.names import unknown_name

if TYPE_CHECKING:
    import torch

Relation = Literal["<=", ">=", "within"]
Source = Literal["paper", "derived", "related"]
# [(B, A), ...], lr and options to an optimiser.
Make = Callable[..., Any]
TIERS = ("quick", "full", "paper")
DEVICES = ("cpu", "cuda")
DTYPES = ("float64", "float32", "bfloat16")
# Where training goes by rates and not by round-off.
TRAINS_IN = ("float64", "float32", "bfloat16")
# Where a criterion counts in round-offs of the dtype, or has room for them.
ROUNDS_IN = ("float64", "float32")


class Verdict(StrEnum):
    """The six things that can be said of a claim once it was run."""

    HOLDS = "HOLDS"
    FAILS = "FAILS"
    VACUOUS = "VACUOUS"
    REFUTED = "REFUTED"
    ERROR = "ERROR"
    SKIPPED = "SKIPPED"


EXPECTABLE = (Verdict.HOLDS, Verdict.REFUTED)


@dataclass(frozen=True)
class Measurement:
    """One number, the relation it has to stand in, and the bound.

    ``relation`` is ``"<="`` or ``">="`` with a float bound, or ``"within"`` with a pair
    (lowest, highest). A NaN never holds. Whatever is one real number, of numpy or torch too, is
    kept as a float.
    """

    name: str
    value: float
    relation: Relation
    bound: float | tuple[float, float]

    def __post_init__(self) -> None:
        if self.relation not in ("<=", ">=", "within"):
            raise unknown_name("relation", self.relation, ("<=", ">=", "within"))
        told = f"measurement {self.name!r}"
        if not isinstance(self.name, str):
            raise TypeError(f"{told}: a name in words is expected")
        band = isinstance(self.bound, tuple)
        edges: Any = self.bound if band else (self.bound,)
        if (self.relation == "within") != band or len(edges) != 1 + band:
            raise ValueError(
                f"{told}: the bound {self.bound!r} does not fit the relation "
                f"{self.relation!r}; 'within' takes a pair, '<=' and '>=' a number"
            )
        edges = tuple(real_number(f"{told}, bound", edge) for edge in edges)
        object.__setattr__(self, "value", real_number(f"{told}, value", self.value))
        object.__setattr__(self, "bound", edges if band else edges[0])

    @property
    def holds(self) -> bool:
        if isinstance(self.bound, tuple):
            return self.bound[0] <= self.value <= self.bound[1]
        return self.value <= self.bound if self.relation == "<=" else self.value >= self.bound

    @property
    def broken(self) -> bool:
        """Whether there is no number."""
        return math.isnan(self.value)

    @property
    def margin(self) -> float:
        """How much room is left, as a share of the bound: 1 is all of it, 0 none, < 0 a violation.

        For a one-sided bound it is the distance to the bound over the bound's size (1 where the
        bound is 0 and the value is inside); for a band the distance to the nearer edge over half
        its width.
        """
        if self.broken:
            return -math.inf
        if isinstance(self.bound, tuple):
            lowest, highest = self.bound
            slack, scale = min(self.value - lowest, highest - self.value), (highest - lowest) / 2
        else:
            slack = self.bound - self.value if self.relation == "<=" else self.value - self.bound
            scale = abs(self.bound)
        if scale == 0.0:
            return 1.0 if slack >= 0 else -math.inf
        return slack / scale

    @property
    def criterion(self) -> tuple[str, Relation, float | tuple[float, float]]:
        """Everything but the value: what a control has to share with its check."""
        return self.name, self.relation, self.bound


@dataclass(frozen=True)
class Evidence:
    """What a check (or a control) measured, and the arrays behind it.

    ``remarks`` are sentences for the report: what the numbers do not say by themselves.
    ``counterexample`` is the sentence that states it, where a statement is refuted.
    """

    measurements: tuple[Measurement, ...]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    counterexample: str | None = None

    def __post_init__(self) -> None:
        for name, given, kind in (
            ("measurements", self.measurements, Measurement),
            ("remarks", self.remarks, str),
        ):
            # Without its comma a tuple of one text would be a tuple of letters.
            if not (isinstance(given, tuple | list) and all(isinstance(x, kind) for x in given)):
                raise TypeError(
                    f"the {name} of evidence: a tuple of {kind.__name__} is expected; given "
                    f"{given!r:.80}"
                )
        if not isinstance(self.arrays, Mapping):
            raise TypeError(f"arrays by name are expected in evidence; given {self.arrays!r:.80}")
        if not self.measurements:
            raise ValueError("evidence needs at least one measurement; none was given")
        names = [measurement.name for measurement in self.measurements]
        if len(set(names)) != len(names):
            raise ValueError(f"measurement names must differ; given {names}")

    @property
    def holds(self) -> bool:
        return all(measurement.holds for measurement in self.measurements)

    def also(self, *measurements: Measurement) -> Evidence:
        """The same with further measurements."""
        return replace(self, measurements=(*self.measurements, *measurements))


def _nobody(_: float) -> None:
    return None


@dataclass(frozen=True)
class Means:
    """What a long check may use. No number may depend on it.

    Attributes:
        store: a folder in which to keep finished parts, for a run that goes on; None for none.
        processes: that it may have, its own included.
        progress: to be told which share of the work is done, 0 to 1.
    """

    store: Path | None = None
    processes: int = 1
    progress: Callable[[float], object] = _nobody


# One process, and nothing kept.
ALONE = Means()


@dataclass(frozen=True)
class Place:
    """Where claims are asked to compute, and in what.

    Attributes:
        device: a name in ``DEVICES``.
        dtype: a name in ``DTYPES``, or None for each claim's own.
    """

    device: str = "cpu"
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise unknown_name("device", self.device, DEVICES)
        if self.dtype not in (None, *DTYPES):
            raise unknown_name("dtype", str(self.dtype), DTYPES)


# The CPU, and every claim's own dtype.
HERE = Place()


@dataclass(frozen=True)
class Setting:
    """Where a claim is run: the tier, its table of sizes, and seeds that belong to the claim alone.

    ``seed`` is derived from the claim's id and the run's seed, so a verdict depends neither on
    the order of claims nor on which of them were chosen.

    ``subject`` makes the optimiser under test, in a run that has one.
    ``place`` has the device and the dtype that were asked for.
    """

    tier: str
    seed: int
    sizes: Mapping[str, Any]
    means: Means = ALONE
    subject: Make | None = None
    place: Place = HERE

    def __getitem__(self, size: str) -> Any:
        if size not in self.sizes:
            raise unknown_name("size", size, self.sizes)
        return self.sizes[size]

    def seeds(self, count: int) -> range:
        """``count`` consecutive seeds; none is ever dropped."""
        return range(self.seed, self.seed + count)

    @property
    def device(self) -> str:
        """Where to compute; what is drawn at random is drawn on the CPU, and then moved."""
        return self.place.device

    def dtype(self, own: torch.dtype) -> torch.dtype:
        """What to compute in: the dtype that was asked for, or the claim's own."""
        import torch

        return own if self.place.dtype is None else getattr(torch, self.place.dtype)

    def optimizer(self, own: Make, **options: Any) -> Make:
        """The subject under test, or the claim's own optimiser with its options.

        A subject is called with what it optimises and ``lr`` alone: its options are its own.
        """
        return partial(own, **options) if self.subject is None else self.subject


Check = Callable[[Setting], Evidence]


def _no_skip(_: Setting) -> str | None:
    return None


@dataclass(frozen=True)
class Claim:
    """A statement that can be run.

    ``statement`` is a sentence with LaTeX between dollar signs; the derivation is the docstring
    of ``check``. ``tiers`` maps quick, full and paper to sizes: a tier inherits what it does not
    name from the tier before it. Every control runs with the same setting as the check.
    ``skip`` returns the reason why the claim cannot run in a setting, or None.
    ``seconds`` is about what the quick tier takes on one core: where no earlier run is known, the
    longest claims are started first.
    ``subject`` says what the optimisers take that the statement can be asked of, where it is not
    about the paper's own alone; the check then takes its optimiser from :meth:`Setting.optimizer`.
    ``devices`` are where it can be asked to run, and ``dtypes`` in what: those in which its
    criterion says the same. Check and controls take both from the setting
    (:attr:`Setting.device`, :meth:`Setting.dtype`), but where float64 is the only one; of those
    that compare dtypes, or time one, there is none. ``stays`` is why it runs nowhere else.
    """

    id: str
    paper: str
    title: str
    statement: str
    reference: str
    source: Source
    setup: str
    criterion: str
    check: Check
    controls: Mapping[str, Check]
    tiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expected: Verdict = Verdict.HOLDS
    skip: Callable[[Setting], str | None] = _no_skip
    seconds: float = 1.0
    subject: Literal["pairs", "matrices"] | None = None
    devices: tuple[str, ...] = ("cpu",)
    dtypes: tuple[str, ...] = ("float64",)
    stays: str = "it is stated and measured in float64 on the CPU"

    def __post_init__(self) -> None:
        require_id(self.id)
        for name, given, kind, wanted in (
            ("controls", self.controls, Mapping, "{'name': control}"),
            ("tiers", self.tiers, Mapping, "{'quick': {'seeds': 10}}"),
            ("devices", self.devices, tuple, "('cpu', 'cuda')"),
            ("dtypes", self.dtypes, tuple, "('float64',)"),
        ):
            if not isinstance(given, kind):
                raise TypeError(
                    f"claim {self.id!r}: {name} such as {wanted} are expected; given {given!r:.80}"
                )
        for name, given, known in (
            ("source", (self.source,), get_args(Source)),
            ("device", self.devices, DEVICES),
            ("dtype", self.dtypes, DTYPES),
            ("tier", self.tiers, TIERS),
            ("subject", (self.subject or "pairs",), ("pairs", "matrices")),
        ):
            for each in given:
                if each not in known:
                    raise unknown_name(name, each, known)
        if not self.controls:
            raise ValueError(f"claim {self.id!r} has no control, so it would prove nothing")
        for name, part in {"check": self.check, "skip": self.skip, **self.controls}.items():
            require_function(f"claim {self.id!r}: {name}", part)
        # A text equals the verdict of its name, and would be judged as the other one.
        if not isinstance(self.expected, Verdict) or self.expected not in EXPECTABLE:
            raise ValueError(
                f"claim {self.id!r} expects {self.expected!r}; HOLDS and REFUTED can be expected, "
                "of claims.registry.Verdict"
            )

    def unfit(self, place: Place) -> str | None:
        """Why the claim cannot be asked to run at a place, or None."""
        if place.device not in self.devices:
            return f"not on {place.device}: {self.stays}"
        if place.dtype not in (None, *self.dtypes):
            stated = ", ".join(self.dtypes) or "dtypes of its own"
            return f"not in {place.dtype}: its criterion is stated for {stated}"
        return None

    def skipped(self, setting: Setting) -> str | None:
        """Why the claim cannot run in a setting, or None."""
        reason = self.unfit(setting.place) or self.skip(setting)
        if not (reason is None or (isinstance(reason, str) and reason)):
            raise TypeError(
                f"claim {self.id!r}: skip is to return why it cannot run, or None; given {reason!r}"
            )
        return reason

    def setting(
        self,
        tier: str,
        seed: int,
        means: Means = ALONE,
        subject: Make | None = None,
        place: Place = HERE,
    ) -> Setting:
        """The sizes of ``tier`` and the seed of this claim within a run seeded with ``seed``."""
        if tier not in TIERS:
            raise unknown_name("tier", tier, TIERS)
        sizes: dict[str, Any] = {}
        for name in TIERS[: TIERS.index(tier) + 1]:
            sizes.update(self.tiers.get(name, {}))
        digest = hashlib.sha256(f"{self.id}:{seed}".encode()).digest()
        own = int.from_bytes(digest[:4], "big")
        return Setting(tier, own, MappingProxyType(sizes), means, subject, place)


class Registry:
    """Claims by id, in the order they were declared."""

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._claims: dict[str, Claim] = {}
        for claim in claims:
            if not isinstance(claim, Claim):
                raise TypeError(f"claims are expected, *CLAIMS of a paper; given {claim!r:.80}")
            if claim.id in self._claims:
                raise ValueError(f"two claims are called {claim.id!r}")
            self._claims[claim.id] = claim

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._claims.values())

    def __len__(self) -> int:
        return len(self._claims)

    def __getitem__(self, identifier: str) -> Claim:
        if identifier not in self._claims:
            raise unknown_name("claim", identifier, self._claims)
        return self._claims[identifier]

    @property
    def papers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(claim.paper for claim in self))
