"""Tensorion beside Muon on the flattened tensor and AdamW: how fast, how stable, how good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from claims.measuring.intervals import Array, geometric_mean_with_interval, mean_with_interval
from claims.measuring.tuned import steps_to
from claims.measuring.written_out import (
    Formula,
    adamw,
    as_written_out,
    heavy_ball,
    made_by,
    of,
    quintic,
    steps_off,
)
from claims.registry import DEVICES, TRAINS_IN, Claim, Evidence, Measurement, Setting, Verdict
from claims.tensorion.arenas import Arena, Ran, completion, digits, regression, run_in
from claims.tensorion.tensors import nuclear_norms, split, splits
from simulate.cells import Contestant
from simulate.optimizers import MemberAdamW, Muon, Tensorion

# Alike for all that orthogonalise: five steps of Keller Jordan's quintic, heavy-ball momentum .95,
# rates by .2 root(max(m, n)) of the matrix that is orthogonalised.
OPTIONS: dict[str, Any] = {
    "momentum": 0.95,
    "nesterov": False,
    "weight_decay": 0.0,
    "adjust_lr_fn": "match_rms_adamw",
    "orthogonalizer": "muon",
}
# Less than this is no difference.
MARGIN = 0.01


def tensorion(parameters: list[Tensor], lr: Tensor, unfolding: Any = "online") -> Optimizer:
    """Every parameter (E, ...) a tensor of all dimensions but the first."""
    # A matrix has one unfolding.
    groups = [
        {"params": [p], "order": p.ndim - 1, "unfolding": unfolding if p.ndim > 3 else "online"}
        for p in parameters
    ]
    return Tensorion(groups, lr=lr, **OPTIONS)


def muon(parameters: list[Tensor], lr: Tensor) -> Optimizer:
    """Of matrices."""
    return Muon(parameters, lr=lr, **OPTIONS)


OURS, FLAT, ADAMW = "Tensorion", "Muon, flattened", "AdamW"
TENSORION = Contestant(OURS, tensorion)
CONTESTANTS: Mapping[str, Contestant] = {
    OURS: TENSORION,
    "Tensorion, offline": Contestant("Tensorion, offline", tensorion, {"unfolding": "offline"}),
    # The outputs against all else, as Muon's users flatten a kernel.
    FLAT: Contestant(FLAT, tensorion, {"unfolding": (0,)}),
    ADAMW: Contestant(ADAMW, MemberAdamW, {"weight_decay": 0.0}),
}
RIVALS = (FLAT, ADAMW)


def _arenas(setting: Setting) -> dict[str, Arena]:
    return {
        "tensor regression": regression(setting, setting["regression"], (2,) * 4),
        "tensor completion": completion(
            setting, setting["completion"], (2, 2, 2), setting["trained"]
        ),
        "convolutions": digits(setting, setting["widths"]),
    }


def _targets(ran: Mapping[str, Ran]) -> Array:
    """(S,) half of the way, in logarithm, from the start to the least loss at the end of any."""
    start = np.array([each.curves[:, 0] for each in ran.values()]).max(0)
    end = np.array([each.tuned.losses for each in ran.values()]).min(0)
    return np.asarray(np.sqrt(start * end))


def _log_steps(arena: Arena, ran: Mapping[str, Ran]) -> dict[str, Array]:
    """(S,) log of the steps to the target."""
    targets = _targets(ran)
    return {
        name: np.log(np.maximum(steps_to(arena.steps, each.curves, targets), 1.0))
        for name, each in ran.items()
    }


def _differences(arena: Arena, ran: Mapping[str, Ran], rivals: Sequence[str]) -> Array:
    """(rivals, 3, S): Tensorion less each rival in log steps, log final loss, sensitivity."""
    steps = _log_steps(arena, ran)

    def measured(name: str) -> Array:
        each = ran[name]
        return np.stack([steps[name], np.log(each.tuned.losses), each.sensitivity])

    return np.stack([measured(OURS) - measured(rival) for rival in rivals])


def _judged(differences: Array, edges: int) -> tuple[Measurement, ...]:
    """(tasks x rivals, 3, S): whether Tensorion is slower anywhere, and all of them tuned."""
    slower = _ends(differences, 0)[:, 0].max()
    return (
        Measurement(
            "log of Tensorion's steps over a rival's, largest lower end", slower, ">=", MARGIN
        ),
        Measurement("best rates left at an edge, of those compared", edges, "<=", 0),
    )


def _ends(differences: Array, what: int) -> Array:
    """(tasks x rivals, 2): intervals as wide as so many comparisons ask for (Bonferroni)."""
    confidence = 1 - 0.05 / len(differences)
    return np.array([mean_with_interval(each, confidence)[1:] for each in differences[:, what]])


def _counted(differences: Array) -> str:
    """In how many comparisons an interval lies on which side of no difference."""
    told = []
    for what, name in enumerate(("fewer steps", "a lower loss", "less lost beside the best rate")):
        ends = _ends(differences, what)
        better, worse = (ends[:, 1] < 0).sum(), (ends[:, 0] > 0).sum()
        told.append(f"{name} in {better}, the opposite in {worse}")
    return f"of {len(differences)} comparisons Tensorion has {'; '.join(told)}"


def _factor(values: Array) -> str:
    mean, low, high = (float(np.exp(x)) for x in mean_with_interval(values))
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def _told(task: str, ran: Mapping[str, Ran], differences: Array) -> list[str]:
    told = [
        f"{task}, Tensorion over {rival}: steps {_factor(speed)}, final loss {_factor(final)}, "
        f"what half a decade off the rate costs {_factor(stability)}"
        for rival, (speed, final, stability) in zip(RIVALS, differences, strict=True)
    ]
    each = "; ".join(
        f"{name} {np.exp(np.log(x.tuned.losses).mean()):.3g} at {x.tuned.rate:.2g}"
        f"{' (an edge)' if x.tuned.tuning.at_edge else ''}, deviation over seeds "
        f"{np.log(x.tuned.losses).std(ddof=1):.2f}"
        for name, x in ran.items()
    )
    return [*told, f"{task}, final losses, geometric means: {each}"]


def check_convergence(setting: Setting) -> Evidence:
    """Nothing is derived: a comparison on three tasks, all tuned by one protocol.

    Defined before looking. Faster: fewer steps to half of the way, in logarithm, from the start to
    the least final loss of any contestant, seed by seed; one that never comes there has all
    steps. More stable: the loss at a rate half a decade off the best, to both sides, over that at
    the best. Both paired by seed: starts, batches and data are the same. The statement asks for
    both, against both rivals, on every task; more steps in one of them refute it. What the
    intervals say of the rest is told.

    A Tensorion that is broken would be slower as well: three steps of all that are compared are
    held to their formulas, written out.
    """
    arenas, differences, remarks = _arenas(setting), [], []
    arrays: dict[str, Array] = {"contestants": np.array(list(CONTESTANTS))}
    counter: dict[str, float] = {}
    edges = 0
    for done, (task, arena) in enumerate(arenas.items()):
        ran = run_in(arena, CONTESTANTS)
        setting.means.progress((done + 1) / len(arenas))
        found = _differences(arena, ran, RIVALS)
        differences.append(found)
        edges += _edges(ran, (OURS, *RIVALS))
        remarks.extend(_told(task, ran, found))
        for rival, (speed, *_) in zip(RIVALS, found, strict=True):
            told = f"{task}: {_factor(speed)} times as many steps as {rival}"
            counter[told] = mean_with_interval(speed)[1]
        arrays |= _recorded(task, arena, ran, found)
    arrays["tasks"] = np.array(list(arenas))
    every, worst = np.concatenate(differences), max(counter, key=lambda told: counter[told])
    measured = *_judged(every, edges), _are_what_they_are_called()
    return Evidence(measured, arrays, (_counted(every), *remarks), worst)


def _are_what_they_are_called() -> Measurement:
    # Of a cube any unfolding may have the largest norm.
    shapes = [(4, 4, 4), (2, 3, 5)]
    return as_written_out(
        [steps_off(made_by(CONTESTANTS[name]), each, shapes) for name, each in FORMULAS.items()]
    )


def _by_unfolding(largest: bool) -> Formula:
    """The quintic of the unfolding with the largest nuclear norm, or of the outputs against all
    else, its length by the shape; in the place of an unfolding, its entries in their own."""

    def direction(gradients: Tensor) -> Tensor:
        C = heavy_ball(OPTIONS["momentum"], gradients)
        order = C.ndim - 1
        ways = splits(order)
        best = nuclear_norms(C, order).argmax(0) if largest else [ways.index((0,))] * len(C)
        return torch.stack([_along(each, ways[way]) for each, way in zip(C, best, strict=True)])

    return of(direction)


def _along(C: Tensor, modes: tuple[int, ...]) -> Tensor:
    """Of one tensor."""
    X = split(C, modes, C.ndim)
    # Where the entries of the unfolding come from.
    places = split(torch.arange(C.numel()).reshape(C.shape), modes, C.ndim).flatten()
    step = torch.empty(C.numel(), dtype=C.dtype)
    step[places] = 0.2 * max(X.shape) ** 0.5 * quintic(X).flatten()
    return step.reshape(C.shape)


FORMULAS: Mapping[str, Formula] = {
    OURS: _by_unfolding(largest=True),
    FLAT: _by_unfolding(largest=False),
    ADAMW: adamw(0.0),
}


def _edges(ran: Mapping[str, Ran], names: Iterable[str]) -> int:
    return sum(ran[name].tuned.tuning.at_edge for name in names)


def _recorded(task: str, arena: Arena, ran: Mapping[str, Ran], found: Array) -> dict[str, Array]:
    """Of C contestants: curves (C, S, T) at the best rates, ``bands`` (C, T, 3) their geometric
    means and the ends of these' intervals, (C,) the rates, losses beside them (C, 2, S)."""
    return {
        f"steps, {task}": arena.steps,
        f"curves, {task}": np.stack([each.curves for each in ran.values()]),
        f"bands, {task}": np.array(
            [[geometric_mean_with_interval(x) for x in each.curves.T] for each in ran.values()]
        ),
        f"best rates, {task}": np.array([each.tuned.rate for each in ran.values()]),
        f"off, {task}": np.stack([each.off for each in ran.values()]),
        f"targets, {task}": _targets(ran),
        f"differences, {task}": found,
        **{f"rates, {task}, {name}": each.tuned.tuning.rates for name, each in ran.items()},
        **{f"losses, {task}, {name}": each.tuned.tuning.losses for name, each in ran.items()},
    }


def control_matrices(setting: Setting) -> Evidence:
    """Regression for a matrix, where Tensorion is Muon and nothing can differ."""
    arena = regression(setting, setting["matrix"], (2, 2))
    ran = run_in(arena, {OURS: TENSORION, "Muon": Contestant("Muon", muon)})
    differences = _differences(arena, ran, ["Muon"])
    remark = f"matrices: largest difference of any number {np.abs(differences).max():.2g}"
    return Evidence(_judged(differences, _edges(ran, ran)), {"differences": differences}, (remark,))


def not_here(setting: Setting) -> str | None:
    """Why a setting has no runs, or None."""
    if "steps" not in setting.sizes:
        return "trains tensors and networks for minutes: begins at the full tier"
    return None


CLAIMS = (
    Claim(
        id="tensorion.convergence",
        paper="tensorion",
        title="Tensorion is faster and more stable than AdamW and Muon on the flattened tensor",
        statement=(
            "On tensor regression, tensor completion and a small convolutional network Tensorion "
            "needs fewer steps than AdamW and than Muon on the flattened tensor, and loses less at "
            "rates beside the best."
        ),
        reference="Tensorion, arXiv 2606.25975, its headline on vision",
        source="paper",
        setup="regression for 4 x 5 x 4 x 5 entries, planted ranks 2, batches of 64; completion of "
        "10 x 11 x 12, ranks 2, from a fifth of the entries by a Tucker model of ranks 4, 5, 6; "
        "convolutions of 8 and 16 channels on scikit-learn's digits; 120 steps, each at its own "
        "best rate; unfoldings chosen online",
        criterion="refuted: more steps than a rival in some task, by more than 1%, the interval of "
        "the paired difference at 95% over six comparisons; best rates inside of what was tried; "
        "steps by the optimisers' formulas",
        check=check_convergence,
        controls={"matrices": control_matrices},
        tiers={
            "full": {
                "seeds": 6, "steps": 120, "recorded": 25, "regression": (4, 5, 4, 5),
                "completion": (10, 11, 12), "trained": (4, 5, 6), "widths": (8, 16),
                "matrix": (20, 20),
            },
        },
        expected=Verdict.REFUTED,
        skip=not_here,
        devices=DEVICES,
        dtypes=TRAINS_IN,
    ),
)  # fmt: skip
