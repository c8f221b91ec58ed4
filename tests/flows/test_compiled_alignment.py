"""Where scratch of the kernels lies: vectors of eight lanes in one line of the cache each."""

from __future__ import annotations

import pytest

from flows.compiled.alignment import aligned

BYTES = 64
SHAPES = [(1, 1, 8), (3, 5, 8), (2, 16, 8, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_begins_a_line_and_is_whole(shape: tuple[int, ...]) -> None:
    # Kept, so that they cannot all get the same place.
    blocks = [aligned(shape) for _ in range(50)]
    assert {block.ctypes.data % BYTES for block in blocks} == {0}
    for number, block in enumerate(blocks):
        assert block.shape == shape
        assert block.flags.c_contiguous
        block[...] = number
    # None lies over another.
    assert all((block == number).all() for number, block in enumerate(blocks))


@pytest.mark.parametrize("shape", SHAPES)
def test_compiled_as_well(shape: tuple[int, ...]) -> None:
    pytest.importorskip("numba", reason="the compiled kernel needs numba")
    from flows.compiled import blocks

    made = [blocks.aligned(shape) for _ in range(50)]
    assert {block.ctypes.data % BYTES for block in made} == {0}
    assert {block.shape for block in made} == {shape}
