"""JPEG and PNG files as arrays of pixels, and back."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def decode(data: bytes) -> Bytes | None:
    """The pixels of a JPEG or PNG, (height, width, 3) uint8 RGB; None if it cannot be decoded."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    return None if pixels is None else np.asarray(pixels, np.uint8)


def encode_jpeg(picture: Bytes, quality: int) -> bytes:
    """A picture (height, width, 3) uint8 RGB as JPEG.

    Raises:
        RuntimeError: OpenCV could not encode it.
    """
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape} as JPEG")
    return data.tobytes()
