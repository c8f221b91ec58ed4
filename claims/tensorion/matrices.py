"""On matrices Tensorion is Muon, ours and torch's, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from claims.measuring.draws import gaussian
from claims.registry import Claim, Evidence, Measurement, Setting
from claims.tensorion.tensors import PAPER, REFERENCE
from simulate.optimizers import Muon, Tensorion

SHAPES = ((24, 24), (32, 18), (18, 40), (6, 5))
LIKE_MUON: dict[str, Any] = {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}
LR = 0.02
EXACT, OF_TORCH = "difference from Muon, exact polar factors", "difference from torch.optim.Muon"

Make = Callable[[list[nn.Parameter]], Optimizer]


def _trained(setting: Setting, make: Make, dtype: torch.dtype) -> list[Tensor]:
    seeds = setting.seeds(setting["seeds"])
    parameters = [
        nn.Parameter(member.to(dtype))
        for place, shape in enumerate(SHAPES)
        for member in gaussian(seeds, *shape, stream=place)
    ]
    optimizer = make(parameters)
    gradients = [
        gaussian(seeds, setting["steps"], *shape, stream=10 + place)
        for place, shape in enumerate(SHAPES)
    ]
    for step in range(setting["steps"]):
        drawn = [member[step] for of_shape in gradients for member in of_shape]
        for parameter, gradient in zip(parameters, drawn, strict=True):
            parameter.grad = gradient.to(dtype)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def _difference(setting: Setting, make: Make, other: Make, dtype: torch.dtype) -> float:
    ours, theirs = (_trained(setting, each, dtype) for each in (make, other))
    apart = [float((W - V).abs().max()) for W, V in zip(ours, theirs, strict=True)]
    return float(np.max(apart))


def _compared(setting: Setting, **options: Any) -> Evidence:
    """Tensorion with these options beside both."""
    exact = _difference(
        setting,
        lambda params: Tensorion(params, LR, **options),
        lambda params: Muon(params, LR, orthogonalizer="svd", **LIKE_MUON),
        torch.float64,
    )
    of_torch = [
        _difference(
            setting,
            lambda params: Tensorion(params, LR, orthogonalizer="torch", **options),
            lambda params: torch.optim.Muon(params, LR, **LIKE_MUON),
            dtype,
        )
        for dtype in (torch.float64, torch.float32)
    ]
    return Evidence(
        (
            Measurement(EXACT, exact, "<=", 0.0),
            Measurement(f"{OF_TORCH}, Newton-Schulz in bfloat16", np.max(of_torch), "<=", 0.0),
        )
    )


def check_matrices(setting: Setting) -> Evidence:
    """A matrix has one unfolding, itself. The momentum is kept as torch keeps it, (1 - mu) times
    the heavy ball; what is rounded is rounded in the order of torch's Muon, and torch.optim.Muon
    itself is the other side of the second measurement.
    """
    return _compared(setting)


def control_shape_scaling(setting: Setting) -> Evidence:
    """Keller Jordan's scaling, sqrt(max(1, m / n)), in place of .2 sqrt(max(m, n))."""
    return _compared(setting, adjust_lr_fn="original")


CLAIMS = (
    Claim(
        id="tensorion.order-2-is-muon",
        paper=PAPER,
        title="On matrices it is Muon",
        statement=(
            r"On matrices Tensorion's iterates are Muon's without look-ahead, with the rate "
            r"$0.2 \sqrt{\max(m, n)}\, \eta$."
        ),
        reference=REFERENCE,
        source="paper",
        setup="24 x 24, 32 x 18, 18 x 40, 6 x 5, Gaussian gradients, momentum .95, weight decay "
        ".1; Muon with exact polar factors, and torch.optim.Muon in float64 and float32",
        criterion="no entry differs by anything",
        check=check_matrices,
        stays="it is stated to the bit, and a GPU adds up a batch in another order than a matrix",
        dtypes=(),
        controls={"Keller Jordan's shape scaling": control_shape_scaling},
        tiers={"quick": {"seeds": 2, "steps": 8}, "full": {"seeds": 8, "steps": 100}},
    ),
)
