"""Decode a picture, and measure its format, size and brightness."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageFile, ImageStat

from streetrecall.pictures.structure import NotAPictureError, Structure, read_structure

# How to make a picture upright, by EXIF's orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """Width and height in pixels, format (JPEG or PNG), mean luminance 0-255 (ITU-R 601 luma)."""

    width: int
    height: int
    format: str
    luminance: float


def inspect(data: bytes) -> Picture:
    """Decode a picture; a JPEG at an eighth of its size, which is faster and still reads every byte.

    Raises:
        NotAPictureError: the bytes are empty, truncated, damaged, of another format, or of too large a picture.

    >>> inspect(b"<html>")
    Traceback (most recent call last):
    streetrecall.pictures.structure.NotAPictureError: not a JPEG or PNG picture (HTML or XML)
    """
    found = read_structure(data)
    luminance = ImageStat.Stat(decode(found, rough=True).convert("L")).mean[0]
    return Picture(found.width, found.height, found.format, luminance)


def decode(found: Structure, rough: bool = False) -> Image.Image:
    """The pixels of a picture, upright. Mode RGB, of a JPEG also L or CMYK; 16 bits are scaled to 8.

    ``rough`` allows a JPEG's luminance at an eighth of its size in place of its pixels.

    Raises:
        NotAPictureError: the picture is damaged.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so damaged pictures would be accepted")
    image = _decode_png(found.bare) if found.format == "PNG" else _decode_jpeg(found.bare, rough)
    return image.transpose(_UPRIGHT[found.orientation]) if found.orientation in _UPRIGHT else image


def _decode_jpeg(data: bytes, rough: bool) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
        if rough:
            image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
    except Image.UnidentifiedImageError as error:  # its message has the address of an object
        raise NotAPictureError("damaged: its header cannot be read") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise NotAPictureError(f"damaged: {error}") from error
    return image


def _decode_png(data: bytes) -> Image.Image:
    """By OpenCV, which takes two thirds of Pillow's time and refuses a stream of pixels that ends early."""
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise NotAPictureError("damaged: its pixels cannot be decoded")
    return Image.fromarray(pixels)
