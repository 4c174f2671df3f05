"""From light to a picture: what lens, sensor and processing of a camera do, and the JPEG file."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from streetrecall.simulator.city.cameras import Camera
from streetrecall.simulator.render.tables import Bytes

QUALITY = 88
GREY = 228  # of the picture that says that there is none
DARK = 3  # of a frame that is almost black


def develop(image: Bytes, camera: Camera, width: int, height: int) -> Bytes:
    """A picture (height, width, 3) of a camera from the light (h, w, 3): blur, tone, colour, noise, enlargement."""
    if camera.blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), camera.blur)
    x = np.arange(256) / 255.0
    tables = np.empty((1, 256, 3), np.uint8)
    for c in range(3):
        curve = (x - 0.5) * camera.contrast + 0.5
        tables[0, :, c] = np.clip(np.round(np.clip(curve * camera.gain[c], 0, 1) * 255), 0, 255)
    image = cv2.LUT(image, tables)
    if camera.saturation != 1.0:
        s = camera.saturation
        luma = np.array([0.299, 0.587, 0.114])
        matrix = s * np.eye(3) + (1 - s) * luma[None, :]
        image = cv2.transform(image, matrix.astype(np.float32))
    if camera.noise > 0:
        h, w = image.shape[:2]
        image = cv2.add(image, _grain(h, w, camera.noise), dtype=cv2.CV_8U)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(image, dtype=np.uint8)


@lru_cache(maxsize=16)
def _grain(height: int, width: int, noise: float) -> NDArray[np.int16]:
    """Noise of a sensor (height, width, 3): one pattern for each size. It is far below what facades differ by."""
    rng = np.random.default_rng([106, height, width])
    return np.repeat(np.round(rng.normal(0, noise, (height, width, 1))), 3, axis=2).astype(np.int16)


def dark(width: int, height: int) -> Bytes:
    """The frame of a camera that failed: (height, width, 3), almost black."""
    return np.full((height, width, 3), DARK, np.uint8)


def grey(width: int, height: int) -> Bytes:
    """The picture that the static-image contract serves where there is no imagery: (height, width, 3)."""
    return np.full((height, width, 3), GREY, np.uint8)


def jpeg(picture: Bytes, quality: int = QUALITY) -> bytes:
    """A picture (height, width, 3) RGB as JPEG.

    Raises:
        RuntimeError: OpenCV could not encode it.
    """
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape} as JPEG")
    return data.tobytes()
