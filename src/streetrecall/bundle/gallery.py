"""The gallery of a bundle: its table, descriptors, index, points and thumbnails, read when they are needed."""

from __future__ import annotations

import os
import sys
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.bundle import layout
from streetrecall.errors import UserError
from streetrecall.retrieval.points import PACKED_SIZE, PackedPoints, Points
from streetrecall.scoring.ranking import Floats, Ints


@dataclass(frozen=True)
class Part:
    """Some of the gallery's views, as `streetrecall.retrieval.photos.score` takes them. ``rows`` (m,) are their rows in
    the gallery, and ``numbers`` (p,) the numbers of their places."""

    rows: Ints
    numbers: Ints
    month: NDArray[np.str_]
    descriptors: NDArray[np.float32]
    place: Ints
    date: Ints
    places: Ints
    xy: Floats


class Gallery:
    """The gallery in ``folder``.

    ``columns`` are those of gallery.npz. Rows of one place stand together, and so do the rows of one panorama.
    ``first`` (p + 1,) are the first rows of the places, ``places`` (p,) their ids, ``xy`` (p, 2) their positions,
    projected, metres, ``latlon`` (p, 2) the same in degrees, and ``degrees_per_m`` (p, 2, 2) how latitude and longitude
    change with x and y there.

    Raises:
        UserError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self._manifest = folder, manifest
        self.columns = self._table()
        place = self.columns["place"]
        if len(place) != manifest["gallery"]["pictures"]:
            raise UserError(f"{folder}: {layout.GALLERY} and {layout.MANIFEST} are of different runs; make it again")
        starts = np.flatnonzero(np.diff(place, prepend=place[0] - 1))
        self.first = np.append(starts, len(place))
        self.places = place[starts]
        self.place_of_row = np.repeat(np.arange(len(starts)), np.diff(self.first))
        where = np.asarray(self._array(layout.PLACES))
        if len(where) != len(self.places):
            raise UserError(f"{folder / layout.PLACES}: of another run than {layout.GALLERY}; make it again")
        self.xy, self.latlon = where[:, 0:2], where[:, 2:4]
        self.degrees_per_m = where[:, 4:8].reshape(-1, 2, 2)
        self._dense: Part | None = None

    def __len__(self) -> int:
        return len(self.place_of_row)

    def _table(self) -> dict[str, NDArray[Any]]:
        path = self.folder / layout.GALLERY
        columns = {}
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                for name, kind in layout.COLUMNS.items():
                    text = kind == "str"
                    columns[name] = stored[name + layout.TEXTS][stored[name + layout.CODES]] if text else stored[name]
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no such file; dvc pull fetches it") from error
        except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path}: damaged ({error}); dvc checkout restores it") from error
        return columns

    @cached_property
    def descriptors(self) -> NDArray[np.float16]:
        found = self._array(layout.DESCRIPTORS)
        if len(found) != len(self):
            raise UserError(f"{self.folder / layout.DESCRIPTORS}: of another run than the table; make it again")
        return found

    def _array(self, name: str) -> NDArray[Any]:
        path = self.folder / name
        try:
            return np.load(path, mmap_mode="r")
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no such file; dvc pull fetches it") from error
        except (OSError, EOFError, ValueError) as error:
            raise UserError(f"{path}: damaged ({error}); dvc checkout restores it") from error

    # Parts

    def everything(self) -> Part:
        """The whole gallery as one part, in memory."""
        if self._dense is None:
            self._dense = self.part(np.arange(len(self.places)))
        return self._dense

    def part(self, numbers: Ints) -> Part:
        """The views of the places ``numbers`` (ascending), with their descriptors in memory."""
        counts = (self.first[1:] - self.first[:-1])[numbers]
        whole = len(numbers) == len(self.places)
        rows = np.arange(len(self)) if whole else _ranges(self.first[numbers], counts)
        panorama = self.columns["panorama"][rows]
        date = np.cumsum(np.diff(panorama, prepend=panorama[0]) != 0)
        stored = self.descriptors[:] if whole else self.descriptors[rows]
        place = np.repeat(np.arange(len(numbers)), counts)
        return Part(
            rows, numbers, self.columns["month"][rows], stored.astype(np.float32), place, date, self.places[numbers],
            self.xy[numbers],
        )  # fmt: skip

    def near(self, numbers: Ints, reach_m: float) -> Ints:
        """The places ``numbers`` and all that lie within ``reach_m`` metres of one of them, ascending."""
        order, x = self._by_x
        found = [numbers]
        for number in numbers:
            low, high = np.searchsorted(x, [self.xy[number, 0] - reach_m, self.xy[number, 0] + reach_m])
            beside = order[low:high]
            found.append(beside[np.hypot(*(self.xy[beside] - self.xy[number]).T) <= reach_m])
        return np.unique(np.concatenate(found))

    @cached_property
    def _by_x(self) -> tuple[Ints, Floats]:
        order = np.argsort(self.xy[:, 0], kind="stable")
        return order, self.xy[order, 0]

    # Search

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[Ints, NDArray[np.float32]]:
        """The ``k`` most similar pictures, (q, k), and their similarities; -1 where the index finds fewer."""
        if self._manifest["index"]["kind"] == "exact" or self._scann is None:
            from streetrecall.retrieval.exact import exact

            return exact(queries, self.descriptors, k)
        return self._scann.search(queries, k)

    @property
    def searched_exactly(self) -> bool:
        return self._manifest["index"]["kind"] == "exact"

    @cached_property
    def _scann(self) -> Any:
        # ScaNN imports TensorFlow where it is installed, which takes seconds; a search does not need it.
        sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]
        from streetrecall.retrieval import index as indexes

        scann = indexes.scann_module()
        if scann is None:
            return None
        path = self.folder / layout.INDEX
        try:
            searcher = scann.scann_ops_pybind.load_searcher(os.fspath(path))
        except Exception as error:  # ScaNN raises many kinds
            raise UserError(f"{path}: ScaNN cannot read it ({error}); dvc checkout restores it") from error
        facts = self._manifest["index"]
        settings = layout.as_namespace(facts["settings"])
        return indexes.ScannIndex(searcher, facts["kind"], np.arange(len(self)), settings, os.cpu_count() or 1)

    # Points and thumbnails

    @property
    def has_points(self) -> bool:
        return bool(self._manifest["gallery"]["points"])

    def points(self, row: int) -> Points:
        """The SIFT points of a row, at pixels of the view."""
        xy, values = self._points
        first, count = int(self.columns["first_point"][row]), int(self.columns["points"][row])
        part = slice(first, first + count)
        return PackedPoints(xy[part], np.asarray(values[part])).points()

    @cached_property
    def _points(self) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        found = []
        for name, kind, width in ((layout.POINTS_XY, np.uint16, 2), (layout.POINTS, np.uint8, PACKED_SIZE)):
            path = self.folder / name
            shape = int(self._manifest["gallery"]["points"]), width
            try:
                found.append(np.memmap(path, kind, "r", shape=shape) if shape[0] else np.empty(shape, kind))
            except FileNotFoundError as error:
                raise UserError(f"{path}: there is no such file; dvc pull fetches it") from error
            except (OSError, ValueError) as error:
                raise UserError(f"{path}: damaged ({error}); dvc checkout restores it") from error
        return found[0], found[1]

    def thumbnail(self, row: int) -> bytes | None:
        """A small JPEG of a row; None where the licence does not let it be passed on."""
        offset, size = int(self.columns["thumbnail_offset"][row]), int(self.columns["thumbnail_size"][row])
        if offset < 0:
            return None
        path = self.folder / layout.THUMBNAILS
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no such file; dvc pull fetches it") from error
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


def _ranges(first: Ints, count: Ints) -> Ints:
    """The numbers from each ``first`` on, ``count`` of each, joined.

    >>> _ranges(np.array([4, 9]), np.array([2, 3])).tolist()
    [4, 5, 9, 10, 11]
    """
    ends = np.cumsum(count)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - count), count)
