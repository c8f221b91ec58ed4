"""Running one claim, here and now: check, controls, verdict."""

from __future__ import annotations

import random
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from claims.judging import judge
from claims.registry import (
    ALONE,
    HERE,
    Check,
    Claim,
    Evidence,
    Make,
    Means,
    Place,
    Setting,
    Verdict,
)
from claims.results import Outcome


def run_claim(
    claim: Claim,
    tier: str,
    seed: int,
    means: Means = ALONE,
    subject: Make | None = None,
    place: Place = HERE,
) -> Outcome:
    """Ask whether ``claim`` is to be skipped, run its check and every control, and judge.

    Whatever is raised on the way becomes the verdict ERROR, with what was measured up to there.
    The numbers depend on the claim, the tier, the seed and the place alone. ``means.progress`` is
    told shares of the whole, of which check and controls are equal parts.
    """
    start = time.perf_counter()
    evidence: Evidence | None = None
    controls: dict[str, Evidence] = {}
    trace = None
    try:
        setting = claim.setting(tier, seed, means, subject, place)
        skipped = claim.skipped(setting)
        if skipped is not None:
            verdict, reason = Verdict.SKIPPED, skipped
        else:
            parts = 1 + len(claim.controls)
            evidence = _take("the check", claim.check, _part(setting, 0, parts))
            for done, (name, control) in enumerate(claim.controls.items(), 1):
                part = _part(setting, done, parts)
                controls[name] = _take(f"the control {name!r}", control, part)
            verdict, reason = judge(claim, evidence, controls)
    except Exception as error:
        verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {error}"
        trace = traceback.format_exc()
    seconds = time.perf_counter() - start
    return Outcome(claim, verdict, reason, evidence, controls, seconds, trace)


def _part(setting: Setting, done: int, parts: int) -> Setting:
    """The setting of a part, whose progress is one of several parts."""
    tell = setting.means.progress

    def told(share: float) -> None:
        tell((done + share) / parts)

    return replace(setting, means=replace(setting.means, progress=told))


def _take(name: str, check: Check, setting: Setting) -> Evidence:
    alike = _the_same_sums() if setting.device == "cuda" else nullcontext()
    with _one_thread(), _drawn_from(setting.seed), alike:
        try:
            return _plain(check(setting))
        except Exception as error:
            error.add_note(f"This is {name}.")
            raise


def _plain(evidence: Evidence) -> Evidence:
    """``evidence`` with numpy arrays that can be written to disk as they are."""
    if not isinstance(evidence, Evidence):
        raise TypeError(f"Evidence is expected to be returned; given {evidence!r:.80}")
    arrays = {name: _array(name, given) for name, given in evidence.arrays.items()}
    return replace(evidence, arrays=arrays)


def _array(name: str, given: Any) -> NDArray[Any]:
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"the array {name!r} is none of numpy's: {error} (.detach().cpu().numpy() makes one of "
            "a tensor, in a dtype that numpy has)"
        ) from error
    if array.dtype.hasobject:
        raise TypeError(f"the array {name!r} holds Python objects; numbers were expected")
    return array


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """The global generators, begun at ``seed`` and given back as they were.

    Claims draw from their own; should one use a global one by mistake, or something that it calls
    do so, such as scipy.stats, its numbers must still not depend on what ran before.
    """
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


@contextmanager
def _one_thread() -> Iterator[None]:
    """One BLAS and one torch thread: sums are then added in one order, and workers do not fight."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _the_same_sums() -> Iterator[None]:
    """On a GPU: sums in one order wherever torch has such a kernel, and float32 in full.

    Without it convolutions round their input to ten bits, and what is scattered is added as it
    comes.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    rounded = torch.backends.cudnn.allow_tf32
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False
    torch.backends.cudnn.allow_tf32 = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have a deterministic implementation")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        settings.fill_uninitialized_memory = fills
        torch.backends.cudnn.allow_tf32 = rounded
