"""One learning rate for every rank, width and depth: measured as the paper claims it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from claims.lora_muon.contestants import ADAMW, FACTOR_MUON, LORA_MUON, MUON, SPECTRON
from claims.lora_muon.matrices import REFERENCE
from claims.lora_muon.study import SIZES, Study, not_here, recorded
from claims.registry import Claim, Evidence, Measurement, Setting
from simulate.best_rate import BestRate
from simulate.cells import Contestant, Line
from simulate.sweep import Curve
from simulate.tasks import Architecture

HALF_DECADE = 0.5
Label = Callable[[Architecture], str]


class Group(NamedTuple):
    """Lines whose best rate should be that of a reference."""

    reference: Line
    others: list[Line]


def _judged(study: Study, groups: Mapping[str, Group], label: Label) -> Evidence:
    """How far from its reference's best rate that of each other line may lie, of the first group.

    The other groups are measured and told alike, and no verdict hangs on them; their arrays have
    the group's name before a slash.
    """
    every = [line for group in groups.values() for line in (group.reference, *group.others)]
    # A reference that groups share is tuned once.
    lines = list({id(line): line for line in every}.values())
    tuned = dict(zip(map(id, lines), study.curves(lines), strict=True))
    measurements: tuple[Measurement, ...] = ()
    arrays: dict[str, NDArray[Any]] = {}
    remarks: list[str] = []
    for name, group in groups.items():
        curves = [tuned[id(line)] for line in (group.reference, *group.others)]
        bests = [curve.best() for curve in curves]
        own = _measurements(curves, bests, label)
        measurements = measurements or own
        prefix = f"{name}/" if arrays else ""
        arrays |= {prefix + key: values for key, values in recorded(curves, bests).items()}
        remarks.append(f"{name}: " + _told(curves, bests, own, label))
    return Evidence(measurements, arrays, (*remarks, study.scale()))


def _measurements(
    curves: Sequence[Curve], bests: Sequence[BestRate], label: Label
) -> tuple[Measurement, ...]:
    farthest = [
        Measurement(
            f"farthest of the best rate, half-decades, {label(curve.line.architecture)}",
            float(np.abs(np.log10(best.ratio_to(bests[0]))).max() / HALF_DECADE), "<=", 1.0,
        )
        for curve, best in zip(curves[1:], bests[1:], strict=True)
    ]  # fmt: skip
    edges = sum(curve.at_edge for curve in curves)
    return *farthest, Measurement("best rates left at an edge", edges, "<=", 0)


def _told(
    curves: Sequence[Curve],
    bests: Sequence[BestRate],
    measurements: Sequence[Measurement],
    label: Label,
) -> str:
    """Best rates with intervals, how far they may lie, and what it costs not to tune again."""
    rows = [f"{label(curves[0].line.architecture)} {_interval(bests[0])}"]
    for curve, best, farthest in zip(curves[1:], bests[1:], measurements, strict=False):
        # The loss at the first's best rate, along the curve.
        loss = float(np.interp(np.log(bests[0].rate), np.log(curve.rates), curve.losses.mean(1)))
        rows.append(
            f"{label(curve.line.architecture)} {_interval(best)}, up to {farthest.value:.2f} "
            f"half-decades off{'' if best.overlaps(bests[0]) else ', no overlap'}, "
            f"{max(loss - best.loss, 0.0):.3f} nats lost at the first's rate"
        )
    return "; ".join(rows)


def _interval(best: BestRate) -> str:
    return f"{best.rate:.3g} [{best.low:.3g}, {best.high:.3g}]"


def _of_rank(size: Architecture) -> str:
    return "dense" if size.rank is None else f"r = {size.rank}"


def _of_size(size: Architecture) -> str:
    return f"width {size.width}, depth {size.depth}"


def _of_scale(size: Architecture) -> str:
    return f"c = {size.factor_rescaling:g}"


def check_ranks(setting: Setting) -> Evidence:
    """A step of radius eta moves W by eta/2 to eta at every rank, and Muon's by eta.

    So a rate means the same at every rank; whether the best is the same is measured. The paper's
    grids are half-decades: a best rate is "the same" when it is known to lie within one of dense
    Muon's. An interval that is too wide to tell does not pass. Muon on each factor, beside dense
    Muon, and AdamW, on the factors beside the matrix, are measured alike.
    """
    study, ranks = Study(setting), setting["ranks"]
    (muon,), (adamw,) = study.lines(MUON), study.lines(ADAMW)
    groups = {
        "LoRA-Muon": Group(muon, study.lines(LORA_MUON, rank=ranks)),
        "Muon on each factor": Group(muon, study.lines(FACTOR_MUON, rank=ranks)),
        "AdamW": Group(adamw, study.lines(ADAMW, rank=ranks)),
    }
    return _judged(study, groups, _of_rank)


def control_spectron(setting: Setting) -> Evidence:
    """Spectron, whose step shrinks with the size of the factors."""
    study = Study(setting)
    (muon,) = study.lines(MUON)
    others = study.lines(SPECTRON, rank=setting["ranks"])
    return _judged(study, {"Spectron": Group(muon, others)}, _of_rank)


def _of_proxy(size: Architecture) -> str:
    return "dense" if size.rank is None else "the proxy"


def check_proxy(setting: Setting) -> Evidence:
    """Tune at rank 2, at a few percent of the parameters, and use the rate for the dense matrix.

    Rank 1, where the paper's statement ends, is measured alike.
    """
    study = Study(setting)
    (muon,) = study.lines(MUON)
    two, one = study.lines(LORA_MUON, rank=[2, 1])
    groups = {"rank 2": Group(muon, [two]), "rank 1": Group(muon, [one])}
    return _judged(study, groups, _of_proxy)


def control_spectron_proxy(setting: Setting) -> Evidence:
    """Spectron at rank 2."""
    study = Study(setting)
    (muon,) = study.lines(MUON)
    return _judged(study, {"rank 2": Group(muon, study.lines(SPECTRON, rank=[2]))}, _of_proxy)


def _over(setting: Setting, contestant: Contestant, label: Label, **axes: Any) -> Evidence:
    """One line a value of each axis, the other sizes those of the reference, at one rank."""
    study, rank = Study(setting), [setting["rank"]]
    (reference,) = study.lines(contestant, rank=rank)
    others = [
        line
        for axis, values in axes.items()
        for line in study.lines(contestant, rank=rank, **{axis: values})
    ]
    return _judged(study, {contestant.name: Group(reference, others)}, label)


def _over_sizes(setting: Setting, contestant: Contestant) -> Evidence:
    return _over(setting, contestant, _of_size, width=setting["widths"], depth=setting["depths"])


def check_sizes(setting: Setting) -> Evidence:
    """Layers begin orthogonal at every width, and steps have the spectral norm of the rate.

    So neither changes with the width. Against depth the paper has no such reason, and measures.
    """
    return _over_sizes(setting, LORA_MUON)


def control_adamw(setting: Setting) -> Evidence:
    """AdamW on the factors: entries move by the rate, so a step's norm grows with the width."""
    return _over_sizes(setting, ADAMW)


def _over_rescalings(setting: Setting, contestant: Contestant) -> Evidence:
    return _over(setting, contestant, _of_scale, factor_rescaling=setting["rescalings"])


def check_rescalings(setting: Setting) -> Evidence:
    """A step of LoRA-Muon is covariant, so every run is the same run but for rounding."""
    return _over_rescalings(setting, LORA_MUON)


def control_factor_muon(setting: Setting) -> Evidence:
    """Muon on each factor, whose rate is a length in the factors."""
    return _over_rescalings(setting, FACTOR_MUON)


def control_spectron_rescaled(setting: Setting) -> Evidence:
    """Spectron, whose step in W depends on c."""
    return _over_rescalings(setting, SPECTRON)


def control_adamw_rescaled(setting: Setting) -> Evidence:
    """AdamW on the factors, whose entries move by the rate."""
    return _over_rescalings(setting, ADAMW)


CRITERION = (
    "the 95% interval of the ratio of best rates (paired bootstrap over seeds) within half a "
    "decade, on grids of half-decades refined once, none of them at an edge"
)
SETUP = (
    "character transformer, orthogonal start, momentum .9, warm-up and linear decay, embeddings by "
    "AdamW 3e-3; {}; synthetic language, in the paper tier TinyShakespeare; float32"
)

CLAIMS = (
    Claim(
        id="lora-muon.lr-transfer-rank",
        paper="lora-muon",
        title="One learning rate for every rank",
        statement=(
            r"LoRA-Muon's best learning rate is that of dense Muon, at every rank $r \ge 2$, "
            "within the half-decades in which rates are tried."
        ),
        reference=REFERENCE,
        source="paper",
        setup=SETUP.format("width 64, depth 2, r = 2 to 32"),
        criterion=CRITERION,
        check=check_ranks,
        controls={"Spectron": control_spectron},
        tiers=SIZES,
        skip=not_here,
    ),
    Claim(
        id="lora-muon.rank-2-proxy",
        paper="lora-muon",
        title="Rank 2 finds the dense model's learning rate",
        statement=(
            r"The best rate at $r = 2$, with a few percent of the parameters, is dense Muon's "
            "within the half-decades in which rates are tried."
        ),
        reference=REFERENCE,
        source="paper",
        setup=SETUP.format("width 64, depth 2"),
        criterion=CRITERION,
        check=check_proxy,
        controls={"Spectron": control_spectron_proxy},
        tiers=SIZES,
        skip=not_here,
    ),
    Claim(
        id="lora-muon.lr-transfer-width-depth",
        paper="lora-muon",
        title="One learning rate for every width and depth",
        statement=(
            "LoRA-Muon's best learning rate is the same for every width and depth, within the "
            "half-decades in which rates are tried."
        ),
        reference=REFERENCE,
        source="paper",
        setup=SETUP.format("r = 16, widths 32, 64, 128 at depth 2, depths 1, 2, 4 at width 64"),
        criterion=CRITERION,
        check=check_sizes,
        controls={"AdamW": control_adamw},
        tiers=SIZES,
        skip=not_here,
    ),
    Claim(
        id="lora-muon.best-rate-rescaling",
        paper="lora-muon",
        title="One learning rate for every size of the factors",
        statement=r"From $(cB, A/c)$ LoRA-Muon's best learning rate is that from $(B, A)$.",
        reference=REFERENCE,
        source="paper",
        setup=SETUP.format("r = 16, c = 3, 9, 27 against 1, width 32, depth 2"),
        criterion=CRITERION,
        check=check_rescalings,
        controls={
            "Spectron": control_spectron_rescaled,
            "Muon on each factor": control_factor_muon,
            "AdamW": control_adamw_rescaled,
        },
        tiers={**SIZES, "full": {**SIZES["full"], "width": 32, "length": 32}},
        skip=not_here,
    ),
)
