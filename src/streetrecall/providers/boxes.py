"""Sources that are searched by boxes: what the providers panoramax and mapillary have in common.

The city is covered by boxes of equal size in degrees. Every box is asked for the pictures in it and a little around it;
one with as many pictures as an answer can hold is divided in four. So a search costs requests by area, not by grid
point. Each answer is kept as a note in the ledger: a killed run asks no box twice, and `plan` needs no further request.
"""

from __future__ import annotations

import json
import logging
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from streetrecall.errors import UserError
from streetrecall.geo import distance_m, project
from streetrecall.params.schema import Params
from streetrecall.pictures.structure import NotAPictureError, read_structure
from streetrecall.providers.base import (
    FAILED,
    Capture,
    CaptureRequest,
    Coverage,
    is_dense,
    subset_names,
)
from streetrecall.providers.http import (
    Answer,
    Client,
    DeniedError,
    FinalError,
    GoneError,
    RefusedError,
    RequestError,
    TemporaryError,
    read_picture,
)
from streetrecall.providers.network import NetworkProvider
from streetrecall.providers.shots import (
    Shot,
    best_of_a_date,
    by_date,
    greedy_places,
    picture_of,
    requests_of,
    wanted_dates,
)
from streetrecall.tables import CaptureStatus

log = logging.getLogger(__name__)

METRES_PER_DEGREE = 111_320.0
SMALLEST_M = 5.0  # a box whose height is less is not divided further
TILES_AT_ONCE = 64  # the shots of so many are in memory at a time
NONE = "NONE"  # the status of a point without a picture nearby


@dataclass(frozen=True, order=True)
class Box:
    """West, south, east and north edge, degrees."""

    west: float
    south: float
    east: float
    north: float

    @property
    def text(self) -> str:
        """As services take it: longitude and latitude of two corners, to about 1 cm."""
        return ",".join(f"{edge:.7f}" for edge in (self.west, self.south, self.east, self.north))

    def quarters(self) -> list[Box]:
        x, y = (self.west + self.east) / 2, (self.south + self.north) / 2
        return [
            Box(*edges)
            for edges in (
                (self.west, self.south, x, y),
                (x, self.south, self.east, y),
                (self.west, y, x, self.north),
                (x, y, self.east, self.north),
            )
        ]

    @property
    def divisible(self) -> bool:
        return (self.north - self.south) * METRES_PER_DEGREE > SMALLEST_M


@dataclass(frozen=True)
class Page:
    """The shots of a box. ``full``: there are more than the answers hold. ``dropped``: entries that make no sense."""

    shots: list[Shot]
    full: bool = False
    dropped: int = 0


def tile_of(lat: float, lon: float, box_deg: float) -> tuple[int, int]:
    """The number of the box that a position is in: from the south, and from the west.

    >>> tile_of(59.3251, 18.0712, 0.005)
    (11865, 1807)
    """
    return math.floor(lat / box_deg), math.floor(lon / (2 * box_deg))


def box_of(tile: tuple[int, int], box_deg: float, margin_m: float) -> Box:
    """The box of a number (`tile_of`), wider by ``margin_m`` on each side.

    >>> box_of((11865, 1807), 0.005, 0.0).text
    '18.0700000,59.3250000,18.0800000,59.3300000'
    """
    south, north = tile[0] * box_deg, (tile[0] + 1) * box_deg
    west, east = tile[1] * 2 * box_deg, (tile[1] + 1) * 2 * box_deg
    up = margin_m / METRES_PER_DEGREE
    side = up / max(0.01, math.cos(math.radians(max(abs(south), abs(north)))))
    edges = max(-180.0, west - side), max(-90.0, south - up), min(180.0, east + side), min(90.0, north + up)
    return Box(*(round(edge, 7) for edge in edges))


class BoxProvider(NetworkProvider, ABC):
    """A `streetrecall.providers.base.Provider` whose source is searched by boxes.

    Args:
        place_m, heading_deg, box_deg, limit: from the provider's section of params.yaml.
        namespace: keys the ledger.
    """

    name: str
    shareable = True  # the licences allow it, with the names of the authors

    def __init__(
        self,
        params: Params,
        client: Client,
        namespace: str,
        place_m: float,
        heading_deg: float,
        box_deg: float,
        limit: int,
    ) -> None:
        super().__init__(params, client)
        self.namespace = namespace
        self._place_m, self._heading_deg, self._box_deg, self._limit = place_m, heading_deg, box_deg, limit
        self._margin_m = max(params.metadata.radius_m, place_m)
        self._shots: dict[str, Shot] = {}

    @abstractmethod
    def _search(self, box: Box) -> Page:
        """Ask for the pictures in a box."""

    @abstractmethod
    def _fresh(self, shot: Shot) -> str:
        """The URL of a shot's picture as the service gives it now, by the shot's id.

        Raises:
            GoneError: the service no longer has the picture.
        """

    def _listed(self) -> list[Shot] | None:
        """The shots of a list that the user gives in place of a search; None if there is none."""
        return None

    def _same_places(self, anchors: Sequence[Shot]) -> dict[str, set[str]] | None:
        """By the id of each anchor, the ids of all shots of its place, where the service says so; else None."""
        return None

    # -- coverage ------------------------------------------------------------------------------------------------------

    def coverage(self, points: pd.DataFrame, radius_m: float) -> Iterator[Coverage]:
        """The place nearest to each point, found by boxes.

        Raises:
            UserError: the service rejects the token or the request, or kept refusing.
        """
        listed = self._listed()
        positions = zip(points["lat"], points["lon"], strict=True)
        tiles = np.array([tile_of(lat, lon, self._box_deg) for lat, lon in positions], np.int64).reshape(-1, 2)
        points = points.assign(row=tiles[:, 0], column=tiles[:, 1]).sort_values(["row", "column", "point_id"])
        by_tile = cast("Iterator[tuple[tuple[int, int], pd.DataFrame]]", iter(points.groupby(["row", "column"])))
        while some := list(islice(by_tile, TILES_AT_ONCE)):
            boxes = {tile: box_of((int(tile[0]), int(tile[1])), self._box_deg, self._margin_m) for tile, _ in some}
            found, failed = ({}, {}) if listed is not None else self._find(list(boxes.values()))
            for tile, members in some:
                reason = failed.get(boxes[tile], "")
                if reason:
                    yield from (Coverage(point, FAILED, None, reason) for point in members["point_id"].tolist())
                else:
                    shots = found.get(boxes[tile], []) if listed is None else listed
                    yield from self._nearest(members, shots, radius_m)

    def _nearest(self, members: pd.DataFrame, shots: list[Shot], radius_m: float) -> Iterator[Coverage]:
        """The place nearest to each grid point of ``members``, as the shot that it begins with.

        From the newest shot on, one that belongs to no place begins one, which takes all shots within ``place_m``. So
        the pictures that were taken of one spot over the years, some metres apart, are one place and not many.
        """
        if not shots:
            yield from (Coverage(point, NONE, None) for point in members["point_id"].tolist())
            return
        shots = sorted(shots, key=lambda s: (s.month, s.shot_id), reverse=True)
        xy = self._metres([s.lat for s in shots], [s.lon for s in shots])
        first = np.unique(greedy_places(xy, self._place_m))
        shots, tree = [shots[i] for i in first], cKDTree(xy[first])
        points = [members[name].tolist() for name in ("point_id", "lat", "lon")]
        asked = self._metres(points[1], points[2])
        distance, _ = tree.query(asked)
        for point, lat, lon, where, nearest in zip(*points, asked, distance, strict=True):
            shot = shots[min(tree.query_ball_point(where, nearest + 1e-3))]
            metres = float(distance_m(lat, lon, shot.lat, shot.lon))
            yield Coverage(point, "OK", shot.panorama) if metres <= radius_m else Coverage(point, NONE, None)

    def _metres(self, lat: Sequence[float], lon: Sequence[float]) -> np.ndarray:
        return np.column_stack(project(lat, lon, self._params.city.crs))

    def _find(self, boxes: Sequence[Box]) -> tuple[dict[Box, list[Shot]], dict[Box, str]]:
        """The shots in each of ``boxes``, and the reasons for those that could not be asked."""
        found: dict[Box, dict[str, Shot]] = {box: {} for box in boxes}
        failed: dict[Box, str] = {}
        dropped = 0
        wave = [(box, box) for box in boxes]
        while wave:
            missing = sorted({part for _, part in wave if self._key(part) not in self.notes})
            reasons = self._ask(missing)
            following = []
            for whole, part in wave:
                if part in reasons:
                    failed[whole] = reasons[part]
                    continue
                page = load_page(self.notes[self._key(part)])
                dropped += page.dropped
                if page.full and part.divisible:
                    following += [(whole, quarter) for quarter in part.quarters()]
                    continue
                if page.full:
                    log.warning("%s: more than %d pictures at one spot; the rest is left out", self.name, self._limit)
                found[whole] |= {shot.shot_id: shot for shot in page.shots}
            wave = following
        if dropped:
            log.warning("%s: %d entries of its answers are left out: no id, position or picture", self.name, dropped)
        return {box: list(shots.values()) for box, shots in found.items()}, failed

    def _key(self, box: Box) -> str:
        return f"box {self._limit} {box.text}"

    def _ask(self, boxes: Sequence[Box]) -> dict[Box, str]:
        """Ask for ``boxes`` and note the answers; returns the reasons for those without one."""
        reasons = {}
        for box, page in self._together(BoxProvider._page, boxes):
            if isinstance(page, str):
                reasons[box] = page
            else:
                self.notes[self._key(box)] = dump_page(page, with_shots=not (page.full and box.divisible))
        return reasons

    def _page(self, box: Box) -> Iterator[tuple[Box, Page | str]]:
        """What is in a box, or why that is not known."""
        try:
            yield box, self._search(box)
        except RequestError as error:
            yield box, str(error)

    def _together(self, work: Callable[[Any, Any], Iterable[Any]], items: Iterable[Any]) -> Iterator[Any]:
        """`each`, with an error that explains what the service rejects."""
        try:
            yield from self.each(work, items)
        except DeniedError as denied:
            raise UserError(f"provider '{self.name}': {denied}") from None

    # -- plan ----------------------------------------------------------------------------------------------------------

    def plan(self, locations: pd.DataFrame) -> Iterator[CaptureRequest]:
        """The pictures of each place: of each month the nearest sphere, or else flat pictures of the directions.

        A shot belongs to the place that is nearest to it, within the provider's ``place_m``. What the ledger does not
        have of the boxes around the places is asked for.
        """
        self.unplanned = []
        columns = [locations[c].tolist() for c in ("place", "pano_id", "split", "radius_m", "level", "lat", "lon")]
        places = list(zip(*columns, strict=True))
        shots = self._around(locations)
        self._shots = {shot.shot_id: shot for shot in shots}
        subsets = subset_names(locations)
        members = self._members(places, shots)
        headings = self._params.scrape.headings_deg
        for place, pano, split, radius_m, level, lat, lon in places:
            of_place = members.get(int(place), [])
            if not of_place:
                self.unplanned.append((f"panorama {pano}", "its place has no picture any more"))
                continue
            metres = dict(
                zip(
                    (s.shot_id for s in of_place),
                    distance_m(lat, lon, [s.lat for s in of_place], [s.lon for s in of_place]).tolist(),
                    strict=True,
                )
            )
            for index, date in wanted_dates(by_date(of_place), str(split), self._params.scrape.gallery_dates):
                best = best_of_a_date(date, [metres[s.shot_id] for s in date], headings, self._heading_deg)
                for shot in best if split != "gallery" else [s for s in best if s.sphere]:
                    yield from requests_of(
                        shot, int(place), str(split), subsets[level], index, is_dense(str(split), float(radius_m)),
                        headings, self._heading_deg,
                    )  # fmt: skip

    def _around(self, locations: pd.DataFrame) -> list[Shot]:
        """All shots near the places, by id."""
        listed = self._listed()
        if listed is not None:
            return listed
        positions = zip(locations["lat"], locations["lon"], strict=True)
        tiles = sorted({tile_of(lat, lon, self._box_deg) for lat, lon in positions})
        found, failed = self._find([box_of(tile, self._box_deg, self._margin_m) for tile in tiles])
        self.unplanned += [(f"box {box.text}", f"could not be searched; {why}") for box, why in sorted(failed.items())]
        shots = {shot.shot_id: shot for some in found.values() for shot in some}
        return [shots[name] for name in sorted(shots)]

    def _members(self, places: Sequence[tuple[Any, ...]], shots: Sequence[Shot]) -> dict[int, list[Shot]]:
        """The shots of each place: those that are nearest to it, or those that the service says are of one place."""
        known = {shot.shot_id: shot for shot in shots}
        related = self._same_places([known[row[1]] for row in places if row[1] in known])
        members: dict[int, list[Shot]] = defaultdict(list)
        if not shots or not places:
            return members
        tree = cKDTree(self._metres([row[5] for row in places], [row[6] for row in places]))
        distance, nearest = tree.query(self._metres([s.lat for s in shots], [s.lon for s in shots]))
        for shot, metres, row in zip(shots, distance, nearest, strict=True):
            place, pano = places[row][:2]
            if metres <= self._place_m and (related is None or shot.shot_id in related.get(pano, {pano})):
                members[int(place)].append(shot)
        return members

    # -- pictures ------------------------------------------------------------------------------------------------------

    def capture(self, requests: Iterable[CaptureRequest]) -> Iterator[Capture]:
        """Download the pictures, many at a time. All frames of a sphere are cut from one download."""
        groups: dict[str, list[CaptureRequest]] = {}
        for request in requests:
            groups.setdefault(request.panorama.pano_id, []).append(request)
        yield from self._together(BoxProvider._captures, [(self._shots[name], group) for name, group in groups.items()])

    def _captures(self, wanted: tuple[Shot, Sequence[CaptureRequest]]) -> list[Capture]:
        """The pictures that are made of one shot."""
        shot, requests = wanted
        try:
            data = self._download(shot)
            return [Capture(r, CaptureStatus.OK, "", picture_of(data, shot, r, self._params)) for r in requests]
        except GoneError as error:
            return [Capture(r, CaptureStatus.GONE, str(error), b"") for r in requests]
        except RequestError as error:
            refused = isinstance(error, RefusedError)
            return [Capture(r, CaptureStatus.FAILED, str(error), b"", refused=refused) for r in requests]
        except NotAPictureError as error:
            return [Capture(r, CaptureStatus.FAILED, f"not a picture: {error}", b"") for r in requests]

    def _download(self, shot: Shot) -> bytes:
        """The picture of a shot. Links expire: one that is no longer valid is asked for again by the shot's id."""
        try:
            return self._get_picture(shot.source)
        except (GoneError, FinalError):
            fresh = self._fresh(shot)
            if fresh == shot.source:
                raise
            return self._get_picture(fresh)

    def _get_picture(self, url: str) -> bytes:
        """A picture by its URL, without any token: it may be on another host."""
        return self.client.get(url, {}, read_whole_picture, means={403: GoneError, 401: GoneError}, follow=True)


def read_whole_picture(answer: Answer) -> bytes:
    """The picture in an answer, whose structure is whole.

    Raises:
        TemporaryError: it is no picture, or damaged.
    """
    data = read_picture(answer)
    try:
        read_structure(data)
    except NotAPictureError as error:
        raise TemporaryError(f"not a picture: {error}") from None
    return data


_FIELDS = ("shot_id", "lat", "lon", "month", "heading_deg", "sphere", "licence", "attribution", "source", "sequence")


def dump_page(page: Page, with_shots: bool = True) -> str:
    """A page as JSON, without the shots of a box that is divided."""
    rows = [[getattr(shot, name) for name in _FIELDS] for shot in page.shots] if with_shots else []
    for row in rows:
        row[4] = None if math.isnan(row[4]) else row[4]
    return json.dumps({"full": page.full, "dropped": page.dropped, "shots": rows}, separators=(",", ":"))


def load_page(text: str) -> Page:
    """A page from its JSON.

    >>> load_page(dump_page(Page([], full=True)))
    Page(shots=[], full=True, dropped=0)
    """
    content = json.loads(text)
    rows = [dict(zip(_FIELDS, row, strict=True)) for row in content["shots"]]
    return Page(
        [Shot(**row | {"heading_deg": math.nan if row["heading_deg"] is None else row["heading_deg"]}) for row in rows],
        content["full"],
        content["dropped"],
    )
