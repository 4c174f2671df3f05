"""The files of a bundle, and what its manifest says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from streetrecall.errors import UserError

VERSION = 2  # grows when a file or a setting that answering needs is added
MANIFEST = "bundle.json"  # what is in the bundle, and all numbers that an answer depends on
EMBEDDER = "embedder.tflite"  # the network for LiteRT, with a signature for each size of picture
GALLERY = "gallery.npz"  # a column for each fact about the pictures of the gallery; row i is descriptor i
PLACES = "places.npy"  # (p, 8) float64: x, y, lat, lon, and how lat and lon change with x and y, by rows
DESCRIPTORS = "descriptors.npy"  # (n, d) float16
POINTS_XY, POINTS = (
    "points_xy.bin",
    "points.bin",
)  # SIFT points of the gallery's views, (n, 2) uint16 and (n, 64) uint8
THUMBNAILS = "thumbnails.bin"  # small JPEGs of the pictures that may be shared, one after the other
INDEX = "scann"  # the ScaNN index, if the gallery is too large for exact search
PARAMS, METRICS, CARD = "params.json", "metrics.json", "README.md"

# The columns of the gallery. Text is stored as CODES: numbers of the column's TEXTS. NumPy reads this in a millisecond,
# and a table of Parquet takes most of a second, because of the imports.
COLUMNS = {
    "picture": "int64",  # view_id or image_id
    "place": "int64",
    "panorama": "int64",  # number of the panorama: one date of a place
    "month": "str",
    "heading_deg": "float64",  # NaN if unknown
    "lat": "float64",
    "lon": "float64",
    "x": "float64",
    "y": "float64",
    "width": "int64",
    "height": "int64",
    "provider": "str",
    "licence": "str",
    "attribution": "str",
    "first_point": "int64",  # in the files of points
    "points": "int64",
    "thumbnail_offset": "int64",  # -1 if there is none
    "thumbnail_size": "int64",
}
CODES, TEXTS = "_codes", "_texts"  # ends of names in the file

VIEWS, PICTURES = "views", "pictures"  # kinds of gallery: views all around, or single pictures of places
FULL, QUICK = "full", "quick"  # ways to answer: with or without the comparison of points
SINGLE, SEVERAL = "single", "several"  # photos asked: one, or several of one spot


@dataclass(frozen=True)
class Calibration:
    """What an answer's confidence means.

    Answers with a confidence below ``threshold`` are withheld. A position's radius is ``factor`` times its difficulty,
    and contains the true position in a share ``coverage`` of the answers; ``factor`` is None if too few queries were
    there to tell. Both come from ``queries`` queries.
    """

    threshold: float | None
    factor: float | None
    coverage: float
    queries: int


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the bundle in ``folder``.

    Raises:
        UserError: there is no bundle, or one of another version.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: there is no bundle ({MANIFEST} is missing); `dvc repro bundle` makes models/bundle, "
            "`dvc pull models/bundle` fetches it, and --bundle names another folder"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); run the stage bundle again") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        found = manifest.get("version") if isinstance(manifest, dict) else None
        raise UserError(f"{path}: version {found}, and this program reads {VERSION}; run the stage bundle again")
    return manifest


def as_namespace(settings: dict[str, Any]) -> Any:
    """``settings`` with their keys as attributes, as the typed parameters have them."""
    return json.loads(json.dumps(settings), object_hook=lambda section: SimpleNamespace(**section))
