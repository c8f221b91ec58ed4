"""Which optimisers move rotated factors as they move the factors, so that a run can be reduced.

The exact reduction of matrix factorization writes B = Q b and A = a P^T with orthonormal columns
in Q (m x d) and P (n x d). A run of (b, a) is one of (B, A) if the optimiser moves Q b by Q times
its move of b, whatever Q is, and A likewise: if its step is a linear combination of factors and
gradients, past ones too, multiplied by r x r matrices that are made of their Gram matrices. Rates
that go by the shape of a factor, and everything that is done entry by entry, are no such thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch.optim import SGD, Optimizer

from simulate.optimizers import (
    FactorMuon,
    LoRAMuon,
    LoRARite,
    LoRARiteCore,
    Muon,
    Riemannion,
    RiemannLoRA,
    ScaledGD,
    SpectralDescent,
    Spectron,
    Tensorion,
)

# From the options of a group to why its steps are not equivariant; None where they are.
Objection = Callable[[Mapping[str, Any]], str | None]


def _none(options: Mapping[str, Any]) -> None:
    return None


def _of_muon(options: Mapping[str, Any]) -> str | None:
    if options["orthogonalizer"] == "torch":
        return (
            "orthogonalizer='torch' rounds every entry to bfloat16; "
            "'muon' is the same polynomial in the dtype of the factors"
        )
    if options["adjust_lr_fn"] != "unadjusted":
        return (
            f"adjust_lr_fn={options['adjust_lr_fn']!r} goes by the number of rows and columns; "
            "'unadjusted' does not"
        )
    return None


def _of_tensorion(options: Mapping[str, Any]) -> str | None:
    if options["order"] != 2:
        return f"order={options['order']} may take members for a mode; with 2 it is Muon"
    return _of_muon(options)


def _of_lora_rite(options: Mapping[str, Any]) -> str:
    return "its second moments are means over the rows of a factor"


OBJECTIONS: Mapping[type[Optimizer], Objection] = MappingProxyType(
    {
        SGD: _none,
        SpectralDescent: _none,
        FactorMuon: _none,
        LoRAMuon: _none,
        LoRARiteCore: _none,
        Spectron: _none,
        ScaledGD: _none,
        RiemannLoRA: _none,
        Riemannion: _none,
        Muon: _of_muon,
        Tensorion: _of_tensorion,
        LoRARite: _of_lora_rite,
    }
)


def require_equivariant(optimizer: Optimizer) -> None:
    """Raise ValueError unless the optimiser is known to move rotated factors alike.

    A subclass may do anything, so it is not known by what it inherits from.
    """
    kind = type(optimizer)
    for group in optimizer.param_groups:
        if kind in OBJECTIONS:
            objection = OBJECTIONS[kind](group)
        else:
            known = ", ".join(sorted(each.__name__ for each in OBJECTIONS))
            objection = f"it is not known to be, as are {known}; methods such as Adam are not"
        if objection:
            raise ValueError(
                f"{kind.__name__}: an optimiser that commutes with rotations of the factors is "
                f"expected in reduced coordinates; {objection}. reduce=False runs it on the "
                "factors themselves"
            )
