"""Near pairs of hashes: those of a loop over all pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streetrecall.pictures.phash import near_pairs


@settings(max_examples=200, deadline=None)
@given(
    hashes=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 15) | st.just(2**64 - 1), max_size=40),
    flips=st.lists(st.tuples(st.integers(0, 39), st.sets(st.integers(0, 63), max_size=5)), max_size=20),
    distance=st.integers(0, 64),
)
def test_near_pairs_are_those_of_a_loop_over_all_pairs(
    hashes: list[int], flips: list[tuple[int, set[int]]], distance: int
) -> None:
    if hashes:  # add some hashes that are near to another one
        hashes += [hashes[i % len(hashes)] ^ sum(1 << bit for bit in bits) for i, bits in flips]
    expected = [
        [i, j]
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]
    assert near_pairs(np.array(hashes, dtype=np.uint64), distance).tolist() == expected
