"""Provider `folder`: a user's own pictures with positions (docs/folder.md)."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from scipy.spatial import cKDTree

from streetrecall.errors import UserError
from streetrecall.files import write_text
from streetrecall.geo import distance_m, project, unproject
from streetrecall.params.schema import Params
from streetrecall.pictures.formats import as_jpeg
from streetrecall.pictures.structure import NotAPictureError
from streetrecall.providers.base import Capture, CaptureRequest, Coverage, StreetImagery, is_dense, subset_names
from streetrecall.providers.folder.scan import POLYGON, Scan, list_files, scan, unknown
from streetrecall.providers.folders import Found, UnreadableError, opened
from streetrecall.providers.shots import Shot, by_date, greedy_places, picture_of, requests_of, wanted_dates
from streetrecall.store.folder import store_folder
from streetrecall.tables import CaptureStatus

log = logging.getLogger(__name__)

AROUND_M = 60.0  # of the made polygon around each place: its grid then has points on all sides of a place
OUTSIDE = "outside the polygon"


class FolderProvider(StreetImagery):
    """Pictures in a folder on this machine; see `streetrecall.providers.base.Provider`.

    They are read again in each run (``network`` is false), so a file that changed is noticed. After `plan`,
    ``unplanned`` lists what is not used, each with the reason.

    Raises:
        UserError: there is no such folder.
    """

    name = "folder"
    network = False

    def __init__(self, params: Params) -> None:
        self._params, self._settings = params, params.folder
        self.root = Path(params.folder.path)
        self.shareable = params.folder.shareable
        self.notes: MutableMapping[str, str] = {}
        self.unplanned: list[tuple[str, str]] = []
        self._shots: dict[str, Shot] = {}
        if not self.root.is_dir():
            raise UserError(
                f"folder.path: {self.root}: there is no such folder (docs/folder.md). A relative path starts at the "
                "project's folder"
            )
        self.namespace = "folder:" + hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:16]

    @classmethod
    def open(cls, params: Params) -> FolderProvider:
        return cls(params)

    @classmethod
    def polygon(cls, params: Params) -> Path:
        """``polygon.geojson`` of the folder, or else one made around its pictures.

        Raises:
            UserError: the folder has no pictures that can be used.
        """
        provider = cls(params)
        own = provider.root / POLYGON
        return own if own.is_file() else provider._made_polygon()

    def close(self) -> None:
        """Nothing is open."""

    def shots(self) -> list[Shot]:
        """The pictures that can be used.

        Raises:
            UserError: there is none.
        """
        return self._scan().shots

    def files(self) -> list[Found]:
        return list_files(self.root)

    def coverage(self, points: pd.DataFrame, radius_m: float) -> Iterator[Coverage]:
        """Each place of the folder, at the nearest of the grid points ``points``; other points get no answer.

        A place without a grid point within ``radius_m`` is outside the polygon.

        Raises:
            UserError: not one picture can be used, or none lies near this grid.
        """
        found = self._scan()
        anchors = sorted({shot.shot_id: shot for shot in self._anchors(found.shots)}.values(), key=lambda s: s.shot_id)
        grid = np.column_stack(project(points["lat"], points["lon"], self._params.city.crs))
        lat, lon = [shot.lat for shot in anchors], [shot.lon for shot in anchors]
        _, nearest = cKDTree(grid).query(np.column_stack(project(lat, lon, self._params.city.crs)))
        near = points.iloc[nearest]
        inside = distance_m(lat, lon, near["lat"], near["lon"]) <= radius_m
        if not inside.any():
            raise UserError(
                f"{self.root}: none of its {len(anchors)} places lies within {radius_m:g} m of a point of this grid; "
                "use the folder's own polygon (city.name: auto), or that of the city where the pictures were taken"
            )
        if not inside.all():
            log.warning("%s: %d of %d places are %s", self.root, (~inside).sum(), len(anchors), OUTSIDE)
        for shot, point, kept in zip(anchors, near["point_id"], inside, strict=True):
            if kept:
                yield Coverage(int(point), "OK", shot.panorama)

    def plan(self, locations: pd.DataFrame) -> Iterator[CaptureRequest]:
        """A request for every picture of the folder that belongs to one of ``locations`` (LOCATIONS columns).

        A flat picture serves the direction that is nearest to its heading. The dates of a place are its months. Where
        the collection says what asks and what answers, the subset is named for it: ``test_queries``, ``test_database``.
        """
        found = self._scan()
        self.unplanned = list(found.left_out)
        columns = [locations[c].tolist() for c in ("pano_id", "place", "split", "radius_m", "level")]
        wanted = {pano: row for pano, *row in zip(*columns, strict=True)}
        subsets = subset_names(locations)
        members: dict[str, list[Shot]] = {}
        for shot, anchor in zip(found.shots, self._anchors(found.shots), strict=True):
            if anchor.shot_id in wanted:
                members.setdefault(anchor.shot_id, []).append(shot)
            else:
                self.unplanned.append((shot.source, f"{OUTSIDE}, or its place was not picked"))
        self._shots = {shot.shot_id: shot for shot in found.shots}
        headings = self._params.scrape.headings_deg
        for pano, shots in sorted(members.items(), key=lambda item: wanted[item[0]][0]):
            place, split, radius_m, level = wanted[pano]
            dense = is_dense(str(split), float(radius_m))
            if split == "gallery":
                flat = [shot.source for shot in shots if not shot.sphere]
                self.unplanned += [(source, "its place is of split gallery; only 360-degree pictures serve it")
                                   for source in flat]  # fmt: skip
                shots = [shot for shot in shots if shot.sphere]
            for index, date in wanted_dates(by_date(shots), str(split), self._params.scrape.gallery_dates):
                for shot in sorted(date, key=lambda s: s.shot_id):
                    subset = f"{split}_{shot.role}" if shot.role else subsets[level]
                    yield from requests_of(shot, int(place), str(split), subset, index, dense, headings)

    def capture(self, requests: Iterable[CaptureRequest]) -> Iterator[Capture]:
        """Read the files; a file that is unreadable or no picture is a failed capture."""
        data, path = b"", ""
        for request in requests:
            shot = self._shots[request.panorama.pano_id]
            try:
                if path != shot.source:
                    with opened(self.root / shot.source) as file:
                        data, path = as_jpeg(file.read()), shot.source
                made = picture_of(data, shot, request, self._params, self._settings.fit)
            except (UnreadableError, NotAPictureError) as error:
                yield Capture(request, CaptureStatus.FAILED, f"not a picture: {error}", b"")
            else:
                yield Capture(request, CaptureStatus.OK, "", made)

    def _scan(self) -> Scan:
        found = scan(self.root, self._settings)
        if not found.shots:
            examples = "; ".join(f"{source}: {reason}" for source, reason in found.left_out[:3])
            raise UserError(
                f"folder.path: {self.root}: no picture that can be used ({len(found.left_out)} left out"
                + (f", such as {examples}" if examples else "")
                + "); `streetrecall import` lists them all"
            )
        headings, months = unknown(found.shots)
        if headings or months:
            log.warning(
                "%s: of %d pictures, %d have no heading and %d no month", self.root, len(found.shots), headings, months
            )
        return found

    def _anchors(self, shots: Sequence[Shot]) -> list[Shot]:
        return anchors_of(shots, self._params)

    def _made_polygon(self) -> Path:
        """A polygon around all places, in the store. Its content follows from the positions of the pictures alone."""
        shots = {shot.shot_id: shot for shot in self._anchors(self._scan().shots)}
        anchors = [shots[name] for name in sorted(shots)]
        crs = self._params.city.crs
        xy = np.column_stack(project([s.lat for s in anchors], [s.lon for s in anchors], crs))
        if not np.isfinite(xy).all():
            raise UserError(f"params.yaml: city.crs: {crs} cannot represent every position of {self.root}")
        area = shapely.union_all(shapely.buffer(shapely.points(np.unique(xy, axis=0)), AROUND_M, quad_segs=4))

        def degrees(corners: np.ndarray) -> np.ndarray:
            lat, lon = unproject(corners[:, 0], corners[:, 1], crs)
            return np.round(np.column_stack([lon, lat]), 7)

        text = json.dumps({"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(
            shapely.transform(area, degrees))})  # fmt: skip
        path = store_folder() / "polygons" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.geojson"
        if not path.is_file():
            write_text(path, text)
        return path


def anchors_of(shots: Sequence[Shot], params: Params) -> list[Shot]:
    """The first picture of the place of each of ``shots``.

    Pictures that the collection puts into one place belong together. All others are taken from near to far of
    ``order.start``: one that belongs to no place begins one, which takes what lies within ``folder.place_m`` of it.
    Pictures of different splits are never of one place.
    """
    lat, lon = [shot.lat for shot in shots], [shot.lon for shot in shots]
    start = distance_m(lat, lon, *params.order.start)
    order = sorted(range(len(shots)), key=lambda i: (start[i], shots[i].shot_id))
    xy = np.column_stack(project(lat, lon, params.city.crs))
    anchor: dict[int, int] = {}
    named: dict[tuple[str, str], int] = {}
    free: dict[str, list[int]] = {}
    for i in order:
        if shots[i].place:
            anchor[i] = named.setdefault((shots[i].split, shots[i].place), i)
        else:
            free.setdefault(shots[i].split, []).append(i)
    for rows in free.values():
        for i, first in zip(rows, greedy_places(xy[rows], params.folder.place_m), strict=True):
            anchor[i] = rows[first]
    return [shots[anchor[i]] for i in range(len(shots))]
