"""Where fine-tuning begins: the models of a run, in memory or from its checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from simulate.checkpoint import CheckpointError, checkpoint_content, differences
from simulate.tasks.adaptation import Pretrained
from simulate.tasks.architecture import Architecture
from simulate.tasks.transformer import CharacterTransformer
from simulate.training import EnsembleTraining


def pretrained(run: EnsembleTraining) -> Pretrained:
    """The models of a dense run as they are now, by the seeds of their members.

    Members that diverged are not among them.

    Raises:
        ValueError: no member is left, two of them have one seed, or the layers are not dense.
    """
    if not run.active:
        raise ValueError("pretrained: a run with members left is expected, all of them diverged")
    return Pretrained(run.model, tuple(run.record.members[i].seed for i in run.active))


def read_pretrained(path: Path | str, architecture: Architecture | None = None) -> Pretrained:
    """The models in a checkpoint that ``EnsembleTraining`` wrote, in its dtype, on the CPU.

    Args:
        path: the file.
        architecture: what is expected; None takes what there is.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: a damaged file, one that no training wrote, or one of another
            architecture, with what was expected.
        ValueError: as :func:`pretrained` does, with the file.
    """
    made_by, state = checkpoint_content(Path(path), torch.device("cpu"))
    if not {"architecture", "adaptation", "members"} <= made_by.keys():
        raise CheckpointError(
            f"checkpoint {path}: one that EnsembleTraining wrote is expected, got a file of results"
        )
    found = Architecture(**made_by["architecture"])
    asked = architecture or found
    if other := differences(dataclasses.asdict(asked), dataclasses.asdict(found)):
        raise CheckpointError(f"checkpoint {path} is of another shape: {'; '.join(other)}")
    if made_by["adaptation"] is not None:
        raise ValueError(f"checkpoint {path}: dense models are expected, got adapters")
    if not state["active"]:
        raise ValueError(f"checkpoint {path}: members are expected, all of them diverged")
    seeds = tuple(made_by["members"][i][1] for i in state["active"])
    weights = state["model"]
    model = CharacterTransformer(found, seeds, dtype=weights["embedding"].dtype)
    model.load_state_dict(weights)
    try:
        return Pretrained(model, seeds)
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: {error}") from error
