"""The studies: what is measured, and the bars that it has to meet. Data, nothing else."""

from __future__ import annotations

from benchmarks.ambient import grow
from benchmarks.bars import Bar, Pick
from benchmarks.case import FlowCase
from benchmarks.drawing import draw
from benchmarks.peers import CONTESTANTS, OWN
from benchmarks.reference import Yardstick
from benchmarks.runs import alike, alone, race, sweep
from benchmarks.study import Setting, Study

BETAS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
SIZES = (64, 512, 4096)
# SciPy takes seconds a seed at 1e-2 and ten times more a decade; where it is out of reach, tighter
# tolerances have to do for Gaussian starts. Aligned starts have the closed form at every beta.
CHECKED = {1e-2: 2, 1e-3: 2, 1e-4: 1}

LOOSE = (1e-4, 3e-5, 1e-5, 3e-6)
LADDER = (1e-6, 3e-7, 1e-7, 3e-8, 1e-8, 3e-9, 1e-9, 3e-10, 1e-10)
DECADES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)

PEERS = Study(
    name="peers",
    about="Ours beside its peers, to the same error",
    settings=(
        Setting("beta 1e-2", FlowCase(beta=1e-2), Yardstick("scipy")),
        Setting("beta 1e-3", FlowCase(beta=1e-3), Yardstick("flows", checked=2), fastest=2),
    ),
    run=race,
    contestants=CONTESTANTS,
    unit="ours = 1",
    ladder=LADDER,
    bars=(
        Bar(Pick("beta 1e-2", "peer"), Pick("beta 1e-2"), 10, "at least"),
        Bar(Pick("beta 1e-2", "peer, reduced"), Pick("beta 1e-2"), 2, "at least"),
        Bar(Pick("beta 1e-2", "peer"), Pick("beta 1e-2", "ours, plain"), 1, "at least"),
        Bar(Pick("beta 1e-3", "peer"), Pick("beta 1e-3"), 50, "at least"),
    ),
)

BETA = Study(
    name="beta",
    about="Ours at smaller and smaller beta, to the same error along the whole trajectory",
    settings=(
        *(
            Setting(
                f"gaussian, beta {beta:.0e}",
                FlowCase(beta=beta, error_bound=1e-6),
                Yardstick("flows", CHECKED.get(beta, 0)),
                unit="gaussian, beta 1e-02",
            )
            for beta in BETAS
        ),
        *(
            Setting(
                f"aligned, beta {beta:.0e}",
                FlowCase(beta=beta, error_bound=1e-6, start="aligned"),
                Yardstick("closed form"),
                unit="aligned, beta 1e-02",
            )
            for beta in BETAS
        ),
    ),
    run=alone,
    contestants=(OWN,),
    unit="beta 1e-2 = 1",
    ladder=LOOSE + LADDER,
    bars=tuple(
        Bar(Pick(f"{start}, beta {beta:.0e}"), Pick(f"{start}, beta 1e-02"), limit, "at most")
        for start in ("gaussian", "aligned")
        for beta, limit in ((1e-5, 3), (1e-6, 5))
    ),
)

AMBIENT = Study(
    name="ambient",
    about="Ours in larger and larger matrices, the same flow in each",
    settings=tuple(
        Setting(
            f"{size} x {size}",
            FlowCase(embedded_in=size),
            Yardstick("flows", checked=2),
            unit="64 x 64",
        )
        for size in SIZES
    ),
    run=grow,
    contestants=(OWN,),
    unit="64 x 64 = 1",
    ladder=LADDER,
    bars=(
        Bar(Pick("512 x 512"), Pick("64 x 64"), 1.3, "at most"),
        Bar(Pick("4096 x 4096"), Pick("64 x 64"), 1.3, "at most"),
        # In proportion to m + n it is 8; anything of m x n would make it 64.
        Bar(Pick("4096 x 4096"), Pick("512 x 512"), 10, "at most", "memory"),
    ),
)

SEEDS = Study(
    name="seeds",
    about="Ours on few seeds and on many, at the tolerance that the many need",
    settings=(
        Setting("few seeds", FlowCase(), Yardstick("flows", checked=2)),
        Setting(
            "many seeds", FlowCase(), Yardstick("flows", checked=2), unit="few seeds", seeds=1000
        ),
    ),
    run=alike,
    contestants=(OWN,),
    unit="few = 1",
    ladder=LADDER,
    bars=(Bar(Pick("many seeds"), Pick("few seeds"), 12, "at most"),),
)

WORK_PRECISION = Study(
    name="work-precision",
    about="Error against seconds and right-hand sides, everybody at every tolerance",
    settings=tuple(
        Setting(f"beta {beta:.0e}", FlowCase(beta=beta), Yardstick("flows", checked), seeds=8)
        for beta, checked in CHECKED.items()
    ),
    run=sweep,
    contestants=CONTESTANTS,
    unit="ours = 1",
    ladder=DECADES,
    by_default=False,
    draw=draw,
)

STUDIES = {study.name: study for study in (PEERS, BETA, AMBIENT, SEEDS, WORK_PRECISION)}
