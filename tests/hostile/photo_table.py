"""A table of photos as people have them, and of what they take for photos. A new case is a new line.

`TAKEN` are read; `TURNED_AWAY` are named, with what the reason says. picture_table.py has more of both.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
from picture_table import END, encoded, header, png_of, scene, sized
from PIL import Image

WIDE, TALL = (320, 240), (240, 320)


def photo(size: tuple[int, int] = WIDE) -> Image.Image:
    return scene(size=size)


def gps(lat: float, lon: float, **more: object) -> Image.Exif:
    """EXIF with a position, a direction and a date."""

    def parts(value: float) -> tuple[float, float, float]:
        degrees, rest = divmod(abs(value), 1)
        minutes, rest = divmod(rest * 60, 1)
        return degrees, minutes, rest * 60

    exif = Image.Exif()
    place = exif.get_ifd(0x8825)
    place |= {1: "S" if lat < 0 else "N", 2: parts(lat), 3: "W" if lon < 0 else "E", 4: parts(lon), 16: "T", 17: 271.5}
    exif.get_ifd(0x8769)[0x9003] = "2023:07:14 10:20:30"
    for tag, value in more.items():
        exif[int(tag.strip("_"))] = value
    return exif


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    """A tall photo that is stored as EXIF's ``orientation`` says."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = photo(TALL).transpose(undo[orientation]) if orientation in undo else photo(TALL)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, kind, exif=exif, quality=95)


def heic(image: Image.Image | None = None, kind: str = "HEIF", **options: object) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return encoded(image or photo(), kind, **options)


def black(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, some hundred kilobytes of file."""
    row = b"\0" + bytes(width * 3)
    packer = zlib.compressobj(1)
    stream = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    return png_of(header(width, height), (b"IDAT", stream), END)


def webp_claiming(width: int, height: int) -> bytes:
    """A WebP whose canvas is said to be that large."""
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    content = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas + encoded(photo(), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(content)) + content


TAKEN: dict[str, tuple[Callable[[], bytes], tuple[int, int]]] = {
    "lying": (lambda: encoded(photo(WIDE)), WIDE),
    "upright": (lambda: encoded(photo(TALL)), TALL),
    "21 to 9": (lambda: encoded(photo((630, 270))), (630, 270)),
    "9 to 21": (lambda: encoded(photo((270, 630))), (270, 630)),
    "square": (lambda: encoded(photo((300, 300))), (300, 300)),
    **{f"JPEG turned by EXIF {n}": ((lambda n=n: turned(n)), TALL) for n in range(1, 9)},  # type: ignore[misc]
    **{f"WebP turned by EXIF {n}": ((lambda n=n: turned(n, "WEBP")), TALL) for n in (3, 6, 8)},  # type: ignore[misc]
    "WebP": (lambda: encoded(photo(), "WEBP"), WIDE),
    "WebP, lossless": (lambda: encoded(photo(), "WEBP", lossless=True), WIDE),
    "WebP, transparent": (lambda: encoded(photo().convert("RGBA"), "WEBP"), WIDE),
    "WebP, moving": (lambda: encoded(photo(), "WEBP", save_all=True, append_images=[photo()]), WIDE),
    "HEIC": (heic, WIDE),
    "HEIC turned by EXIF 6": (lambda: heic(photo(), exif=exif_of(6)), TALL),
    "HEIC, grey": (lambda: heic(photo().convert("L")), WIDE),
    "AVIF": (lambda: encoded(photo(), "AVIF"), WIDE),
    "CMYK": (lambda: encoded(photo().convert("CMYK")), WIDE),
    "grey": (lambda: encoded(photo().convert("L")), WIDE),
    "PNG of 16 bits, grey": (lambda: encoded(Image.fromarray(np.full((240, 320), 40_000, np.uint16)), "PNG"), WIDE),
    "PNG of a palette": (lambda: encoded(photo().quantize(64), "PNG"), WIDE),
    "PNG of two colours": (lambda: encoded(photo().convert("1"), "PNG"), WIDE),
    "EXIF with a position that is noise": (lambda: encoded(photo(), exif=broken_gps()), WIDE),
}  # fmt: skip

TURNED_AWAY: dict[str, tuple[Callable[[], bytes], str]] = {
    "0 bytes": (lambda: b"", "0 bytes"),
    "a text": (lambda: b"Where was this taken?\n", "not a JPEG, PNG, WebP, HEIC or AVIF"),
    "a web page": (lambda: b"<!doctype html><title>photo.jpg</title>", "HTML or XML"),
    "a PDF": (lambda: b"%PDF-1.7\n", "PDF"),
    "a video": (lambda: b"\0\0\0\x18ftypmp42" + bytes(99), "a video"),
    "a GIF": (lambda: encoded(photo(), "GIF"), "GIF"),
    "a TIFF": (lambda: encoded(photo(), "TIFF"), "TIFF"),
    "half a JPEG": (lambda: encoded(photo())[:5000], "truncated"),
    "half a PNG": (lambda: encoded(photo(), "PNG")[:5000], "truncated"),
    "half a WebP": (lambda: encoded(photo(), "WEBP")[:2000], "damaged|truncated"),
    "half a HEIC": (lambda: heic()[:2000], "damaged|truncated"),
    "half an AVIF": (lambda: encoded(photo(), "AVIF")[:2000], "damaged|truncated"),
    "JPEG that says 200 megapixels": (lambda: sized(encoded(photo()), 20_000, 10_000), "largest JPEG"),
    "PNG of 200 megapixels": (lambda: black(20_000, 10_000), "largest PNG"),
    "PNG that says 2,000,000,000 columns": (lambda: png_of(header(2 * 10**9, 1), (b"IDAT", b""), END), "largest PNG"),
    "WebP that says 200 megapixels": (lambda: webp_claiming(16_000, 12_500), "largest WebP|damaged"),
    "a pixel": (lambda: encoded(photo((1, 1))), "only 1 x 1"),
    "a line": (lambda: encoded(photo((900, 3))), "only 900 x 3"),
    "JPEG header and noise": (lambda: encoded(photo())[:700] + bytes(range(255)) * 20, "damaged|truncated"),
    "WebP header and noise": (lambda: encoded(photo(), "WEBP")[:40] + bytes(range(255)) * 20, "damaged|truncated"),
    "HEIC header and noise": (lambda: heic()[:40] + bytes(range(255)) * 20, "damaged|truncated"),
}  # fmt: skip


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def broken_gps() -> Image.Exif:
    exif = Image.Exif()
    place = exif.get_ifd(0x8825)
    place |= {1: "?", 2: (95.0, 1.0, 1.0), 3: "E", 4: (900.0, 0.0, 0.0), 17: 500.0}
    return exif
