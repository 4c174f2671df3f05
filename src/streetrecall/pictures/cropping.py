"""Make the picture that the network sees from a captured one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from streetrecall.params.schema import Crop
from streetrecall.pictures.inspect import decode
from streetrecall.pictures.phash import NO_HASH, phash
from streetrecall.pictures.quarantine import UNDECODABLE, WRONG_SHAPE
from streetrecall.pictures.structure import NotAPictureError, read_structure


@dataclass(frozen=True)
class Cropped:
    """An encoded picture with its perceptual hash, luminance (0-255) and size in pixels.

    ``flaw`` is ``undecodable``, ``wrong_shape`` or the empty string.
    """

    data: bytes
    phash: str
    luminance_mean: float
    luminance_std: float
    width: int
    height: int
    flaw: str

    def pack(self, captured: bytes) -> bytes:
        """All of it as bytes, without the picture if that is ``captured`` itself."""
        facts = {name: value for name, value in asdict(self).items() if name != "data"}
        unchanged = self.data == captured
        header = json.dumps({"unchanged": unchanged, **facts}).encode()
        return header + b"\n" + (b"" if unchanged else self.data)

    @classmethod
    def unpack(cls, packed: bytes, captured: Callable[[], bytes]) -> Cropped:
        """What `pack` made; ``captured`` is called only if the picture was unchanged."""
        header, _, data = packed.partition(b"\n")
        facts = json.loads(header)
        return cls(data=captured() if facts.pop("unchanged") else data, **facts)


def crop_picture(data: bytes, settings: Crop) -> Cropped:
    """Cut and resize the captured picture ``data`` (JPEG or PNG).

    - A picture that EXIF says to turn or mirror is made upright first.
    - An upright JPEG that has the right size already keeps its bytes; metadata and what follows its end are left out.
    - From a frame that contains ``settings.box``, the box is cut out and resized by Pillow's bicubic filter, which is
      the filter that the published collection was made with.
    - A square picture that is smaller than the box is resized as a whole.
    - From a picture of another shape the central square is taken, and it is flagged as ``wrong_shape``.
    - A picture that cannot be decoded is kept as it is and flagged as ``undecodable``.
    """
    try:
        found = read_structure(data)
        frame = decode(found)
    except NotAPictureError:
        return Cropped(data, NO_HASH, 0.0, 0.0, 0, 0, UNDECODABLE)
    fits = frame.size == (settings.size, settings.size) and frame.mode in ("RGB", "L")
    if fits and found.format == "JPEG" and found.orientation == 1:
        return _describe(found.bare, frame.convert("L"), "")
    box, flaw = _box(frame.width, frame.height, settings)
    encoded = io.BytesIO()
    resized = frame.crop(box).convert("RGB").resize((settings.size, settings.size), Image.Resampling.BICUBIC)
    resized.save(encoded, "JPEG", quality=settings.quality)
    with Image.open(encoded) as made:  # what later stages will decode; encoding has changed it slightly
        return _describe(encoded.getvalue(), made.convert("L"), flaw)


def _describe(data: bytes, grey: Image.Image, flaw: str) -> Cropped:
    luminance = np.asarray(grey, dtype=np.float64)
    mean, std = round(float(luminance.mean()), 3), round(float(luminance.std()), 3)
    return Cropped(data, phash(grey), mean, std, grey.width, grey.height, flaw)


def _box(width: int, height: int, settings: Crop) -> tuple[tuple[int, int, int, int], str]:
    """The box to cut out of a picture of this size (left, top, right, bottom), and the picture's flaw."""
    left, top, right, bottom = settings.box
    if width >= right and height >= bottom:
        return (left, top, right, bottom), ""
    side = min(width, height)
    x, y = (width - side) // 2, (height - side) // 2
    return (x, y, x + side, y + side), "" if width == height >= settings.size else WRONG_SHAPE
