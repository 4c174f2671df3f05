"""What the pipeline needs from a provider, a source of street-level imagery.

A provider answers three questions: which panorama is near a point (`Provider.coverage`), which pictures can be taken at
the places (`Provider.plan`), and what does each of them look like (`Provider.capture`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
from shapely.geometry import LineString, MultiPolygon

from streetrecall.params.schema import Params, is_dense
from streetrecall.providers.folders import Found
from streetrecall.tables import Projection

FAILED = "FAILED"  # the status of a Coverage without an answer; every other status is the provider's own word


@dataclass(frozen=True, slots=True)
class Panorama:
    """A panorama: position in degrees of EPSG:4326, month ``YYYY-MM`` or empty."""

    pano_id: str
    lat: float
    lon: float
    month: str
    licence: str
    attribution: str
    split: str = ""  # where the collection states it: train, validation or test; order.levels decides otherwise


@dataclass(frozen=True, slots=True)
class Coverage:
    """The answer at a grid point. ``panorama`` is None where there is no imagery; ``status`` is the provider's word.

    Status ``FAILED`` says that the provider gave no answer in all tries, and ``reason`` says why. The next run asks
    for such a point again.
    """

    point_id: int
    status: str
    panorama: Panorama | None
    reason: str = ""


@dataclass(frozen=True)
class CaptureRequest:
    """One picture to take: one panorama (one date of a place), in one direction (0-3) or the whole sphere."""

    place: int
    direction: int
    heading_deg: float  # compass heading, clockwise from north; NaN where unknown
    date_index: int  # 0 is the newest
    panorama: Panorama
    split: str
    subset: str  # split and its collection, such as test_v1
    source: str = ""  # where an existing picture is, for error messages
    projection: Projection = Projection.PERSPECTIVE
    fov_deg: float = math.nan  # from the left edge to the right one; NaN where unknown
    horizon: float = math.nan  # share of the height above the horizon; NaN where unknown

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the picture in the ledger: the panorama's id, and the heading or the projection.

        Existing pictures have no known heading; their source tells them apart.
        """
        if self.projection == Projection.EQUIRECTANGULAR:
            return self.panorama.pano_id, str(self.projection)
        if math.isnan(self.heading_deg):
            return self.panorama.pano_id, self.source or f"direction {self.direction}"
        return self.panorama.pano_id, f"{self.heading_deg:.2f}"


@dataclass(frozen=True)
class Capture:
    """The result of a request. ``data`` is the encoded picture; it is empty for a status without a picture.

    ``temporary`` says that another try may succeed. The stage then asks again, ``retry_after_s`` seconds later or
    more, up to ``network.tries`` times.
    """

    request: CaptureRequest
    status: str  # a `streetrecall.tables.CaptureStatus`
    reason: str
    data: bytes
    temporary: bool = False
    retry_after_s: float = 0.0
    refused: bool = False  # the service asked for fewer requests


@dataclass(frozen=True)
class Photo:
    """A photo as a person takes it, with its true position in degrees of EPSG:4326. ``data`` is the encoded picture.

    ``spot`` numbers where the photographer stood. The field of view is that of the longer side. With a positive pitch
    the camera looks up; with a positive roll it is turned clockwise.
    """

    spot: int
    split: str  # validation or test
    month: str
    lat: float
    lon: float
    heading_deg: float
    fov_deg: float
    pitch_deg: float
    roll_deg: float
    height_m: float  # of the camera above the ground
    data: bytes
    licence: str
    attribution: str
    shareable: bool  # whether the team's remote may hold it


@dataclass(frozen=True)
class Streets:
    """Lines of streets in degrees of EPSG:4326 (longitude first), whom they are from, and their licence."""

    lines: list[LineString]
    attribution: str
    licence: str


class Provider(Protocol):
    """A source of imagery. `streetrecall.providers.open_provider` opens one; whoever opens it closes it."""

    name: str
    namespace: str  # keys the ledger: the name and whatever else changes the answers (endpoint, city, folder)
    shareable: bool  # whether the team's remote may hold the pictures
    own_streets: bool  # whether its city has streets of its own, not those of OpenStreetMap; `streets` gives them
    network: bool  # whether answers cost requests; if so, no request is made for what the ledger holds
    unplanned: list[tuple[str, str]]  # after `plan`: (what was left out, reason); details follow a semicolon
    notes: MutableMapping[str, str]  # answers that `plan` needs again in the next run; the stage sets the ledger's

    @classmethod
    def open(cls, params: Params) -> Provider:
        """The provider as params.yaml describes it. Relative paths start at the current folder.

        Raises:
            UserError: it cannot work with these parameters or this environment.
        """
        ...

    @classmethod
    def polygon(cls, params: Params) -> Path | None:
        """The GeoJSON file of the provider's own city, for ``city.name: auto``; None if it has none of its own.

        Raises:
            UserError: it should have one, and there is no such file.
        """
        ...

    @classmethod
    def streets(cls, params: Params, polygon: MultiPolygon) -> Streets:
        """The streets inside ``polygon`` (EPSG:4326), if it has ``own_streets``."""
        ...

    @classmethod
    def photos(cls, params: Params, gallery: pd.DataFrame) -> Iterator[Photo] | None:
        """Photos of people to ask ``gallery`` with (VIEWS columns, use gallery), spot by spot; None if it has none.

        No panorama of the gallery nearby is of a photo's month. Photos near a place of their own split do not depend on
        places of split gallery, not even by this rule: a view of a photo's own month never answers it.
        """
        ...

    def coverage(self, points: pd.DataFrame, radius_m: float) -> Iterator[Coverage]:
        """One answer for each point of ``points`` (GRID columns) that the provider has information about."""
        ...

    def plan(self, locations: pd.DataFrame) -> Iterator[CaptureRequest]:
        """The requests for all pictures at each of ``locations`` (LOCATIONS columns).

        A place has every date in every direction. A dense place (`is_dense`) has equirectangular pictures where the
        provider has them. A place of split gallery has only the dates of `dates_wanted`.
        """
        ...

    def capture(self, requests: Iterable[CaptureRequest]) -> Iterator[Capture]:
        """Take the pictures, in any order: one result for each request. A single bad picture raises no exception."""
        ...

    def close(self) -> None: ...


def without_old_training(plan: Iterable[CaptureRequest], locations: pd.DataFrame, dates: int) -> list[CaptureRequest]:
    """The requests of ``plan``, of dense training places only those for the ``dates`` newest dates."""
    dense = [
        is_dense(*row) and row[0] == "train" for row in zip(locations["split"], locations["radius_m"], strict=True)
    ]
    places = set(locations["place"][dense].astype(int))
    return [request for request in plan if request.date_index < dates or request.place not in places]


def dates_wanted(split: str, gallery_dates: int) -> slice:
    """Which of a place's dates, newest first, are captured: all, but of a place that only answers those that may.

    >>> "abcde"[dates_wanted("gallery", 2)], "abcde"[dates_wanted("train", 2)]
    ('bc', 'abcde')
    """
    return slice(1, 1 + gallery_dates) if split == "gallery" else slice(None)


class StreetImagery:
    """What most providers have in common: neither a polygon or streets of their own, nor photos of people."""

    own_streets = False

    @classmethod
    def polygon(cls, params: Params) -> Path | None:
        return None

    @classmethod
    def streets(cls, params: Params, polygon: MultiPolygon) -> Streets:
        return Streets([], "", "")

    @classmethod
    def photos(cls, params: Params, gallery: pd.DataFrame) -> Iterator[Photo] | None:
        return None


class LocalProvider(Provider, Protocol):
    """A provider that reads a collection on this machine. Its name is in the list of data/sources/dvc.yaml."""

    root: Path

    def files(self) -> list[Found]:
        """All files that the answers come from, by their paths below ``root``, sorted."""
        ...


def subset_names(locations: pd.DataFrame) -> dict[int, str]:
    """A name for each level of ``locations``: its split, and its number among the levels of the split, widest first.

    >>> subset_names(pd.DataFrame({"level": [0, 1, 2], "split": ["train", "test", "test"]}))
    {0: 'train_v1', 1: 'test_v1', 2: 'test_v2'}
    """
    names = {}
    count: dict[str, int] = {}
    for level, split in sorted(set(zip(locations["level"].astype(int), locations["split"].astype(str), strict=True))):
        count[split] = count.get(split, 0) + 1
        names[level] = f"{split}_v{count[split]}"
    return names
