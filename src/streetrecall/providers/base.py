"""What every source of street-level imagery answers: coverage near a point, all dates of a place, a capture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

FAILED = "FAILED"  # the status of a Coverage that could not be had; every other word is the provider's own


@dataclass(frozen=True)
class Panorama:
    """A panorama: position in EPSG:4326, month ``YYYY-MM`` or empty."""

    pano_id: str
    lat: float
    lon: float
    month: str
    licence: str
    attribution: str


@dataclass(frozen=True)
class Coverage:
    """The answer at a grid point. ``panorama`` is None where there is no imagery; ``status`` is the provider's word.

    Status ``FAILED`` says that no answer could be had after all tries, and ``reason`` why: the point stays unasked.
    """

    point_id: int
    status: str
    panorama: Panorama | None
    reason: str = ""


@dataclass(frozen=True)
class View:
    """One picture to take: a direction (0-3) of one panorama (one date) of a place."""

    place: int
    direction: int
    heading_deg: float  # NaN where unknown
    date_index: int  # 0 is the newest
    panorama: Panorama
    split: str
    subset: str
    source: str = ""


@dataclass(frozen=True)
class Capture:
    """What came of a view. ``data`` is the encoded picture, empty unless the status is ok or blank.

    ``temporary`` says that another try may do better: the stage asks again, ``retry_after_s`` seconds later at the
    earliest, as often as params.yaml allows.
    """

    view: View
    status: str  # ok, blank, gone or failed
    reason: str
    data: bytes
    temporary: bool = False
    retry_after_s: float = 0.0
    refused: bool = False  # it was the service that wanted no more requests


class Provider(Protocol):
    """A source of imagery. Built by ``streetrecall.providers.open_provider``; whoever opens it closes it."""

    name: str
    namespace: str  # keys the ledger: the name and whatever else makes answers differ (endpoint, city, folder)
    shareable: bool  # may the team's remote hold its pictures
    network: bool  # do answers cost requests: then what the ledger holds is never asked again
    unplanned: list[tuple[str, str]]  # after `views`: what it knows of and could make no view of, and why
    notes: MutableMapping[str, str]  # answers that `views` needs again in the next run; a stage hands in the ledger's

    def coverage(self, points: pd.DataFrame, radius_m: float) -> Iterator[Coverage]:
        """One answer for each point of ``points`` (GRID columns) that the provider knows anything of."""
        ...

    def views(self, locations: pd.DataFrame) -> Iterator[View]:
        """Every date x four headings at each of ``locations`` (LOCATIONS columns)."""
        ...

    def capture(self, views: Iterable[View]) -> Iterator[Capture]:
        """Take the pictures, in any order; one answer for each view, never an exception for a single bad one."""
        ...

    def close(self) -> None: ...
