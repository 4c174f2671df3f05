"""The format, size and orientation of an encoded picture and where it ends, read without decoding its pixels.

This module alone decides whether a file is a whole picture. The stages scrape and crop and the checks of their tables
all ask it, so they cannot disagree.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from PIL import Image

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

# How other files that are found under a picture's name begin, and what they are.
_OTHERS = {
    rb"RIFF....WEBP": "WebP",
    rb"GIF8": "GIF",
    rb"....ftyp(?:heic|heix|heim|heis|mif1|msf1)": "HEIC",
    rb"....ftypavif": "AVIF",
    rb"....ftyp": "a video",
    rb"BM": "BMP",
    rb"II\*\0|MM\0\*": "TIFF or a camera's raw format",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "JPEG XL",
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51": "JPEG 2000",
    rb"%PDF": "PDF",
    rb"\s*<": "HTML or XML",
    rb"version https://git-lfs": "a pointer of Git LFS: run git lfs pull in the collection",
}

# JPEG: a marker is 0xFF and one more byte. 0xFF 0x00 is data, 0xFF 0xFF is padding, D0 to D7 are restarts within data.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_SOI, _EOI, _SOS, _APP0, _APP1, _APP14, _APP15, _COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_DECODABLE_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEGMENTS = {*range(0xC0, 0xD0), *range(0xDA, 0xF0), _COM}  # what may stand before the end; other markers are reserved
_MAX_SCANS = 200  # of a progressive picture; usual are 10, and thousands take a decoder minutes
_ORIENTATION = 0x0112  # EXIF


class NotAPictureError(Exception):
    """The bytes are not a complete JPEG or PNG picture; the message says why."""


@dataclass(frozen=True)
class Structure:
    """What a picture's header says.

    ``width`` and ``height`` are those of the upright picture, in pixels. ``orientation`` is EXIF's number, 1 to 8; 1
    means that the pixels are stored upright. ``bare`` is the picture without its metadata and without what follows its
    end; it decodes to the same pixels.
    """

    format: str  # JPEG or PNG
    width: int
    height: int
    orientation: int
    bare: bytes


def kind_of(data: bytes) -> str:
    """What a file is by how it begins: JPEG, PNG, WebP, HEIC, another word for a person, or the empty string.

    >>> kind_of(b"<html>"), kind_of(b"abc")
    ('HTML or XML', '')
    """
    if data.startswith(_JPEG):
        return "JPEG"
    if data.startswith(_PNG):
        return "PNG"
    return next((name for start, name in _OTHERS.items() if re.match(start, data[:64], re.DOTALL)), "")


def read_structure(data: bytes, most_pixels: int | None = None) -> Structure:
    """Read the structure of a whole JPEG or PNG picture of at most ``most_pixels``.

    None: of as many as Pillow accepts, which no street view exceeds.

    - Broken metadata, and whatever follows the end of the picture, is skipped.
    - Of a file with several pictures (MPO, animated PNG) the first one counts. An MPO is a JPEG.

    Raises:
        NotAPictureError: the bytes are empty, truncated, damaged, of another format, or of too large a picture.

    >>> read_structure(b"<html>")
    Traceback (most recent call last):
    streetrecall.pictures.structure.NotAPictureError: not a JPEG or PNG picture (HTML or XML)
    """
    if not data:
        raise NotAPictureError("empty")
    kind = kind_of(data)
    if kind == "JPEG":
        (width, height), exif, bare = _read_jpeg(data)
    elif kind == "PNG":
        (width, height), exif, bare = _read_png(data)
    else:
        raise NotAPictureError("not a JPEG or PNG picture" + f" ({kind})" * bool(kind))
    if not width or not height:
        raise NotAPictureError("damaged: it has no pixels")
    if most_pixels and width * height > most_pixels:
        raise NotAPictureError(
            f"{width} x {height} pixels; the largest {kind} that is read has {most_pixels // 1_000_000} megapixels"
        )
    if not most_pixels and Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise NotAPictureError("more pixels than a street view can have")
    orientation = _orientation(exif)
    if orientation > 4:  # turned by a quarter
        width, height = height, width
    return Structure(kind, width, height, orientation, bare)


def _read_jpeg(data: bytes) -> tuple[tuple[int, int], bytes, bytes]:
    """Width and height as stored, the EXIF block (empty if there is none), and the picture without metadata."""
    kept = [data[:2]]
    size: tuple[int, int] | None = None
    exif, position, scans = b"", 2, 0
    while True:
        marker = _MARKER.search(data, position)
        if marker is None:
            raise NotAPictureError("truncated: its end is missing")
        code, start, position = marker[1][0], marker.start(), marker.end()
        if code == _EOI:
            break
        if code not in _SEGMENTS or scans > _MAX_SCANS:
            raise NotAPictureError(
                "damaged: " + ("another picture begins inside it" if code == _SOI else "bad markers")
            )
        length = int.from_bytes(data[position : position + 2], "big")
        content, position = data[position + 2 : position + length], position + length
        if position > len(data) or len(data) < start + 4:
            raise NotAPictureError("truncated: its end is missing")
        if code in _FRAMES:
            if size is not None or code not in _DECODABLE_FRAMES or len(content) < 6 or content[0] != 8:
                raise NotAPictureError("damaged, or a kind of JPEG that is not read (lossless, arithmetic, 12 bits)")
            size = int.from_bytes(content[3:5], "big"), int.from_bytes(content[1:3], "big")
        elif code == _SOS:
            scans += 1
            following = _MARKER.search(data, position)
            position = following.start() if following else len(data)
        elif code == _APP1 and content.startswith(b"Exif\0\0"):
            exif = exif or content[6:]
        if _decides_pixels(code, content):
            kept.append(data[start:position])
    if size is None or not scans:
        raise NotAPictureError("damaged: it has no pixels")
    return size, exif, b"".join([*kept, data[start:position]])


def _decides_pixels(code: int, content: bytes) -> bool:
    """Whether a JPEG's segment is more than metadata. JFIF and Adobe say which colours the numbers mean."""
    if code == _APP0:
        return content.startswith(b"JFIF\0") and len(content) >= 14
    if code == _APP14:
        return content.startswith(b"Adobe") and len(content) >= 12
    return code != _COM and not _APP0 <= code <= _APP15


def _read_png(data: bytes) -> tuple[tuple[int, int], bytes, bytes]:
    """As `_read_jpeg`. Chunks whose name begins with a small letter are metadata; checksums of others must be right."""
    kept = [data[:8]]
    exif, position, kind = b"", 8, b""
    while kind != b"IEND":
        start = position
        if len(data) < start + 12:
            raise NotAPictureError("truncated: its end is missing")
        length, kind = struct.unpack_from(">I4s", data, start)
        position = start + 12 + length
        if not kind.isalpha() or (len(kept) == 1) != (kind == b"IHDR"):
            raise NotAPictureError("damaged: it does not begin as a PNG does")
        if position > len(data):
            raise NotAPictureError("truncated: its end is missing")
        if kind[:1].islower():
            exif = exif or data[start + 8 : position - 4] * (kind == b"eXIf")
            continue
        if zlib.crc32(data[start + 4 : position - 4]) != int.from_bytes(data[position - 4 : position], "big"):
            raise NotAPictureError(f"damaged: the checksum of its part {kind.decode()} is wrong")
        kept.append(data[start:position])
    header = kept[1][8:-4]
    if len(header) != 13 or not any(chunk[4:8] == b"IDAT" for chunk in kept):
        raise NotAPictureError("damaged: it has no pixels")
    width, height = struct.unpack_from(">II", header)
    return (width, height), exif, b"".join(kept)


def _orientation(exif: bytes) -> int:
    """The orientation in an EXIF block; 1 where there is none that can be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, directory + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
