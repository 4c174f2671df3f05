"""A photo as people have it: read with bounded memory, made upright, reduced, and what its metadata say.

Formats are told by content: JPEG, PNG, WebP, HEIC and AVIF. Photos that are asked with go through `read_photo` wherever
they come from, so the evaluation and a bundle see the same pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from streetrecall.errors import UserError
from streetrecall.pictures.formats import (
    CONVERTED,
    MAX_PIXELS,
    MAX_PIXELS_WHOLE,
    TURNS,
    open_image,
    open_other,
    pixels_of,
)
from streetrecall.pictures.structure import NotAPictureError, kind_of, read_structure

Bytes = NDArray[np.uint8]

MAX_BYTES = 100_000_000
ENOUGH_PX = 1024  # a photo is reduced if both its sides stay above this, or its longer one above twice this
ENOUGH_SPHERE_PX = 4096  # width of a 360-degree picture
MIN_PX = 32
_HEAD = 262_144  # bytes in which XMP begins
_ONE_POINT = 12.0  # the first row of a sphere is one point of the sky, so its values differ by no more, 0-255


class NotAPhotoError(UserError):
    """A photo that cannot be read: ``name`` says which, ``reason`` why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Photo:
    """A photo's pixels and what it says of itself.

    ``pixels`` (h, w, 3) uint8 RGB, upright, reduced. ``width`` and ``height`` are those of the file, upright.
    ``position`` (latitude, longitude) and ``heading_deg`` are what its metadata say, and ``month`` is ``YYYY-MM``; None
    and empty where they say nothing. ``sphere`` tells that the picture is equirectangular, and shows everything around.
    """

    name: str
    pixels: Bytes = field(repr=False)
    width: int
    height: int
    format: str
    position: tuple[float, float] | None = None
    heading_deg: float | None = None
    month: str = ""
    sphere: bool = False


def read_photo(source: bytes | str | Path, name: str = "") -> Photo:
    """Read a photo: a file's path, or its bytes with the name that errors give it.

    Raises:
        NotAPhotoError: it cannot be read, or is no whole picture of a known format, or is too large.
    """
    if isinstance(source, bytes):
        name, data = name or "photo", source
    else:
        name, data = name or str(source), _read_file(Path(source), name or str(source))
    if len(data) > MAX_BYTES:
        raise NotAPhotoError(name, f"has more than {MAX_BYTES // 1_000_000} MB; send a smaller one")
    try:
        return _read(data, name)
    except NotAPictureError as error:
        raise NotAPhotoError(name, str(error)) from error
    except MemoryError as error:
        raise NotAPhotoError(name, "this machine has too little memory to decode it") from error


def read_pixels(data: bytes) -> Bytes:
    """The pixels of `read_photo`.

    Raises:
        NotAPhotoError: as `read_photo`.
    """
    return read_photo(data).pixels


def resize(pixels: Bytes, height: int, width: int) -> NDArray[np.float32]:
    """``pixels`` as the network sees them: resized with a triangle filter that is as wide as the reduction.

    Values are not rounded, so they are those of TensorFlow's antialiased ``tf.image.resize``. Of a picture that is more
    than four times too large, whole blocks are averaged first, which is faster.
    """
    if pixels.shape[:2] == (height, width):
        return pixels.astype(np.float32)
    blocks = int(min(pixels.shape[0] / height, pixels.shape[1] / width) / 2)
    if blocks > 1:
        size = pixels.shape[1] // blocks, pixels.shape[0] // blocks
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    out = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        image = Image.fromarray(pixels[:, :, channel].astype(np.float32))
        out[:, :, channel] = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return out


def prepare(picture: Bytes, taken: Sequence[tuple[int, int]]) -> list[NDArray[np.float32]]:
    """A photo (h, w, 3) as the network sees it, 0-255: resized to that of the sizes ``taken`` of the nearest shape.

    ``taken`` are heights and widths. For a network that takes squares only, a photo of another shape becomes three
    squares, and the mean of their descriptors counts.
    """
    height, width = picture.shape[:2]
    if height != width and all(h == w for h, w in taken):
        return [resize(square, *taken[0]) for square in _squares(picture)]
    return [resize(picture, *nearest_shape(width, height, taken))]


def _squares(picture: Bytes) -> Iterator[Bytes]:
    """Three squares that hold the whole ``picture``, with a mirrored border on its one side, on both and on the other.

    Such pictures were recognised more often so than by their middle alone or squeezed (docs/experiments.md).
    """
    height, width = picture.shape[:2]
    missing = abs(height - width)
    for before in (0, missing // 2, missing):
        border = [(before, missing - before), (0, 0)]
        yield np.pad(picture, [*(border if height < width else border[::-1]), (0, 0)], mode="symmetric")


def nearest_shape(width: int, height: int, taken: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The height and width, of those in ``taken``, whose shape is the nearest to that of a picture.

    >>> [nearest_shape(w, h, [(192, 256), (256, 192), (224, 224)]) for w, h in ((640, 480), (900, 1600), (500, 480))]
    [(192, 256), (256, 192), (224, 224)]
    """
    return min(taken, key=lambda size: abs(np.log(width / height * size[0] / size[1])))


def reduce_to(pixels: Bytes, longest_px: int) -> Bytes:
    """``pixels`` reduced to ``longest_px`` on their longer side if they are larger."""
    scale = longest_px / max(pixels.shape)
    if scale >= 1:
        return pixels
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _read_file(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            raise NotAPhotoError(name, "is a folder; name the photos in it")
        if path.exists() and not path.is_file():
            raise NotAPhotoError(name, "is no file")
        if path.stat().st_size > MAX_BYTES:
            raise NotAPhotoError(name, f"has more than {MAX_BYTES // 1_000_000} MB; take a smaller one")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotAPhotoError(name, "there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise NotAPhotoError(name, getattr(error, "strerror", None) or str(error)) from error


def _read(data: bytes, name: str) -> Photo:
    kind = kind_of(data)
    if kind in ("JPEG", "PNG"):
        found = read_structure(data, MAX_PIXELS.get(kind, MAX_PIXELS_WHOLE))
        image, orientation = open_image(found.bare, kind), found.orientation
    elif kind in CONVERTED:
        image, orientation = open_other(data, kind)
    elif not data:
        raise NotAPictureError("empty: it has 0 bytes")
    else:
        raise NotAPictureError(f"not a JPEG, PNG, WebP, HEIC or AVIF picture{f' ({kind})' * bool(kind)}")
    turned = orientation > 4
    width, height = (image.height, image.width) if turned else image.size
    if min(width, height) < MIN_PX:
        raise NotAPictureError(f"only {width} x {height} pixels; a photo to be recognised needs some hundred each way")
    xmp = data[:_HEAD]
    wide = _says_sphere(xmp) or abs(width - 2 * height) <= 2
    pixels = _pixels(image, kind, found.bare if kind == "PNG" else data, ENOUGH_SPHERE_PX if wide else ENOUGH_PX)
    if orientation != 1:
        pixels = np.ascontiguousarray(TURNS[orientation](pixels))
    sphere = _says_sphere(xmp) or (wide and width >= 512 and _closes(pixels))
    position, heading, month = _metadata(data, kind)
    heading = _pose_heading(xmp) if sphere else heading
    if not sphere:
        pixels = _reduced(pixels, ENOUGH_PX)
    elif abs(width - 2 * height) > 2:
        pixels = _whole_sphere(pixels, width, height, xmp)
    return Photo(name, pixels, width, height, kind, position, heading, month, sphere)


def _pixels(image: Image.Image, kind: str, data: bytes, enough: int) -> Bytes:
    """The pixels of ``image`` as stored, RGB of 8 bits; of a JPEG perhaps at a half, a quarter or an eighth."""
    if kind == "PNG" and (image.mode.startswith("I") or image.mode == "F"):  # OpenCV scales 16 bits to 8
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise NotAPictureError("damaged: its pixels cannot be decoded") from error
        if pixels is None:
            raise NotAPictureError("damaged: its pixels cannot be decoded")
        return np.asarray(pixels, np.uint8)
    if kind == "JPEG":
        scale = max(min(image.size) // enough, max(image.size) // (2 * enough), 1)
        image.draft(None, (max(image.width // scale, 1), max(image.height // scale, 1)))
    return pixels_of(image)


def _reduced(pixels: Bytes, enough: int) -> Bytes:
    """Half, a third, ... of ``pixels``, by the mean of whole blocks, while enough of them are left."""
    height, width = pixels.shape[:2]
    scale = max(min(height, width) // enough, max(height, width) // (2 * enough), 1)
    if scale == 1:
        return pixels
    size = max(width // scale, 1), max(height // scale, 1)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


# Metadata. None of it is trusted: what cannot be read is left out, and nothing of it decides an answer.


def _metadata(data: bytes, kind: str) -> tuple[tuple[float, float] | None, float | None, str]:
    """Position, heading and month that EXIF says."""
    try:
        exif = open_image(data, kind).getexif()
        gps, taken = exif.get_ifd(0x8825), exif.get_ifd(0x8769)
    except Exception:  # broken EXIF raises many kinds
        return None, None, ""
    return _position(gps), _number(gps.get(17), 0, 360), _month(taken.get(0x9003) or exif.get(0x0132))


def _position(gps: dict) -> tuple[float, float] | None:
    values = []
    for reference, parts, most in (("1", gps.get(2), 90.0), ("3", gps.get(4), 180.0)):
        try:
            degrees, minutes, seconds = (float(part) for part in parts)  # type: ignore[union-attr]
        except Exception:  # any type may stand there
            return None
        value = degrees + minutes / 60 + seconds / 3600
        if not (math.isfinite(value) and 0 <= value <= most):
            return None
        letter = str(gps.get(int(reference), "")).strip("\0 ").upper()[:1]
        values.append(-value if letter in ("S", "W") else value)
    return None if values == [0.0, 0.0] else (round(values[0], 7), round(values[1], 7))


def _number(value: object, low: float, high: float) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except Exception:  # any type may stand there
        return None
    return number if math.isfinite(number) and low <= number <= high else None


def _month(text: object) -> str:
    """Month of EXIF's date.

    >>> _month("2023:07:14 10:00:00"), _month("0000:00:00 00:00:00"), _month(None)
    ('2023-07', '', '')
    """
    found = re.match(r"([12]\d{3})[:-](0[1-9]|1[0-2])[:-]", text) if isinstance(text, str) else None
    return f"{found[1]}-{found[2]}" if found else ""


# 360-degree pictures


def _says_sphere(head: bytes) -> bool:
    return bool(re.search(rb"ProjectionType\s*(?:=\s*[\"']|>)\s*equirectangular", head))


def _gpano(head: bytes, name: bytes) -> float | None:
    found = re.search(rb"GPano:" + name + rb"\s*(?:=\s*[\"']|>)\s*(-?[0-9.]{1,12})", head)
    return _number(found[1].decode(), -1e6, 1e6) if found else None


def _pose_heading(head: bytes) -> float | None:
    value = _gpano(head, b"PoseHeadingDegrees")
    return None if value is None else value % 360.0


def _closes(pixels: Bytes) -> bool:
    """Whether a picture of 2 to 1 is a whole sphere: its left edge continues its right one, and its first row, which is
    one point of the sky, has one colour. An ordinary photo of that shape has neither."""
    values = pixels.astype(np.float32)
    seam = np.abs(values[:, 0] - values[:, -1]).mean()
    step = np.abs(np.diff(values[:, :: max(values.shape[1] // 64, 1)], axis=1)).mean()
    return bool(values[0].std(axis=0).max() <= _ONE_POINT and seam <= 0.5 * step + 4.0)


def _whole_sphere(pixels: Bytes, width: int, height: int, head: bytes) -> Bytes:
    """A sphere of 2 to 1 with ``pixels`` where GPano says that they belong, grey elsewhere."""
    whole_width = _gpano(head, b"FullPanoWidthPixels") or float(width)
    whole_height = _gpano(head, b"FullPanoHeightPixels") or whole_width / 2
    left = _gpano(head, b"CroppedAreaLeftPixels") or 0.0
    top = _gpano(head, b"CroppedAreaTopPixels")
    if top is None:
        top = (whole_height - height) / 2
    scale = pixels.shape[1] / width
    size = round(whole_width * scale), round(whole_width * scale / 2)
    fits = whole_width >= width and left + width <= whole_width + 1 and 64 <= size[0] <= 4 * ENOUGH_SPHERE_PX
    if not fits:  # its metadata contradict its size
        return np.asarray(ImageOps.pad(Image.fromarray(pixels), (2 * pixels.shape[0], pixels.shape[0])), np.uint8)
    sphere = np.full((size[1], size[0], 3), 128, np.uint8)
    x, y = min(max(round(left * scale), 0), size[0] - 1), min(max(round(top * scale), 0), size[1] - 1)
    part = pixels[: size[1] - y, : size[0] - x]
    sphere[y : y + part.shape[0], x : x + part.shape[1]] = part
    return sphere
