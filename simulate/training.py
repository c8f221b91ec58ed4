"""The training of an ensemble of transformers, one batched model, each member by its own rate."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from geometry.errors import require_nonnegative, require_positive, require_positive_int
from simulate.atomic import require_writable_file
from simulate.checkpoint import read_checkpoint, write_checkpoint
from simulate.optimizers.failed_step import NOT_FINITE
from simulate.optimizers.member_adamw import MemberAdamW
from simulate.optimizers.members import keep_members, require_every, step_or_leave
from simulate.schedules import Schedule, begin_schedule, constant, follow_schedule
from simulate.tasks.adaptation import LowRankAdaptation
from simulate.tasks.architecture import Architecture
from simulate.tasks.batches import Batches, evaluation_windows
from simulate.tasks.corpus import Corpus
from simulate.tasks.transformer import CharacterTransformer
from simulate.training_record import Divergence, Member, TrainingRecord

# What is handed over: pairs (B, A) of a low-rank model or matrices of a dense one, and rates (E,).
MakeOptimizer = Callable[[list[Any], Tensor], Optimizer]
MakeOthers = Callable[[list[Parameter]], Optimizer]
Progress = Callable[[TrainingRecord], object]

WINDOWS_AT_ONCE = 32


def adamw_for_embeddings(parameters: list[Parameter]) -> Optimizer:
    """AdamW at 3e-3 without decay, as in the replication of the LoRA-Muon study."""
    return MemberAdamW(parameters, lr=3e-3, weight_decay=0.0)


class EnsembleTraining:
    """E members of one architecture, trained together, as if each were alone.

    A step draws every member's batch by its own seed, differentiates the sum of the members' mean
    losses, in which no gradient of one meets another, and lets two optimisers step: one for the
    layers, at each member's rate, and one for the embeddings. All rates are multiplied by the
    schedule.

    A member whose loss, gradient or update is not finite, whose update needs a factorisation that
    fails, or whose loss exceeds ``divergence_multiple`` times ln V, is recorded as diverged before
    it steps, its parameters are put aside, and the ensemble goes on without it: it costs no more,
    and the others do what they would have done, up to the rounding of batched products.

    Args:
        corpus: whose training part is drawn from and whose validation part is evaluated on.
        architecture: of every member; its vocabulary is that of the corpus. Or an adaptation of
            models that were trained before: then only its adapters are trained.
        members: (rate, seed), E of them.
        optimizer: makes the optimiser of the layers from [(B, A), ...] in a low-rank model or
            [W, ...] in a dense one, and the rates, (E,) float64.
        batch_size: windows of a member in a step.
        others: makes the optimiser of the embeddings, where these are trained.
        schedule: from the step, counted from 0, to what every rate is multiplied by.
        divergence_multiple: > 0, in ln V, the loss of a model that knows nothing.
        evaluation_tokens: of the validation part, at most.
        dtype, device: of the model.

    Attributes:
        record: losses, validation losses, divergences, tokens and seconds so far.
        active: numbers of the members that are still there, in the order of the model's.
        model, step: as they are now; the step is how many were taken.

    Raises:
        ValueError: no members, rates that are negative or not finite, another vocabulary than the
            corpus's, an optimiser that has not all of the layers, what the parts raise.
    """

    def __init__(
        self,
        corpus: Corpus,
        architecture: Architecture | LowRankAdaptation,
        members: Sequence[Member | tuple[float, int]],
        optimizer: MakeOptimizer,
        *,
        batch_size: int,
        others: MakeOthers = adamw_for_embeddings,
        schedule: Schedule = constant,
        divergence_multiple: float = 3.0,
        evaluation_tokens: int = 32_768,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        all_members = tuple(Member(*member) for member in members)
        if isinstance(architecture, LowRankAdaptation):
            sizes, adaptation = architecture.architecture, architecture
        else:
            sizes, adaptation = architecture, None
        _require_fit(corpus, sizes, all_members, divergence_multiple)
        self.device = torch.device(device)
        seeds = [member.seed for member in all_members]
        if adaptation:
            self.model = adaptation.model(seeds, dtype=dtype, device=self.device)
        else:
            self.model = CharacterTransformer(sizes, seeds, dtype=dtype, device=self.device)
        rates = torch.tensor(
            [member.rate for member in all_members], dtype=torch.float64, device=self.device
        )
        pairs, matrices, rest = self.model.roles()
        self._optimizers = [optimizer(cast("list[Any]", pairs or matrices), rates)]
        require_every(self._optimizers[0], [*chain(*pairs), *matrices])
        if rest:
            self._optimizers.append(others(rest))
        begin_schedule(self._groups())
        length = sizes.length
        self._train = corpus.train.to(self.device)
        self._batch_size, self._batches = batch_size, self._batches_of(seeds, length, batch_size)
        self._windows = evaluation_windows(
            corpus.validation, length=length, most_tokens=evaluation_tokens, device=self.device
        )
        self._schedule = schedule
        self._most = divergence_multiple * math.log(sizes.vocabulary)
        self.step, self.active = 0, list(range(len(all_members)))
        self.record = TrainingRecord(all_members, batch_size * length)
        self._made_by = {
            "architecture": dataclasses.asdict(sizes),
            "adaptation": adaptation.described() if adaptation else None,
            "members": [list(member) for member in all_members],
            "optimizers": [type(each).__name__ for each in self._optimizers],
            "batch_size": batch_size,
            "dtype": str(dtype),
            "training text": corpus.digests[0],
            # Losses on other windows would stand beside those that the file has.
            "validation text": corpus.digests[1],
            "evaluation_tokens": evaluation_tokens,
        }

    def run(
        self,
        steps: int,
        *,
        validate_at: Collection[int] = (),
        progress: Progress | None = None,
        checkpoint: Path | str | None = None,
        checkpoint_every: int = 500,
    ) -> TrainingRecord:
        """Go on until ``steps`` steps are taken in all, or no member is left.

        Args:
            steps: in all; those taken already count.
            validate_at: numbers of steps after which members are evaluated, 0 and ``steps`` too.
            progress: called with the record after every step.
            checkpoint: a file to write every ``checkpoint_every`` steps, and at the end.

        Raises:
            OSError: a checkpoint that cannot be written.
            What the schedule raises of a last step that it has no rate for. Both before any step.
        """
        require_nonnegative("steps", steps)
        require_positive_int("checkpoint_every", checkpoint_every)
        if checkpoint is not None:
            require_writable_file(Path(checkpoint))
        if self.step < steps:
            self._schedule(steps - 1)
        saved_at = -1
        while True:
            begun = time.perf_counter()
            if self.step in validate_at and self.step not in self.record.validation:
                self.record.validation[self.step] = self.validation_losses()
            going_on = self.step < steps and bool(self.active)
            if going_on:
                self._take_step()
            self.record.seconds += time.perf_counter() - begun
            if going_on and progress is not None:
                progress(self.record)
            due = not going_on or self.step % checkpoint_every == 0
            if checkpoint is not None and due and saved_at != self.step:
                self.save(checkpoint)
                saved_at = self.step
            if not going_on:
                return self.record

    @torch.no_grad()
    def validation_losses(self) -> Tensor:
        """(E,) float64 on the CPU: mean loss on the fixed windows, NaN for members gone."""
        total = torch.zeros(len(self.active), dtype=torch.float64, device=self.device)
        inputs, targets = self._windows
        if self.active:
            chunks = zip(inputs.split(WINDOWS_AT_ONCE), targets.split(WINDOWS_AT_ONCE), strict=True)
            for chunk in chunks:
                seen, aims = (part.expand(len(self.active), -1, -1) for part in chunk)
                total += self.model.token_losses(seen, aims).double().sum((1, 2))
        return self.for_all(total / targets.numel())

    def for_all(self, values: Tensor) -> Tensor:
        """(E, ...) float64 on the CPU: values (k, ...) of active members, NaN for the others."""
        shape = (len(self.record.members), *values.shape[1:])
        everybody = torch.full(shape, torch.nan, dtype=torch.float64)
        everybody[self.active] = values.double().cpu()
        return everybody

    def save(self, path: Path | str) -> None:
        """Write all that the run goes on from to a file, which is replaced whole or not at all."""
        record = self.record
        state = {
            "step": self.step,
            "active": self.active,
            "model": dict(self.model.state_dict()),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "loss_rows": record.loss_rows,
            "validation": record.validation,
            "diverged": {i: vars(divergence) for i, divergence in record.diverged.items()},
            "seconds": record.seconds,
        }
        write_checkpoint(Path(path), self._made_by, state)

    def load(self, path: Path | str) -> None:
        """Take up a run where ``save`` left it: it goes on with the same bits.

        The schedule and the options of the optimisers are not compared: rates and options are
        those of the file, the schedule is this run's.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: a damaged file, or one of another run, with what was expected.
            ValueError: this run has begun already.
        """
        if self.record.loss_rows:
            raise ValueError(f"load: a run that has not begun is expected, got step {self.step}")
        state = read_checkpoint(Path(path), self._made_by, self.device)
        if state["active"]:
            self._keep(state["active"])
            self.model.load_state_dict(state["model"])
            for optimizer, its_state in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(its_state)
        self.active = list(state["active"])
        self.step = state["step"]
        record = self.record
        record.loss_rows, record.seconds = state["loss_rows"], state["seconds"]
        record.validation = {step: losses.cpu() for step, losses in state["validation"].items()}
        record.diverged = {
            i: Divergence(**{**kept, "parameters": _on_cpu(kept["parameters"])})
            for i, kept in state["diverged"].items()
        }

    def _take_step(self) -> None:
        inputs, targets = self._batches.at(self.step)
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        losses = self.model.token_losses(inputs, targets).mean((1, 2))
        losses.sum().backward()
        found = losses.detach().double()
        del losses
        self.record.loss_rows.append(self.for_all(found).tolist())
        sound = self._sound_gradients()
        staying = torch.isfinite(found) & (found <= self._most) & sound
        if not bool(staying.all()):
            self._part(self._reasons(found.tolist(), sound.tolist()), found.tolist())
            found = found[staying]
        follow_schedule(self._groups(), self._schedule(self.step))

        def leave(reasons: Mapping[int, str]) -> bool:
            nonlocal found
            self._part(reasons, found.tolist())
            found = found[[place for place in range(len(found)) if place not in reasons]]
            return bool(self.active)

        for optimizer in self._optimizers:
            if self.active:
                step_or_leave(optimizer, leave)
        if self.active:
            self.step += 1

    def _reasons(self, losses: list[float], sound: list[bool]) -> dict[int, str]:
        """Why members diverged, by their places among the active ones."""
        reasons: dict[int, str] = {}
        for place, loss in enumerate(losses):
            if not math.isfinite(loss):
                reasons[place] = f"the loss is {loss}"
            elif not sound[place]:
                reasons[place] = NOT_FINITE["gradient"]
            elif loss > self._most:
                reasons[place] = f"the loss, {loss:.4g}, exceeds {self._most:.4g}"
        return reasons

    def _sound_gradients(self) -> Tensor:
        """(k,) bool: whose gradients are finite, and small enough to be summed."""
        sums = [p.grad.flatten(1).sum(1) for p in self.model.parameters() if p.grad is not None]
        return torch.isfinite(torch.stack(sums)).all(0)

    def _part(self, reasons: Mapping[int, str], losses: list[float]) -> None:
        """Put the members at the places that have reasons aside, and go on with the others."""
        for place, reason in reasons.items():
            parameters = _on_cpu({name: p[place] for name, p in self.model.named_parameters()})
            self.record.diverged[self.active[place]] = Divergence(
                self.step, reason, losses[place], parameters
            )
        kept = [place for place in range(len(self.active)) if place not in reasons]
        if kept:
            self._keep(kept)
        self.active = [self.active[place] for place in kept]

    def _keep(self, places: list[int]) -> None:
        """Go on with the members at these places of the active ones."""
        if len(places) == len(self.active):
            return
        for optimizer in self._optimizers:
            keep_members(optimizer, torch.tensor(places))
        for p in self.model.parameters():
            if not p.requires_grad:
                p.data = p.data[places]
        seeds = [self._batches.seeds[place] for place in places]
        self._batches = self._batches_of(seeds, self.model.architecture.length, self._batch_size)

    def _batches_of(self, seeds: Sequence[int], length: int, batch_size: int) -> Batches:
        return Batches(self._train, length=length, batch_size=batch_size, seeds=seeds)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]


def _on_cpu(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: p.detach().cpu().clone() for name, p in parameters.items()}


def _require_fit(
    corpus: Corpus, architecture: Architecture, members: tuple[Member, ...], multiple: float
) -> None:
    if not members:
        raise ValueError("members: at least one (rate, seed) is expected, got none")
    for member in members:
        require_nonnegative("the rate of a member", member.rate)
    require_positive("divergence_multiple", multiple)
    if architecture.vocabulary != len(corpus.vocabulary):
        raise ValueError(
            f"the vocabulary of {corpus.name}, {len(corpus.vocabulary)} characters, is expected, "
            f"got an architecture of {architecture.vocabulary}"
        )
