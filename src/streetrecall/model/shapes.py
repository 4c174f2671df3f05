"""Sizes of pictures: the side of a square, or height and width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streetrecall.pictures.photo import Bytes, resize

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


def prepare(picture: Bytes, taken: Sequence[tuple[int, int]]) -> Bytes:
    """A photo (h, w, 3) uint8 as the network sees it: in that of the sizes it has ``taken`` whose shape is the nearest.

    A network that takes squares only sees the middle of the photo.
    """
    height, width = picture.shape[:2]
    if all(h == w for h, w in taken):
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(picture[top : top + side, left : left + side], *taken[0])
    return resize(picture, *nearest_shape(width, height, taken))


def nearest_shape(width: int, height: int, taken: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The height and width, of those in ``taken``, whose shape is the nearest to that of a picture.

    >>> [nearest_shape(w, h, [LANDSCAPE, PORTRAIT, (224, 224)]) for w, h in ((640, 480), (900, 1600), (500, 480))]
    [(192, 256), (256, 192), (224, 224)]
    """
    return min(taken, key=lambda size: abs(np.log(width / height * size[0] / size[1])))
