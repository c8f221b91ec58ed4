"""The contestants, one file each."""

from benchmarks.contestant import Contestant
from benchmarks.peers import (
    by_diffrax,
    by_flows,
    by_scipy,
    by_scipy_reduced,
    by_torchdiffeq,
    by_torchode,
)

OWN = by_flows.CONTESTANT
CONTESTANTS: tuple[Contestant, ...] = (
    OWN,
    by_scipy.DOP853,
    by_scipy.RK45,
    by_scipy_reduced.CONTESTANT,
    by_torchode.DOPRI5,
    by_torchode.TSIT5,
    by_diffrax.CONTESTANT,
    by_torchdiffeq.CONTESTANT,
)
