"""The look of a phone's photo."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def phone(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """``picture`` (height, width, 3) uint8 RGB as a phone develops it.

    White balance, exposure, lifted shadows, an S-shaped curve, strong colours and sharpened edges are drawn from
    ``rng``.
    """
    x = np.linspace(0, 1, 256)
    x = x ** rng.uniform(0.75, 1.1)  # below 1 it lifts the shadows
    strength = rng.uniform(0.0, 0.6)
    x = (1 - strength) * x + strength * (x * x * (3 - 2 * x))
    gains = 1 + rng.normal(0, 0.04, 3)
    table = np.clip(np.round(x[None, :, None] * gains * rng.uniform(0.85, 1.15) * 255), 0, 255).astype(np.uint8)
    out = cv2.LUT(picture, table)
    s = rng.uniform(1.0, 1.35)
    matrix = s * np.eye(3) + (1 - s) * np.array([0.299, 0.587, 0.114])[None, :]
    out = cv2.transform(out, matrix.astype(np.float32))
    soft = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.8, 1.6))
    amount = rng.uniform(0.3, 1.0)
    return np.asarray(cv2.addWeighted(out, 1 + amount, soft, -amount, 0), np.uint8)


def jpeg_quality(rng: np.random.Generator) -> int:
    """The JPEG quality of a phone or of an app that sends its photos on."""
    return int(rng.integers(75, 95))


def cover(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """``picture`` with one rectangle of an even colour in its lower two thirds, as a car or a person hides a part."""
    height, width = picture.shape[:2]
    w, h = int(width * rng.uniform(0.1, 0.45)), int(height * rng.uniform(0.1, 0.45))
    x, y = int(rng.uniform(0, width - w)), int(rng.uniform(height / 4, height - h))
    out = picture.copy()
    out[y : y + h, x : x + w] = rng.integers(0, 200, 3)
    return out
