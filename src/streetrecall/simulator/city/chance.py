"""Random numbers that depend on the city's seed and on named keys alone.

Each part of the city draws from its own stream, so a change in one part leaves the numbers of the others as they are.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Stream(IntEnum):
    """What the random numbers are for. Two streams never share numbers."""

    STREETS = 1
    BLOCK = 2
    FURNITURE = 3
    SCHEDULE = 4
    STREET = 5
    DRIVE = 7
    WEATHER = 21
    BUILDING = 22
    SHOPS = 23
    SHOP_FRONTS = 24
    SETTS = 31
    CROSSING = 32
    PEOPLE = 33
    CLOTHES = 34
    PARKED = 35
    PARKED_SHARE = 36
    CARS = 37
    STREET_NAME = 41


def generator(seed: int, stream: Stream, *keys: int) -> np.random.Generator:
    """A random generator that depends on the seed, the stream and the keys alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, int(stream), *keys]))


def hash_unit(seed: int, stream: Stream, *keys: Any) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) that depend on the seed, the stream and the integer keys alone.

    The keys broadcast against each other; the result has their common shape. Steele, Lea and Flood's splitmix64
    (2014), without a state.

    >>> bool(hash_unit(1, Stream.CARS, 2) == hash_unit(1, Stream.CARS, 2))
    True
    >>> hash_unit(1, Stream.CARS, [1, 2, 3]).shape
    (3,)
    """
    with np.errstate(over="ignore"):
        state: Any = np.uint64(0x9E3779B97F4A7C15)
        for key in (seed, int(stream), *keys):
            state = (state ^ np.asarray(key).astype(np.int64).view(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
            state = state ^ (state >> np.uint64(29))
            state = (state + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(32))
    return np.asarray((state >> np.uint64(11)).astype(np.float64) / 2.0**53)
