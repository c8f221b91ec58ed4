"""Random numbers as a function of seed, step and place: Philox4x32-10, batched, on any device.

A generator has a state, so what a member of an ensemble is given would hang on who else draws and
when. Here it does not: whatever is drawn together, kept, left out or resumed, a number is the same.
torch has no such generator on tensors, numpy's makes one stream a Python object; hence these lines.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geometry.errors import require_positive_int

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
# A word of a counter is one of few values, such as the steps: so many rounds until it is mixed with
# all others, and as large as what is returned.
_SPREAD = 3
_LOW = 0xFFFFFFFF
# Of two 32-bit words the upper 26 bits each: 52, so that a half may be added exactly.
_HALF_WORD = 26


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Four 32-bit words from four of a counter and two of a key.

    Args:
        counter: four int64 tensors with values in [0, 2^32) that broadcast.
        key: two of them.

    Returns:
        Four int64 tensors, values in [0, 2^32).

    Reference:
        Salmon, Moraes, Dror, Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
    """
    (a, b, c, d), (k, l) = counter, key  # noqa: E741
    for done in range(_ROUNDS):
        if done == _SPREAD:
            a, b, c, d, *_ = torch.broadcast_tensors(a, b, c, d, k, l)
        # The products wrap around as unsigned ones do. What stands above 32 bits in b, d and the
        # keys is masked away where it comes to count, which is in a and c.
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, c = _mixed(second, b, k, done), _mixed(first, d, l, done)
        b, d = second, first
        k, l = k + _WEYL[0], l + _WEYL[1]  # noqa: E741
    return a, b & _LOW, c, d & _LOW


def _mixed(product: Tensor, word: Tensor, key: Tensor, done: int) -> Tensor:
    upper = product >> 32
    if done < _SPREAD:
        return (upper ^ word ^ key) & _LOW
    # In place: half of the time is that of making tensors.
    return upper.bitwise_xor_(word).bitwise_xor_(key).bitwise_and_(_LOW)


def uniforms(
    seeds: Tensor, count: int, *, step: int | Tensor = 0, stream: int | Tensor = 0
) -> Tensor:
    """``count`` numbers of each seed, uniform on (0, 1), in steps of 2^-52, ends left out.

    Args:
        seeds: int64, any shape; all 64 bits count.
        count: how many; the first of more are the same.
        step: of a run, an int or int64 tensor >= 0 that broadcasts with the seeds; its lower 56
            bits count.
        stream: alike, below 2^32: what else a seed draws in a step.

    Returns:
        (..., count) float64 on the device of the seeds, where ... is what seeds, step and stream
        broadcast to.

    Raises:
        ValueError: seeds that are no int64 tensor; count not a positive int.
    """
    if not isinstance(seeds, Tensor) or seeds.dtype != torch.int64:
        given = seeds.dtype if isinstance(seeds, Tensor) else type(seeds).__name__
        raise ValueError(f"seeds must be an int64 tensor, got {given}")
    require_positive_int("count", count)
    step, stream = (torch.as_tensor(x, device=seeds.device)[..., None] for x in (step, stream))
    block = torch.arange(math.ceil(count / 2), device=seeds.device)
    seeds = seeds[..., None]
    # 2^24 blocks beside the upper bits of the step: more numbers than memory holds.
    counter = (block | (step >> 32) << 24, step & _LOW, stream, torch.zeros_like(block))
    words = philox(counter, (seeds & _LOW, (seeds >> 32) & _LOW))
    drop = 32 - _HALF_WORD
    pairs = [
        (words[i] >> drop).bitwise_left_shift_(_HALF_WORD).bitwise_or_(words[i + 1] >> drop)
        for i in (0, 2)
    ]
    drawn = torch.stack(pairs, -1).flatten(-2)[..., :count]
    return drawn.double().add_(0.5).mul_(2.0 ** (-2 * _HALF_WORD))
