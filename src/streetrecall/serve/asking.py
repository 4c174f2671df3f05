"""Answers to photos from a bundle, as the API gives them."""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import asdict
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from streetrecall.bundle.answer import Answer, Bundle, Neighbour
from streetrecall.errors import UserError
from streetrecall.pictures.photo import NotAPhotoError, Photo, read_photo
from streetrecall.pictures.structure import kind_of
from streetrecall.serve.problems import ProblemError
from streetrecall.serve.thumbnails import thumbnail
from streetrecall.serve.uploads import Upload

TAKEN = ("JPEG", "PNG", "WebP", "HEIC", "AVIF")
SHOWN_MATCHES = 60
FEWEST_MATCHES = 4


class BundleLocator:
    """A bundle that answers one request at a time, so that its memory is that of one photo.

    Raises:
        UserError: there is no bundle in the folder, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.bundle = Bundle(folder)
        self._one = threading.Lock()
        self.version = hashlib.sha256(repr(sorted(self.bundle.manifest["files"].items())).encode()).hexdigest()[:12]

    @cached_property
    def _about(self) -> dict[str, Any]:
        columns, manifest = self.bundle.gallery.columns, self.bundle.manifest
        lat, lon = columns["lat"], columns["lon"]
        months = [m for m in np.unique(columns["month"]).tolist() if m]
        return {
            "version": self.version,
            "city": manifest["city"]["name"],
            "places": len(self.bundle.gallery.places),
            "pictures": len(lat),
            "first": months[0] if months else "",
            "last": months[-1] if months else "",
            "bounds": [round(float(v), 6) for v in (lon.min(), lat.min(), lon.max(), lat.max())],
        }

    def about(self) -> dict[str, Any]:
        """What the bundle holds."""
        return self._about

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers, latitudes and longitudes of the gallery's places."""
        gallery = self.bundle.gallery
        return gallery.places, gallery.latlon[:, 0], gallery.latlon[:, 1]

    def warm(self) -> None:
        """Load the network and the gallery, so that the first photo does not wait."""
        grey = np.full((224, 224, 3), 128, np.uint8)
        self.bundle.answer([Photo("grey", grey, 224, 224, "JPEG")])

    def locate(self, uploads: list[Upload]) -> dict[str, Any]:
        """The answer to photos of one spot.

        Raises:
            ProblemError: one of them cannot be read.
        """
        with self._one:
            photos = [_photo(upload) for upload in uploads]
            try:
                (answer,) = self.bundle.answer(photos, together=True)
            except NotAPhotoError as error:
                raise _refused(error) from error
            return _as_json(answer, photos) | {"why": self._why(photos[0], answer)}

    def _why(self, photo: Photo, answer: Answer) -> dict[str, Any] | None:
        """What agrees between the first photo and the best picture: pairs of points in shares of width and height."""
        if not self.bundle.compares or not answer.neighbours or photo.sphere:
            return None
        best = answer.neighbours[0]
        a, b = self.bundle.matches(photo.pixels, best.row)
        if len(a) < FEWEST_MATCHES or not best.has_thumbnail:
            return None
        pairs = np.column_stack([a, b])[:SHOWN_MATCHES]
        return {"matches": len(a), "points": np.clip(pairs, 0, 1).round(4).tolist()}

    def picture(self, row: int, small: bool) -> tuple[bytes, str, str] | None:
        """A picture of the gallery: its bytes, media type and tag; None where there is none that may be shown."""
        if row >= len(self.bundle.gallery.columns["place"]):
            return None
        data = self.bundle.gallery.thumbnail(row)
        if data is None:
            return None
        if small:
            data = thumbnail(data)
        return data, "image/jpeg", f"{self.version}-{row}{'-small' if small else ''}"


def _photo(upload: Upload) -> Photo:
    if upload.data and kind_of(upload.data) not in TAKEN:
        found = kind_of(upload.data)
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"This is no photo{f' but {found}' if found else ''}; {', '.join(TAKEN)} are taken.",
            file=upload.name,
        )
    try:
        return read_photo(upload.data, upload.name)
    except NotAPhotoError as error:
        raise _refused(error) from error


def _refused(error: NotAPhotoError) -> ProblemError:
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"The photo cannot be read: {error.reason}.", file=error.name)


def _as_json(answer: Answer, photos: list[Photo]) -> dict[str, Any]:
    placed = math.isfinite(answer.lat) and not answer.withheld
    said = {s.name: s for s in answer.said}
    return {
        "answered": placed,
        "reason": answer.reason or None,
        "position": {
            "lat": answer.lat,
            "lon": answer.lon,
            "radius_m": answer.radius_m,
            "coverage": answer.coverage,
        }
        if placed
        else None,
        "confidence": answer.confidence,
        "threshold": answer.threshold,
        "neighbours": [_neighbour(rank, n) for rank, n in enumerate(answer.neighbours, 1)],
        "photos": [
            {
                "file": photo.name,
                "width": photo.width,
                "height": photo.height,
                "format": photo.format,
                "says": {
                    "lat": said[photo.name].lat,
                    "lon": said[photo.name].lon,
                    "distance_m": said[photo.name].distance_m if placed else None,
                }
                if photo.name in said
                else None,
            }
            for photo in photos
        ],
    }


def _neighbour(rank: int, found: Neighbour) -> dict[str, Any]:
    values = asdict(found)
    picture = {
        "id": f"gallery-{found.row}",
        "month": found.month,
        "heading_deg": found.direction_deg,
        "width": 192,
        "height": 192,
        "licence": found.licence,
        "attribution": found.attribution,
        "provider": found.provider,
    }
    kept = ("place", "month", "similarity", "score", "inliers", "distance_m")
    return {
        "rank": rank,
        **{name: values[name] for name in kept},
        "lat": round(found.lat, 7),
        "lon": round(found.lon, 7),
        "heading_deg": found.direction_deg,
        "picture": picture if found.has_thumbnail else None,
    }


def open_bundle(folder: Path) -> BundleLocator:
    """The bundle in ``folder``, ready to answer.

    Raises:
        UserError: there is none, it is damaged, or this environment cannot run it.
    """
    try:
        locator = BundleLocator(folder)
        locator.warm()
    except ImportError as error:
        raise UserError(
            f"{folder}: cannot be run here ({error}); install streetrecall with its dependencies"
        ) from error
    return locator
