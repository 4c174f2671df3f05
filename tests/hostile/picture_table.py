"""A table of hostile pictures: files that people have under a picture's name. A new case is a new line.

`WHOLE` are pictures that the pipeline takes; `REFUSED` are files that it names and goes on without.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

SIDE = 224
TAIL = b"\xff\xd9"


def scene(seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Coarse blocks with some noise, so that no two corners look alike."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(30, 220, (7, 7, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)
    noise = rng.integers(-9, 10, (*size[::-1], 3))
    return Image.fromarray((np.asarray(blocks, dtype=int) + noise).astype(np.uint8))


def encoded(image: Image.Image | None = None, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    (image or scene()).save(file, kind, **options)
    return file.getvalue()


JPEG = encoded()
PNG = encoded(kind="PNG")


# -- parts of files --------------------------------------------------------------------------------------------------


def segment(code: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, code]) + (len(content) + 2).to_bytes(2, "big") + content


def with_segment(code: int, content: bytes, jpeg: bytes = JPEG) -> bytes:
    """``jpeg`` with a segment after its start."""
    return jpeg[:2] + segment(code, content) + jpeg[2:]


def exif(orientation: int, order: str = "<") -> bytes:
    """The content of an EXIF segment with one entry."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Name and content of each chunk of a PNG."""
    found, position = [], 8
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        found.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + length]))
        position += length + 12
    return found


def png_of(*parts: tuple[bytes, bytes]) -> bytes:
    packed = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


HEADER, *_ = chunks(PNG)
STREAM = b"".join(content for kind, content in chunks(PNG) if kind == b"IDAT")
END = (b"IEND", b"")


def png_with(kind: bytes, content: bytes) -> bytes:
    """`PNG` with a chunk after its header."""
    return png_of(HEADER, (kind, content), (b"IDAT", STREAM), END)


def in_pieces() -> list[tuple[bytes, bytes]]:
    step = len(STREAM) // 4 + 1
    return [(b"IDAT", STREAM[i : i + step]) for i in range(0, len(STREAM), step)]


def header(width: int, height: int, bits: int = 8, colour: int = 2, interlaced: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)


def interlaced_png(image: Image.Image | None = None) -> bytes:
    pixels = np.asarray(image or scene())
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [b"\0" + row.tobytes() for x, y, dx, dy in passes for row in pixels[y::dy, x::dx]]
    return png_of(header(*pixels.shape[1::-1], interlaced=1), (b"IDAT", zlib.compress(b"".join(rows))), END)


def sixteen_bits(grey: bool) -> bytes:
    """A PNG of 16 bits a colour, most significant byte first."""
    pixels = np.asarray(scene().convert("L") if grey else scene()).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png_of(header(SIDE, SIDE, 16, 0 if grey else 2), (b"IDAT", zlib.compress(rows)), END)


def cmyk(transform: int, image: Image.Image | None = None) -> bytes:
    """A JPEG of four colours: 0 says CMYK, 2 says YCCK."""
    data = encoded((image or scene()).convert("CMYK"))
    at = data.index(b"Adobe") + 11
    return data[:at] + bytes([transform]) + data[at + 1 :]


def mpo(image: Image.Image | None = None) -> bytes:
    return encoded(image, "MPO", save_all=True, append_images=[scene(1)])


def sized(jpeg: bytes, width: int, height: int, frame: int = 0xC0, bits: int = 8) -> bytes:
    """A JPEG whose header says other things than its content."""
    at = jpeg.index(b"\xff\xc0")
    return (
        jpeg[:at]
        + bytes([0xFF, frame])
        + jpeg[at + 2 : at + 4]
        + struct.pack(">BHH", bits, height, width)
        + jpeg[at + 9 :]
    )


THUMBNAIL = encoded(scene(size=(16, 16)))
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40 + TAIL
HALF = JPEG[: len(JPEG) // 2]

# -- the table -------------------------------------------------------------------------------------------------------

WHOLE: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: JPEG,
    "JPEG, progressive": lambda: encoded(progressive=True),
    "JPEG, grey": lambda: encoded(scene().convert("L")),
    "JPEG, CMYK": lambda: cmyk(0),
    "JPEG, YCCK": lambda: cmyk(2),
    "JPEG with restart markers": lambda: encoded(restart_marker_blocks=3),
    "JPEG of other sampling and tables": lambda: encoded(subsampling=0, optimize=True, quality=100),
    "JPEG, padding between its segments": lambda: JPEG[:2] + b"\xff" * 9 + JPEG[2:],
    "MPO, as many cameras write .jpg": mpo,
    "MPO cut in its second picture": lambda: mpo()[:-3000],
    "MPO with a broken index": lambda: with_segment(0xE2, b"MPF\0" + b"\xff" * 60),
    "JPEG and a newline": lambda: JPEG + b"\n",
    "JPEG and 0xFF to the end of the block": lambda: JPEG + b"\xff" * 700,
    "JPEG and zeros": lambda: JPEG + bytes(700),
    "JPEG and another JPEG": lambda: JPEG + encoded(scene(1)),
    "JPEG and half another JPEG": lambda: JPEG + HALF,
    "motion photo": lambda: JPEG + VIDEO,
    "JPEG and HTML": lambda: JPEG + b"<html></html>",
    "EXIF that is noise": lambda: with_segment(0xE1, b"Exif\0\0" + bytes(range(200))),
    "EXIF cut short": lambda: with_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
    "EXIF whose directory is far away": lambda: with_segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xf0"),
    "EXIF, empty": lambda: with_segment(0xE1, b"Exif\0\0"),
    "EXIF with orientation 0": lambda: with_segment(0xE1, exif(0)),
    "EXIF with orientation 99": lambda: with_segment(0xE1, exif(99)),
    "EXIF with a thumbnail": lambda: with_segment(0xE1, exif(1) + THUMBNAIL),
    "XMP that is noise": lambda: with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta"),
    "JFIF cut short": lambda: JPEG[:2] + segment(0xE0, b"JFIF\0") + JPEG[20:],
    "colour profile that is noise": lambda: with_segment(0xE2, b"ICC_PROFILE\0\x09\x01" + bytes(range(99))),
    "Photoshop's segment that is noise": lambda: with_segment(0xED, b"Photoshop 3.0\0" + b"8BIM" * 9),
    "Adobe's segment cut short": lambda: with_segment(0xEE, b"Adobe"),
    "comment that looks like an end": lambda: with_segment(0xFE, TAIL * 9),
    "PNG": lambda: PNG,
    "PNG of 16 bits": lambda: sixteen_bits(grey=False),
    "PNG of 16 bits, grey": lambda: sixteen_bits(grey=True),
    "PNG, grey": lambda: encoded(scene().convert("L"), "PNG"),
    "PNG, grey, transparent": lambda: encoded(scene().convert("LA"), "PNG"),
    "PNG, transparent": lambda: encoded(scene().convert("RGBA"), "PNG"),
    "PNG of a palette": lambda: encoded(scene().quantize(99), "PNG"),
    "PNG of a palette, transparent": lambda: encoded(scene().quantize(99), "PNG", transparency=bytes(range(99))),
    "PNG, interlaced": interlaced_png,
    "PNG in several pieces": lambda: png_of(HEADER, *in_pieces(), END),
    "PNG, animated": lambda: encoded(kind="PNG", save_all=True, append_images=[scene(1)]),
    "PNG and a newline": lambda: PNG + b"\n",
    "PNG and a ZIP": lambda: PNG + b"PK\x03\x04" + bytes(300),
    "PNG with a text whose checksum is wrong": lambda: png_with(b"tEXt", b"a\0b").replace(b"a\0b", b"a\0c"),
    "PNG with a text that unpacks to megabytes": lambda: png_with(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 24))),
    "PNG with a colour profile that is noise": lambda: png_with(b"iCCP", b"\0\0\0\0"),
    "PNG with EXIF that is noise": lambda: png_with(b"eXIf", bytes(range(99))),
}  # fmt: skip

# Each with what the reason says.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "one byte": (lambda: b"\xff", "not a JPEG or PNG"),
    "the first bytes of a JPEG": (lambda: JPEG[:3], "truncated"),
    "half a JPEG": (lambda: HALF, "truncated"),
    "JPEG without its last byte": (lambda: JPEG[:-1], "truncated"),
    "half a JPEG and 0xFF to the end of the block": (lambda: HALF + b"\xff" * 700, "truncated"),
    "half a JPEG and zeros": (lambda: HALF + bytes(len(HALF)), "truncated"),
    "half a JPEG and a newline": (lambda: HALF + b"\n", "truncated"),
    "half a JPEG and a whole one": (lambda: HALF + JPEG, "another picture begins"),
    "half a progressive JPEG": (lambda: encoded(progressive=True)[: len(JPEG) // 2], "truncated"),
    "half a JPEG with a whole thumbnail": (
        lambda: with_segment(0xE1, exif(1) + THUMBNAIL, HALF),
        "truncated",
    ),
    "JPEG without pixels": (lambda: JPEG[: JPEG.index(b"\xff\xda")] + TAIL, "no pixels"),
    "JPEG of start and end": (lambda: JPEG[:2] + b"\xff\xd9", "no pixels"),
    "JPEG of height 0": (lambda: sized(JPEG, SIDE, 0), "no pixels"),
    "JPEG of 12 bits": (lambda: sized(JPEG, SIDE, SIDE, bits=12), "12 bits"),
    "JPEG, lossless": (lambda: sized(JPEG, SIDE, SIDE, frame=0xC3), "lossless"),
    "JPEG, arithmetic": (lambda: sized(JPEG, SIDE, SIDE, frame=0xC9), "arithmetic"),
    "JPEG of 4 gigapixels": (lambda: sized(JPEG, 65535, 65535), "more pixels"),
    "JPEG of a thousand scans": (
        lambda: encoded(progressive=True)[:-2] + (JPEG[JPEG.index(b"\xff\xda") :][:99] * 1000) + TAIL,
        "damaged",
    ),
    "JPEG whose tables are missing": (lambda: re.sub(rb"\xff\xdb\0C.{65}", b"", JPEG, flags=re.DOTALL), "damaged"),
    "JPEG whose first header is noise": (lambda: JPEG[:2] + b"\xff\xc4\0\x09" + b"\xff" * 7 + JPEG[2:], "damaged"),
    "half a PNG": (lambda: PNG[: len(PNG) // 2], "truncated"),
    "PNG without its last byte": (lambda: PNG[:-1], "truncated"),
    "PNG without its end": (lambda: PNG[:-12], "truncated"),
    "PNG that lacks a piece": (lambda: png_of(HEADER, *in_pieces()[:2], *in_pieces()[3:], END), "damaged"),
    "PNG that lacks its last piece": (lambda: png_of(HEADER, *in_pieces()[:-1], END), "damaged"),
    "PNG of half its rows": (
        lambda: png_of(HEADER, (b"IDAT", zlib.compress(zlib.decompress(STREAM)[: SIDE * 300])), END),
        "damaged",
    ),
    "PNG with a flipped bit": (lambda: PNG[:900] + bytes([PNG[900] ^ 1]) + PNG[901:], "checksum"),
    "PNG with a flipped bit and the checksum of it": (
        lambda: png_of(HEADER, (b"IDAT", STREAM[:900] + bytes([STREAM[900] ^ 1]) + STREAM[901:]), END),
        "damaged",
    ),
    "PNG without pixels": (lambda: png_of(HEADER, END), "no pixels"),
    "PNG of width 0": (lambda: png_of(header(0, 9), (b"IDAT", STREAM), END), "no pixels"),
    "PNG of 4 gigapixels": (lambda: png_of(header(65535, 65535), (b"IDAT", STREAM), END), "more pixels"),
    "PNG as an iPhone keeps it": (lambda: png_of((b"CgBI", b"P\0 \x02"), *chunks(PNG)), "not begin"),
    "GIF": (lambda: encoded(kind="GIF"), r"not a JPEG or PNG picture \(GIF\)"),
    "GIF, animated": (lambda: encoded(kind="GIF", save_all=True, append_images=[scene(1)]), r"\(GIF\)"),
    "WebP": (lambda: encoded(kind="WEBP"), r"\(WebP\)"),
    "BMP": (lambda: encoded(kind="BMP"), r"\(BMP\)"),
    "TIFF": (lambda: encoded(kind="TIFF"), r"\(TIFF"),
    "AVIF": (lambda: encoded(kind="AVIF"), r"\(AVIF\)"),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic" + bytes(99), r"\(HEIC\)"),
    "a video": (lambda: VIDEO, r"\(a video\)"),
    "a page": (lambda: b"\n<!DOCTYPE html><title>sorry</title>", r"\(HTML"),
    "a pointer of Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "a text": (lambda: "Здравствуйте".encode(), "not a JPEG or PNG picture$"),
    "zeros": (lambda: bytes(9000), "not a JPEG or PNG picture$"),
}  # fmt: skip
