"""Perceptual hashes: pictures that look alike have hashes that differ in few bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS = 64
NO_HASH = "0" * (BITS // 4)  # of a picture that cannot be decoded


def phash(grey: Image.Image) -> str:
    """The 64-bit hash of a picture's low frequencies (DCT), as 16 hexadecimal digits; see the package imagehash."""
    import imagehash

    return str(imagehash.phash(grey))


def as_numbers(hashes: list[str]) -> NDArray[np.uint64]:
    """Hashes of 16 hexadecimal digits as unsigned numbers.

    >>> as_numbers(["000000000000000f"]).tolist()
    [15]
    """
    return np.array([int(h, 16) for h in hashes], dtype=np.uint64)


def near_pairs(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """All pairs of hashes that differ in at most ``distance`` bits: rows (i, j) with i < j, in ascending order.

    Multi-index hashing (Norouzi, Punjani and Fleet, Fast search in Hamming space with multi-index hashing, CVPR 2012):
    the 64 bits are divided into ``distance`` + 1 bands. Two hashes that differ in at most ``distance`` bits are equal
    in at least one band, so only hashes with an equal band are compared. For a small distance the time grows with the
    number of hashes and of pairs found, not with its square.

    >>> near_pairs(np.array([0b0000, 0b1111, 0b0001], dtype=np.uint64), 1).tolist()
    [[0, 2]]
    """
    n = len(hashes)
    found = [np.zeros(0, dtype=np.int64)]
    for band in _bands(distance):
        key = hashes & band
        order = np.argsort(key, kind="stable")
        key, ordered = key[order], hashes[order]
        # Rows of one key are neighbours now: compare each row with the next one, then with the one after it, ...
        rows, step = np.arange(n), 0
        while len(rows):
            step += 1
            rows = rows[rows + step < n]
            rows = rows[key[rows] == key[rows + step]]
            near = rows[np.bitwise_count(ordered[rows] ^ ordered[rows + step]) <= distance]
            first, second = order[near], order[near + step]
            found.append(np.minimum(first, second) * n + np.maximum(first, second))
    pairs = np.unique(np.concatenate(found))
    return np.column_stack(np.divmod(pairs, max(n, 1)))


def _bands(distance: int) -> list[np.uint64]:
    """Masks of ``distance`` + 1 bands that share the bits equally; one empty mask if so many would save no time."""
    count = distance + 1
    if 2.0 ** (BITS // count) <= count:  # comparing every pair once is cheaper
        return [np.uint64(0)]
    # Every count-th bit, because adjacent bits are correlated.
    return [np.uint64(sum(1 << bit for bit in range(start, BITS, count))) for start in range(count)]
