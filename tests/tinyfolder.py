"""A folder of pictures with positions, generated: photos with EXIF and GPano, a table, or the field's file names."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

from streetrecall.params.schema import Params

ORIGIN = (59.3250, 18.0700)
METRES_PER_DEGREE = 111_320.0


def of_folder(params: Params, root: Path, **change: object) -> Params:
    """``params`` with the provider `folder` of the pictures in ``root``."""
    update = {"path": str(root), **change}
    return params.model_copy(update={"provider": "folder", "folder": params.folder.model_copy(update=update)})


def at(east_m: float, north_m: float) -> tuple[float, float]:
    """Latitude and longitude of a point so far from the origin."""
    lat = ORIGIN[0] + north_m / METRES_PER_DEGREE
    return lat, ORIGIN[1] + east_m / METRES_PER_DEGREE / math.cos(math.radians(ORIGIN[0]))


def pixels(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """A picture of coarse blocks, another one for each seed."""
    coarse = np.random.default_rng(seed).integers(20, 235, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)


def photo(
    seed: int,
    where: tuple[float, float] | None = ORIGIN,
    taken: str = "2021:05:03 10:15:00",
    heading: float | None = None,
    pose: float | None = None,
    size: tuple[int, int] = (96, 72),
    kind: str = "JPEG",
) -> bytes:
    """A photo with EXIF. With ``pose`` it is a 360-degree picture whose middle faces there, as GPano says."""
    exif = Image.Exif()
    if where is not None:
        gps: dict[int, object] = {
            1: "N" if where[0] >= 0 else "S", 2: dms(where[0]), 3: "E" if where[1] >= 0 else "W", 4: dms(where[1])
        }  # fmt: skip
        if heading is not None:
            gps |= {16: "T", 17: heading}
        exif[0x8825] = gps
    if taken:
        exif[0x8769] = {36867: taken, 36881: "+02:00"}
    options: dict[str, object] = {}
    if pose is not None:
        options["xmp"] = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" '
            f'GPano:ProjectionType="equirectangular" GPano:PoseHeadingDegrees="{pose}"/></rdf:RDF></x:xmpmeta>'
        ).encode()
        size = (256, 128)
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    out = io.BytesIO()
    pixels(seed, size).save(out, kind, exif=exif, **options)
    return out.getvalue()


def dms(degrees: float) -> tuple[float, float, float]:
    degrees = abs(degrees)
    minutes = degrees % 1 * 60
    return float(int(degrees)), float(int(minutes)), minutes % 1 * 60


def utm_name(
    east: float, north: float, heading: str = "90", stamp: str = "202105", pano: str = "p", note: str = ""
) -> str:
    return f"@{east:010.2f}@{north:010.2f}@33@V@@@{pano}@@{heading}@@@@{stamp}@{note}@.jpg"


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
