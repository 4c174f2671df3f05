"""Position, time and heading of a photo from its metadata: EXIF, and XMP's GPano for 360-degree pictures.

Metadata comes from all kinds of devices and may hold anything. A value that makes no sense counts as missing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from streetrecall.pictures.formats import PICTURES, open_image
from streetrecall.pictures.structure import kind_of
from streetrecall.providers.shots import compass, is_position

_GPS, _EXIF = 0x8825, 0x8769  # the directories of EXIF
_LAT_REF, _LAT, _LON_REF, _LON, _DIRECTION, _DATE_STAMP = 1, 2, 3, 4, 17, 29
_ORIGINAL, _ARTIST, _COPYRIGHT = 36867, 315, 33432
_TIME = re.compile(r"\s*(\d{4})[:/-](0[1-9]|1[0-2])[:/-](0[1-9]|[12]\d|3[01])(.*)")
_FIRST_YEAR, _LAST_YEAR = 1990, 2100


@dataclass(frozen=True)
class Known:
    """What a photo says of itself. Position and heading are NaN, and texts empty, where it says nothing usable."""

    lat: float = math.nan
    lon: float = math.nan
    month: str = ""
    taken: str = ""
    heading_deg: float = math.nan
    sphere: bool = False
    part_of_a_sphere: bool = False
    author: str = ""
    copyright: str = ""


def read_known(data: bytes) -> Known:
    """Read the metadata of a JPEG, PNG, WebP, HEIC or AVIF; without metadata, or with broken ones, what can be read.

    >>> read_known(b"no picture").month
    ''
    """
    kind = kind_of(data)
    if kind not in PICTURES:
        return Known()
    try:
        with open_image(data, kind) as image:
            exif = image.getexif()
            gps, detail = dict(exif.get_ifd(_GPS)), dict(exif.get_ifd(_EXIF))
            top = dict(exif)
            xmp = image.info.get("xmp", b"")
    except Exception:  # Pillow's parsers raise many kinds of errors on damaged metadata
        return Known()
    lat = _degrees(gps.get(_LAT), gps.get(_LAT_REF), "S")
    lon = _degrees(gps.get(_LON), gps.get(_LON_REF), "W")
    if not is_position(lat, lon):
        lat = lon = math.nan
    taken, month = _moment(detail.get(_ORIGINAL)) or _moment(gps.get(_DATE_STAMP)) or ("", "")
    sphere, part, pose = read_gpano(xmp if isinstance(xmp, bytes) else str(xmp).encode())
    heading = pose if sphere else _angle(gps.get(_DIRECTION))
    if sphere and math.isnan(heading):
        heading = _angle(gps.get(_DIRECTION))
    return Known(
        lat, lon, month, taken, heading, sphere and not part, part, _text(top.get(_ARTIST)), _text(top.get(_COPYRIGHT))
    )


def read_gpano(xmp: bytes) -> tuple[bool, bool, float]:
    """Whether XMP says that the picture is equirectangular, whether it is only a part, and its compass heading.

    >>> read_gpano(b'<x GPano:ProjectionType="equirectangular" GPano:PoseHeadingDegrees="350.5"/>')
    (True, False, 350.5)
    >>> read_gpano(b"<GPano:ProjectionType>equirectangular</GPano:ProjectionType>")
    (True, False, nan)
    """
    values = dict(re.findall(rb"(?<!/)GPano:(\w{1,40})\s*(?:=\s*[\"']|>)\s*([^\"'<>]{0,80})", xmp[: 1 << 20]))
    if values.get(b"ProjectionType", b"").strip().lower() != b"equirectangular":
        return False, False, math.nan

    def number(name: bytes) -> float:
        try:
            return float(values.get(name, b"nan"))
        except ValueError:
            return math.nan

    part = any(
        number(b"CroppedAreaImage%sPixels" % side) < number(b"FullPano%sPixels" % side)
        for side in (b"Width", b"Height")
    )
    return True, part, _angle(number(b"PoseHeadingDegrees"))


def _degrees(parts: Any, reference: Any, negative: str) -> float:
    """Degrees of EXIF's degrees, minutes and seconds."""
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan
    if not 1 <= len(numbers) <= 3 or not all(math.isfinite(n) and n >= 0 for n in numbers):
        return math.nan
    value = sum(number / 60**power for power, number in enumerate(numbers))
    return -value if _text(reference).upper().startswith(negative) else value


def _angle(value: Any) -> float:
    """A compass heading in [0, 360); NaN where there is none."""
    try:
        angle = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan
    return compass(angle)


def _moment(value: Any) -> tuple[str, str] | None:
    """A time of EXIF as text that sorts by time, and its month. The camera's own clock counts, whatever its offset."""
    match = _TIME.match(_text(value))
    if not match or not _FIRST_YEAR <= int(match[1]) <= _LAST_YEAR:
        return None
    return f"{match[1]}-{match[2]}-{match[3]}{match[4]}", f"{match[1]}-{match[2]}"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = value if isinstance(value, str) else ""
    return "".join(c for c in text.replace("\0", "").strip() if c.isprintable())[:200]
