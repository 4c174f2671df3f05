"""Check that bytes are a complete picture, and measure its format, size and brightness."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageFile, ImageStat

FORMATS = ("JPEG", "PNG")


class NotAPictureError(Exception):
    """The bytes are not a complete JPEG or PNG picture; the message says why."""


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
    streetrecall.pictures.inspect.NotAPictureError: not a JPEG or PNG picture
    """
    if not data:
        raise NotAPictureError("empty")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so damaged pictures would be accepted")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height, kind = image.width, image.height, str(image.format)
                image.draft("L", (max(1, width // 8), max(1, height // 8)))
                luminance = ImageStat.Stat(image.convert("L")).mean[0]
    except Image.UnidentifiedImageError:
        problem = "not a JPEG or PNG picture"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        problem = "more pixels than a street view can have"
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: what Pillow raises for a broken PNG
        problem = f"damaged: {error}"
    else:
        return Picture(width, height, kind, luminance)
    raise NotAPictureError(problem)
