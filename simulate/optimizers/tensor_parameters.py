"""Which parameters of a module go to an optimiser of tensors, and which to AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn


def tensor_parameters(
    model: nn.Module, leave: Sequence[str] = ()
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights of two dimensions and more, for Muon or Tensorion; and the others, for AdamW.

    The others are biases, gains of norms, and the tables of embeddings, whose rows are vectors that
    a step of the whole table would move where no token was. Those who keep a first or last layer
    from Muon name it in ``leave``.

    Args:
        leave: globs of parameter names, as ``model.named_parameters()`` has them, that go to the
            others.

    Raises:
        ValueError: a glob that no parameter matches.
    """
    tables = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }
    named = list(model.named_parameters())
    for glob in leave:
        if not any(fnmatchcase(name, glob) for name, _ in named):
            raise ValueError(
                f"leave: {glob!r} matches no parameter of {type(model).__name__}; there are "
                f"{', '.join(name for name, _ in named)}"
            )
    tensors: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in named:
        left = any(fnmatchcase(name, glob) for glob in leave)
        is_tensor = parameter.ndim >= 2 and id(parameter) not in tables and not left
        (tensors if is_tensor else others).append(parameter)
    return tensors, others
