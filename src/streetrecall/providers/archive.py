"""Provider `archive`: an existing collection of street views in the original layout (docs/archive.md)."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from streetrecall.errors import UserError
from streetrecall.months import NAMES, month_of_name
from streetrecall.params.schema import Params
from streetrecall.providers.archive_tables import (
    GAPS,
    LEVEL_FILES,
    LEVELS,
    asked_points,
    point_keys,
    read_gaps,
    read_places,
)
from streetrecall.providers.base import Capture, CaptureRequest, Coverage, Panorama, StreetImagery
from streetrecall.providers.folders import Found, UnreadableError, opened, printable, walk
from streetrecall.tables import CaptureStatus

log = logging.getLogger(__name__)

IMAGES = Path("data/images")
POLYGON = Path("data_collection_process/create_grid_with_possible_locations/Stockholm.geojson")
NO_RESPONSE = "NO_RESPONSE"  # the collection says no more of a point without imagery
NO_LICENCE = "none stated"

# Cropped_Training_v1_buffer_100; one published folder lacks the last underscore; raw frames lack the first word.
_FOLDER = re.compile(r"(?:Cropped_)?(?:Training|Validation|Test)_(?P<version>v\d+)_buffer_?\d+")
# 2654_1_1_September 2020_2024-01-07 12:05:11.570050.jpg; tools that cannot write a colon write another character.
_PICTURE = re.compile(
    rf"(?P<place>\d+)_(?P<direction>[0-3])_(?P<date>\d+)_(?P<month>{'|'.join(NAMES)}) (?P<year>\d{{4}})_"
    r"(?P<day>\d{4}-\d\d-\d\d)[ T_](?P<time>\d\d\D\d\d\D\d\d(?:\.\d+)?)\.(?P<kind>jpe?g|png)",
    re.IGNORECASE,
)
_EXAMPLE = "2041_3_2_May 2017_2024-01-06 19:03:27.771793.jpg"
_NO_FOLDER = "not a folder of pictures, such as Cropped_Test_v1_buffer_75"
_SUFFIXES = (".jpg", ".jpeg", ".png")
_RELATIVE = (
    "A relative path starts at the project's folder; experiments that run in copies of it (--temp, --queue, "
    "streetrecall sweep) need an absolute path"
)


@dataclass(frozen=True)
class Picture:
    """The contents of a picture's file name; ``number`` is the collection's own number of the place."""

    source: str  # path below the collection's folder of pictures
    number: int
    direction: int
    date_index: int
    month: str
    scraped_at: str
    version: str  # of the collection, such as v1
    cropped: bool


class Archive(StreetImagery):
    """An existing collection on this machine; see `streetrecall.providers.base.Provider`.

    Its pictures are read again in each run (``network`` is false), so a file that changed is noticed. After `plan`,
    ``unplanned`` lists the files that are not used, each with the reason: ``(path below data/images, reason)``. A path
    that cannot be printed is escaped there.

    Raises:
        UserError: the folder is missing or holds nothing of the layout.
    """

    name = "archive"
    shareable = False  # the project has no right to distribute the pictures
    network = False

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.notes: MutableMapping[str, str] = {}
        self.unplanned: list[tuple[str, str]] = []
        self._problems: dict[str, str] = {}  # of planned pictures that cannot be read, by source
        if not any((self.root / part).is_dir() for part in (IMAGES, LEVELS)):
            problem = "holds none of these" if self.root.is_dir() else "there is no such folder"
            raise UserError(
                f"archive.path: {self.root}: {problem}. A collection in the original layout has its pictures in "
                f"{IMAGES}/Cropped_*/ and its places in {LEVELS}/{LEVEL_FILES} (docs/archive.md)"
                + ("" if self.root.is_absolute() else f". {_RELATIVE}")
            )
        self.namespace = "archive:" + hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:16]

    @classmethod
    def open(cls, params: Params) -> Archive:
        return cls(params.archive.path)

    @classmethod
    def polygon(cls, params: Params) -> Path:
        path = Path(params.archive.path) / POLYGON
        if not path.is_file():
            raise UserError(
                f"{path}: there is no such file, and city.name: auto needs the collection's own polygon. Set "
                "archive.path to a collection in the original layout (docs/archive.md), or city.name to one of "
                "data/cities"
            )
        return path

    def close(self) -> None:
        """Nothing is open."""

    def files(self) -> list[Found]:
        return walk(self.root, [part.as_posix() for part in (IMAGES, POLYGON, LEVELS, GAPS)], _refuse)

    def coverage(self, points: pd.DataFrame, radius_m: float) -> Iterator[Coverage]:
        """The collection's records at the grid points ``points`` (GRID columns); other points get no answer.

        A record belongs to the point at its recorded coordinates. ``radius_m`` is not used: some recorded panoramas are
        further away from their point.

        Raises:
            UserError: a table is missing or unreadable, or not one record lies on a point of this grid.
        """
        at = {
            key: int(point)
            for key, point in zip(point_keys(points["lat"], points["lon"]), points["point_id"], strict=True)
        }
        places = read_places(self.root)
        gaps = read_gaps(self.root)
        found = [
            (at.get(key), panorama) for key, panorama in zip(asked_points(places), _panoramas(places), strict=True)
        ]
        empty = [at.get(key) for key in asked_points(gaps)]
        astray = sum(point is None for point, _ in found) + sum(point is None for point in empty)
        if astray == len(found) + len(empty):
            raise UserError(
                f"{self.root}: none of its {astray} records lies on a point of this grid; "
                "use the collection's own polygon (city.name: auto) and spacing (grid.spacing_m: 10.0)"
            )
        if astray:
            log.warning("%s: %d of %d records lie on no point of this grid", self.root, astray, len(found) + len(empty))
        for point, panorama in found:
            if point is not None:
                yield Coverage(point, "OK", panorama)
        for point in empty:
            if point is not None:
                yield Coverage(point, NO_RESPONSE, None)

    def plan(self, locations: pd.DataFrame) -> Iterator[CaptureRequest]:
        """A request for every picture of the collection that shows one of ``locations`` (LOCATIONS columns).

        Of pictures with the same place, direction and date index, the one captured last is used; a file that cannot be
        read is used only if there is no other. File names have the collection's own numbers of places. Its tables give
        each number's panorama, and the panorama gives the place in ``locations``. The collection kept only the id of
        each place's newest panorama: the id of an older date is made of that id, the month and the date index.

        Raises:
            UserError: the folder holds no pictures' folders at all.
        """
        pictures = self._scan()
        places = read_places(self.root)
        known = dict(zip(places["new_order_idx"].tolist(), _panoramas(places), strict=True))
        columns = [locations[c].tolist() for c in ("pano_id", "place", "split")]
        wanted = {pano_id: (int(place), str(split)) for pano_id, place, split in zip(*columns, strict=True)}
        chosen: dict[tuple[int, int, int], Picture] = {}
        for picture in sorted(
            pictures, key=lambda p: (p.source not in self._problems, p.scraped_at, p.cropped, p.source)
        ):
            key = (picture.number, picture.direction, picture.date_index)
            if key in chosen:
                earlier = chosen[key].source
                self._leave_out(earlier, self._problems.get(earlier) or f"repeat; {picture.source} was captured later")
            chosen[key] = picture
        for _, picture in sorted(chosen.items()):
            newest = known.get(picture.number)
            if newest is None:
                self._leave_out(
                    picture.source, f"its place is unknown; place {picture.number} is in no file of {LEVELS}"
                )
                continue
            if newest.pano_id not in wanted:
                self._leave_out(
                    picture.source,
                    f"its place was not picked; place {picture.number} ({newest.pano_id}) is not one of the locations",
                )
                continue
            place, split = wanted[newest.pano_id]
            pano_id = f"{newest.pano_id}-{picture.month}-{picture.date_index}"
            yield CaptureRequest(
                place=place,
                direction=picture.direction,
                heading_deg=math.nan,
                date_index=picture.date_index,
                panorama=replace(newest, pano_id=pano_id, month=picture.month),
                split=split,
                subset=f"{split}_{picture.version}",
                source=picture.source,
            )

    def capture(self, requests: Iterable[CaptureRequest]) -> Iterator[Capture]:
        """Read the files; a file that is unreadable or empty is a failed capture."""
        for request in requests:
            data, reason = b"", self._problems.get(request.source, "")
            if not reason:
                try:
                    with opened(self.root / IMAGES / request.source) as file:
                        data = file.read()
                    reason = "" if data else "empty file"
                except UnreadableError as error:
                    reason = str(error)
            yield Capture(request, CaptureStatus.FAILED if reason else CaptureStatus.OK, reason, data)

    def _leave_out(self, source: str, reason: str) -> None:
        self.unplanned.append((printable(source), reason))

    def _scan(self) -> list[Picture]:
        """The pictures by their names; sets ``unplanned`` to the other files, ``_problems`` to unreadable pictures."""
        images = self.root / IMAGES
        if not any(_FOLDER.fullmatch(path.name) and path.is_dir() for path in images.glob("*")):
            raise UserError(
                f"{images}: holds no folder of pictures; its pictures are expected in folders such as "
                "Cropped_Training_v1_buffer_100/000 (docs/archive.md)"
            )
        self.unplanned, self._problems = [], {}
        pictures = []
        for entry in self.files():
            if not entry.path.startswith(f"{IMAGES.as_posix()}/"):
                continue
            source = entry.path.removeprefix(f"{IMAGES.as_posix()}/")
            folder = _FOLDER.fullmatch(source.partition("/")[0])
            picture = parse_name(source, folder["version"]) if folder and source.isprintable() else None
            if picture is None:
                self._leave_out(source, entry.problem or _flaw_of_name(source))
                continue
            pictures.append(picture)
            if entry.problem:
                self._problems[source] = entry.problem
        return pictures


def parse_name(source: str, version: str) -> Picture | None:
    """The contents of a picture's file name; None if it is not named as the collection names pictures.

    >>> parse_name("Cropped_Test_v1_buffer_75/001/2012_1_3_September 2020_2024-01-06 19:02:10.773088.jpg", "v1").month
    '2020-09'
    >>> parse_name("Cropped_Test_v1_buffer_75/001/2012_4_3_September 2020_2024-01-06 19:02:10.jpg", "v1") is None
    True
    """
    folder, _, _ = source.partition("/")
    match = _PICTURE.fullmatch(source.rsplit("/", 1)[-1])
    if match is None:
        return None
    time = re.sub(r"\D", ":", match["time"].partition(".")[0]) + "." + match["time"].partition(".")[2]
    return Picture(
        source,
        int(match["place"]),
        int(match["direction"]),
        int(match["date"]),
        month_of_name(match["year"], match["month"]),
        f"{match['day']} {time}",
        version,
        folder.startswith("Cropped_"),
    )


def _refuse(path: str) -> str:
    """Why a folder of the collection is not read; empty for one that is."""
    parent, _, name = path.rpartition("/")
    if parent == IMAGES.as_posix() and not _FOLDER.fullmatch(name):
        return _NO_FOLDER
    return "a folder, not a picture" if name.lower().endswith(_SUFFIXES) else ""


def _flaw_of_name(source: str) -> str:
    """Why a readable file below data/images is no picture by its name."""
    folder, _, below = source.partition("/")
    if not below or not _FOLDER.fullmatch(folder):
        return _NO_FOLDER
    if not source.isprintable():
        return "its name cannot be printed"
    if not source.lower().endswith(_SUFFIXES):
        return f"only {', '.join(_SUFFIXES)} are read"
    return f"its name is not complete; it must say place, direction, date index, month and time as {_EXAMPLE} does"


def _panoramas(places: pd.DataFrame) -> list[Panorama]:
    columns = [places[c].tolist() for c in ("PanoID", "Latitude", "Longitude", "Date", "Copyright")]
    return [Panorama(i, lat, lon, date, NO_LICENCE, owner) for i, lat, lon, date, owner in zip(*columns, strict=True)]
