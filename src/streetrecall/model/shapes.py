"""Sizes of pictures: the side of a square, or height and width."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Size = int | tuple[int, int]
LANDSCAPE, PORTRAIT = (192, 256), (256, 192)  # height and width of a photo as the network sees it: 4 to 3


def sides(size: Size) -> tuple[int, int]:
    """Height and width.

    >>> sides(224), sides((192, 256))
    ((224, 224), (192, 256))
    """
    return (size, size) if isinstance(size, int) else size


def photo_sizes(width: NDArray[np.int64], height: NDArray[np.int64]) -> dict[tuple[int, int], NDArray[np.int64]]:
    """The sizes at which the network sees photos, each with the numbers of its photos; sizes without photos are left
    out. Nearly all phones take pictures of 4 to 3, whose aspect is kept; others are stretched a little.

    >>> photo_sizes(np.array([640, 480, 800]), np.array([480, 640, 600]))
    {(192, 256): array([0, 2]), (256, 192): array([1])}
    """
    upright = height > width
    found = {LANDSCAPE: np.flatnonzero(~upright), PORTRAIT: np.flatnonzero(upright)}
    return {size: rows for size, rows in found.items() if len(rows)}
