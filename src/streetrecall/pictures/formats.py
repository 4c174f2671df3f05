"""WebP, HEIC and AVIF: formats of phones and of the web, which the stages take as JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from streetrecall.pictures.codec import encode_jpeg
from streetrecall.pictures.structure import NotAPictureError, kind_of, read_structure

Bytes = NDArray[np.uint8]

HEIF = {"HEIC", "AVIF"}
CONVERTED = {"WebP", *HEIF}
PICTURES = {"JPEG", "PNG", *CONVERTED}
# A JPEG is decoded at a part of its size if it is large; the other formats only as a whole, which takes 3 to 8 bytes
# a pixel.
MAX_PIXELS = {"JPEG": 89_000_000}
MAX_PIXELS_WHOLE = 70_000_000
QUALITY = 95  # of the JPEG that is made of a picture; its loss is not seen in what the stages make of it
_ORIENTATION = 0x0112  # EXIF
_NAMES = {"WebP": "WEBP", "HEIC": "HEIF"}  # Pillow's own

TURNS = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: p.swapaxes(0, 1)[::-1],
}  # how pixels are made upright, by EXIF's orientation


def open_image(data: bytes, kind: str) -> Image.Image:
    """A picture of the kind that `streetrecall.pictures.structure.kind_of` tells; its pixels are not read yet.

    Raises:
        NotAPictureError: its header cannot be read.
    """
    if kind == "HEIC":
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        return Image.open(io.BytesIO(data), formats=[_NAMES.get(kind, kind)])
    except Exception as error:  # decoders raise many kinds
        raise NotAPictureError("damaged: its header cannot be read") from error


def open_other(data: bytes, kind: str) -> tuple[Image.Image, int]:
    """A WebP, HEIC or AVIF picture and the orientation in which its pixels will be, by EXIF's number.

    Raises:
        NotAPictureError: its header cannot be read, or it is too large.
    """
    image = open_image(data, kind)
    if image.width * image.height > MAX_PIXELS_WHOLE:
        raise NotAPictureError(
            f"{image.width} x {image.height} pixels; the largest {kind} that is read has "
            f"{MAX_PIXELS_WHOLE // 1_000_000} megapixels"
        )
    return image, 1 if kind in HEIF else _orientation(image)  # HEIF's decoders turn it themselves


def pixels_of(image: Image.Image) -> Bytes:
    """The pixels (h, w, 3) of ``image`` as stored, RGB of 8 bits; what is transparent is white.

    Raises:
        NotAPictureError: they cannot be decoded.
    """
    try:
        image.load()
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return np.asarray(image.convert("RGB"), np.uint8)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many kinds
        text = str(error)
        cut = "truncated" in text or "end of" in text.lower()
        raise NotAPictureError("truncated: its end is missing" if cut else f"damaged: {text}") from error


def as_jpeg(data: bytes) -> bytes:
    """A WebP, HEIC or AVIF picture as an upright JPEG without metadata; any other file as it is.

    Raises:
        NotAPictureError: a picture of these formats cannot be decoded, or is too large.

    >>> as_jpeg(b"<html>")
    b'<html>'
    """
    kind = kind_of(data)
    if kind not in CONVERTED:
        return data
    image, orientation = open_other(data, kind)
    pixels = pixels_of(image)
    if orientation in TURNS:
        pixels = np.ascontiguousarray(TURNS[orientation](pixels))
    return encode_jpeg(pixels, QUALITY)


def require_picture(data: bytes) -> None:
    """Make sure that a file is a whole picture: of JPEG and PNG by its structure alone, of other formats by its pixels.

    Raises:
        NotAPictureError: it is none; the message says why.

    >>> require_picture(b"<html>")
    Traceback (most recent call last):
    streetrecall.pictures.structure.NotAPictureError: not a JPEG or PNG picture (HTML or XML)
    """
    kind = kind_of(data)
    if kind in CONVERTED:
        pixels_of(open_other(data, kind)[0])
    else:
        read_structure(data)


def _orientation(image: Image.Image) -> int:
    try:
        value = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF raises many kinds
        return 1
    return value if value in TURNS else 1
