"""Changes to a picture as another photographer causes them: lens, framing, roll, light, blur, something in the way.

They stand in for photos where a collection has none: the newest pictures are asked changed (protocol `perturbed`).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

ZOOM = 1.33
RIGHT_SHARE = 0.65  # of the width that is kept
ROLL_DEG = 10.0
DARKER = 0.45  # share of the light that is left
BLUR_PX = 2.0  # standard deviation, pixels of a picture of 224
COVERED_SHARE = 0.2  # of the area


def zoomed(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """The middle, enlarged by `ZOOM`."""
    height, width = picture.shape[:2]
    h, w = round(height / ZOOM), round(width / ZOOM)
    top, left = (height - h) // 2, (width - w) // 2
    part = picture[top : top + h, left : left + w]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def right(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """The right part alone, which is not square any more."""
    return picture[:, picture.shape[1] - round(picture.shape[1] * RIGHT_SHARE) :]


def rolled(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """Turned by `ROLL_DEG` to either side; what comes in at the corners is mirrored."""
    height, width = picture.shape[:2]
    angle = ROLL_DEG if rng.random() < 0.5 else -ROLL_DEG
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    turned = cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned, np.uint8)


def darkened(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """With less light."""
    return np.round(picture * DARKER).astype(np.uint8)


def blurred(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """Out of focus."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), BLUR_PX * picture.shape[1] / 224), np.uint8)


def covered(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """With a grey rectangle of the picture's shape over `COVERED_SHARE` of it, anywhere."""
    height, width = picture.shape[:2]
    side = COVERED_SHARE**0.5
    h, w = round(height * side), round(width * side)
    top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    out = picture.copy()
    out[top : top + h, left : left + w] = 128
    return out


CHANGES: dict[str, Callable[[Bytes, np.random.Generator], Bytes]] = {
    change.__name__: change for change in (zoomed, right, rolled, darkened, blurred, covered)
}


def perturb(picture: Bytes, change: str, seed: int) -> Bytes:
    """``picture`` (height, width, 3) uint8 RGB with one of `CHANGES`; ``seed`` decides what is random about it.

    >>> perturb(np.zeros((100, 100, 3), np.uint8), "right", 0).shape
    (100, 65, 3)
    """
    return CHANGES[change](picture, np.random.default_rng([seed, list(CHANGES).index(change)]))
