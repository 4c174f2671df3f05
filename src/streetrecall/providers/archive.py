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
from streetrecall.params.schema import Params
from streetrecall.providers.base import Capture, CaptureRequest, Coverage, Panorama, Photo
from streetrecall.tables import CaptureStatus

log = logging.getLogger(__name__)

IMAGES = Path("data/images")
POLYGON = Path("data_collection_process/create_grid_with_possible_locations/Stockholm.geojson")
LEVELS = Path("data_collection_process/create_ordered_locations_based_on_buffers/buffer_csvs")
LEVEL_FILES = "new_order_buffer_*.csv"
GAPS = Path("data_collection_process/filter_for_actual_GSV_locations_using_google_api/csvs/no_response_locations.csv")
NO_RESPONSE = "NO_RESPONSE"  # the collection says no more of a point without imagery
NO_LICENCE = "none stated"

# Cropped_Training_v1_buffer_100; one published folder lacks the last underscore; raw frames lack the first word.
_FOLDER = re.compile(r"(?:Cropped_)?(?:Training|Validation|Test)_(?P<version>v\d+)_buffer_?\d+")
_MONTHS = ["January", "February", "March", "April", "May", "June", "July"]
_MONTHS += ["August", "September", "October", "November", "December"]
# 2654_1_1_September 2020_2024-01-07 12:05:11.570050.jpg; tools that cannot write a colon write another character.
_PICTURE = re.compile(
    rf"(?P<place>\d+)_(?P<direction>[0-3])_(?P<date>\d+)_(?P<month>{'|'.join(_MONTHS)}) (?P<year>\d{{4}})_"
    r"(?P<day>\d{4}-\d\d-\d\d)[ T_](?P<time>\d\d\D\d\d\D\d\d(?:\.\d+)?)\.(?P<kind>jpe?g|png)",
    re.IGNORECASE,
)
_FILE_MANAGERS = {"thumbs.db", "desktop.ini", "icon\r"}  # files that file managers leave, besides hidden ones
_TYPES = {"PanoID": str, "Location": str, "Date": str, "Copyright": str, "Latitude": float, "Longitude": float}
# Decimals of a degree (0.1 mm) by which grid points and recorded points are compared.
_DECIMALS = 9


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


class Archive:
    """An existing collection on this machine; see `streetrecall.providers.base.Provider`.

    Its pictures are read again in each run (``network`` is false), so a file that changed is noticed. After `plan`,
    ``unplanned`` lists the files that are not used, each with the reason: ``(path below data/images, reason)``.

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
        if not any((self.root / part).is_dir() for part in (IMAGES, LEVELS)):
            problem = "holds none of these" if self.root.is_dir() else "there is no such folder"
            raise UserError(
                f"archive.path: {self.root}: {problem}. A collection in the original layout has its pictures in "
                f"{IMAGES}/Cropped_*/ and its places in {LEVELS}/{LEVEL_FILES} (docs/archive.md)"
            )
        self.namespace = "archive:" + hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:16]

    @classmethod
    def open(cls, params: Params) -> Archive:
        return cls(params.archive.path)

    @classmethod
    def polygon(cls, params: Params) -> Path:
        path = Path(params.archive.path) / POLYGON
        if not path.exists():
            raise UserError(
                f"{path}: there is no such file, and city.name: auto needs the collection's own polygon. Set "
                "archive.path to a collection in the original layout (docs/archive.md), or city.name to one of "
                "data/cities"
            )
        return path

    @classmethod
    def photos(cls, params: Params, gallery: pd.DataFrame) -> Iterator[Photo]:
        """None: it has no photos of people."""
        return iter(())

    def close(self) -> None:
        """Nothing is open."""

    def coverage(self, points: pd.DataFrame, radius_m: float) -> Iterator[Coverage]:
        """The collection's records at the grid points ``points`` (GRID columns); other points get no answer.

        A record belongs to the point at its recorded coordinates. ``radius_m`` is not used: some recorded panoramas are
        further away from their point.

        Raises:
            UserError: a table is missing or unreadable, or not one record lies on a point of this grid.
        """
        at = {
            key: int(point) for key, point in zip(_keys(points["lat"], points["lon"]), points["point_id"], strict=True)
        }
        places = self._places()
        gaps = self._gaps()
        found = [(at.get(key), panorama) for key, panorama in zip(_asked(places), _panoramas(places), strict=True)]
        empty = [at.get(key) for key in _asked(gaps)]
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

        Of pictures with the same place, direction and date index, the one captured last is used. File names have the
        collection's own numbers of places. Its tables give each number's panorama, and the panorama gives the place in
        ``locations``. The collection kept only the id of each place's newest panorama: the id of an older date is made
        of that id, the month and the date index.

        Raises:
            UserError: the folder holds no pictures' folders at all.
        """
        pictures, self.unplanned = self._scan()
        places = self._places()
        known = dict(zip(places["new_order_idx"].tolist(), _panoramas(places), strict=True))
        columns = [locations[c].tolist() for c in ("pano_id", "place", "split")]
        wanted = {pano_id: (int(place), str(split)) for pano_id, place, split in zip(*columns, strict=True)}
        chosen: dict[tuple[int, int, int], Picture] = {}
        for picture in sorted(pictures, key=lambda p: (p.scraped_at, p.cropped, p.source)):
            key = (picture.number, picture.direction, picture.date_index)
            if key in chosen:
                self._leave_out(chosen[key].source, f"repeat; {picture.source} was captured later")
            chosen[key] = picture
        for _, picture in sorted(chosen.items()):
            newest = known.get(picture.number)
            if newest is None:
                self._leave_out(picture.source, f"place {picture.number} is in no file of {LEVELS}")
                continue
            if newest.pano_id not in wanted:
                self._leave_out(
                    picture.source, f"place {picture.number} ({newest.pano_id}) is not one of the locations"
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
            reason = "empty file"
            try:
                data = (self.root / IMAGES / request.source).read_bytes()
            except OSError as error:
                data, reason = b"", f"unreadable: {error.strerror or error}"
            if data:
                yield Capture(request, CaptureStatus.OK, "", data)
            else:
                yield Capture(request, CaptureStatus.FAILED, reason, b"")

    def _leave_out(self, source: str, reason: str) -> None:
        self.unplanned.append((source, reason))

    def _scan(self) -> tuple[list[Picture], list[tuple[str, str]]]:
        images = self.root / IMAGES
        folders = sorted(p for p in images.glob("*") if p.is_dir() and _FOLDER.fullmatch(p.name))
        if not folders:
            raise UserError(
                f"{images}: holds no folder of pictures; its pictures are expected in folders such as "
                "Cropped_Training_v1_buffer_100/000 (docs/archive.md)"
            )
        pictures: list[Picture] = []
        left_out = [
            (path.name, "not a folder of pictures, such as Cropped_Test_v1_buffer_75")
            for path in sorted(images.glob("*"))
            if path not in folders and not _is_of_file_manager(path.name)
        ]
        for folder in folders:
            match = _FOLDER.fullmatch(folder.name)
            version = match["version"] if match else ""
            for where, below, names in os.walk(folder, followlinks=True):
                below[:] = sorted(name for name in below if not name.startswith("."))
                for name in sorted(names):
                    if _is_of_file_manager(name):
                        continue
                    source = (Path(where) / name).relative_to(images).as_posix()
                    picture = parse_name(source, version)
                    if picture is None:
                        left_out.append((source, "its name does not say place, rotation, date index, month and time"))
                    else:
                        pictures.append(picture)
        return pictures, left_out

    def _places(self) -> pd.DataFrame:
        files = sorted((self.root / LEVELS).glob(LEVEL_FILES))
        if not files:
            raise UserError(f"{self.root / LEVELS}: holds no {LEVEL_FILES} (docs/archive.md)")
        columns = ["new_order_idx", "Location", "Copyright", "Date", "Latitude", "Longitude", "PanoID"]
        places = pd.concat([_read_csv(path, columns) for path in files], ignore_index=True)
        for column in ("new_order_idx", "PanoID"):
            double = places.duplicated(column)
            if double.any():
                raise UserError(f"{self.root / LEVELS}: {column} {places.loc[double, column].iloc[0]} occurs twice")
        return places

    def _gaps(self) -> pd.DataFrame:
        path = self.root / GAPS
        if not path.exists():
            log.warning("%s: there is no such file: points without imagery count as never asked", path)
            return pd.DataFrame({"Location": pd.Series(dtype=str), "source": pd.Series(dtype=str)})
        return _read_csv(path, ["Location"])


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
    month = [m.lower() for m in _MONTHS].index(match["month"].lower()) + 1
    time = re.sub(r"\D", ":", match["time"].partition(".")[0]) + "." + match["time"].partition(".")[2]
    return Picture(
        source,
        int(match["place"]),
        int(match["direction"]),
        int(match["date"]),
        f"{match['year']}-{month:02d}",
        f"{match['day']} {time}",
        version,
        folder.startswith("Cropped_"),
    )


def _is_of_file_manager(name: str) -> bool:
    return name.startswith(".") or name.lower() in _FILE_MANAGERS


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, usecols=columns, dtype=_TYPES)
    except (ValueError, OSError) as error:  # ParserError and the like are ValueErrors
        raise UserError(f"{path}: not a readable table with the columns {', '.join(columns)} ({error})") from error
    needed = [c for c in columns if c not in ("Date", "Copyright")]
    holes = table.index[table[needed].isna().any(axis=1)]
    if len(holes):
        raise UserError(f"{path}: line {holes[0] + 2} lacks one of {', '.join(needed)}")
    return table.assign(source=[f"{path}: line {i + 2}" for i in range(len(table))])


def _panoramas(places: pd.DataFrame) -> list[Panorama]:
    columns = [places[c].tolist() for c in ("PanoID", "Latitude", "Longitude")]
    columns += [places[c].fillna("").tolist() for c in ("Date", "Copyright")]
    return [Panorama(i, lat, lon, date, NO_LICENCE, owner) for i, lat, lon, date, owner in zip(*columns, strict=True)]


def _asked(table: pd.DataFrame) -> list[tuple[float, float]]:
    """The grid points that were asked, as keys: latitude and longitude."""
    parts = table["Location"].str.extract(r"^\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*$")
    bad = table.index[parts.isna().any(axis=1)]
    if len(bad):
        raise UserError(
            f"{table.loc[bad[0], 'source']}: Location '{table.loc[bad[0], 'Location']}' is not 'latitude, longitude'"
        )
    return _keys(parts[0].astype(float), parts[1].astype(float))


def _keys(lat: pd.Series, lon: pd.Series) -> list[tuple[float, float]]:
    return list(zip(lat.round(_DECIMALS).tolist(), lon.round(_DECIMALS).tolist(), strict=True))
