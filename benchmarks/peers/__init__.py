"""The contestants, one file each."""

from benchmarks.contestant import Contestant
from benchmarks.peers import by_diffrax, by_flows, by_scipy, by_torchdiffeq, by_torchode

OWN = by_flows.CONTESTANT
OURS: tuple[Contestant, ...] = (OWN, by_flows.PLAIN)
PEERS: tuple[Contestant, ...] = (
    by_scipy.DOP853,
    by_scipy.RK45,
    by_scipy.REDUCED,
    by_torchode.DOPRI5,
    by_torchode.TSIT5,
    by_torchode.REDUCED,
    by_diffrax.FULL,
    by_diffrax.REDUCED,
    by_torchdiffeq.CONTESTANT,
)
CONTESTANTS: tuple[Contestant, ...] = (*OURS, *PEERS)
