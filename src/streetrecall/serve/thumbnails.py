"""Small pictures."""

from __future__ import annotations

import io

from PIL import Image

SIDE = 128  # longer side, pixels


def thumbnail(data: bytes) -> bytes:
    """A small JPEG of a picture."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (2 * SIDE, 2 * SIDE))
        small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "jpeg", quality=82)
    return buffer.getvalue()
