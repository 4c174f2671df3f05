"""What the pipeline has written in a project's folder, read when it is asked for and again when it has changed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params, load
from streetrecall.serve.tiles import Points

T = TypeVar("T")

FILES = {
    "images": (tables.IMAGES, "data/crops/images.parquet"),
    "views": (tables.VIEWS, "data/views/views.parquet"),
    "photos": (tables.PHOTOS, "data/photos/photos.parquet"),
    "captures": (tables.CAPTURES, "data/captures/captures.parquet"),
    "described": (tables.DESCRIPTORS, "models/index/rows.parquet"),
    "queries": (tables.PREDICTIONS, "data/results/queries.parquet"),
    "positions": (tables.POSITIONS, "data/results/positions.parquet"),
    "photo_answers": (tables.PHOTO_ANSWERS, "data/results/photos.parquet"),
    "neighbours": (tables.NEIGHBOURS, "data/results/neighbours.parquet"),
}
PARAMS = "params.yaml"


@dataclass
class _Kept:
    signature: tuple[Any, ...]
    value: Any


class Project:
    """Tables of a project's folder, and what is computed from them. Everything is kept until its files change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.RLock()

    def path(self, name: str) -> Path:
        return self.root / FILES[name][1]

    def has(self, *names: str) -> bool:
        return all(self.path(name).is_file() for name in names)

    def table(self, name: str) -> pd.DataFrame:
        """One of `FILES`.

        Raises:
            UserError: it is missing or cannot be read.
        """
        table, path = FILES[name]
        return self.kept(f"table {name}", (name,), lambda: tables.read(table, self.root / path))

    def table_or_none(self, name: str) -> pd.DataFrame | None:
        return self.table(name) if self.has(name) else None

    def kept(self, key: str, names: tuple[str, ...], make: Callable[[], T]) -> T:
        """The value of ``make``, which reads the files ``names``; made again only after one of them has changed."""
        with self._lock:
            signature = tuple(_signature(self.path(name)) for name in names)
            known = self._kept.get(key)
            if known is None or known.signature != signature:
                known = self._kept[key] = _Kept(signature, make())
            value: T = known.value
            return value

    def params(self) -> Params | None:
        """The parameters, or None in a folder without any."""
        path = self.root / PARAMS
        with self._lock:
            signature = _signature(path)
            known = self._kept.get(PARAMS)
            if known is None or known.signature != (signature,):
                value = load(path) if path.is_file() else None
                known = self._kept[PARAMS] = _Kept((signature,), value)
            value = known.value
            assert value is None or isinstance(value, Params)
            return value

    def version(self) -> str:
        """A text that changes whenever a file does."""
        parts = [_signature(self.path(name)) for name in FILES] + [_signature(self.root / PARAMS)]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def outline(self) -> Path | None:
        """The file of the city's polygon, or None where it is not known."""
        params = self.params()
        if params is None:
            return None
        from streetrecall.providers import polygon_path

        try:
            return polygon_path(params, self.root / "data/cities")
        except (UserError, ImportError):
            return None

    def city(self) -> dict[str, Any]:
        """The city's polygon (GeoJSON); without features where it is not known."""
        path = self.outline()
        if path is None:
            return {"type": "FeatureCollection", "features": []}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise UserError(f"{path}: not readable as GeoJSON ({error})") from error
        assert isinstance(content, dict)
        return content

    def places(self) -> pd.DataFrame:
        """The places with pictures, by place: lat, lon, split, pictures, dates, first and last month."""
        return self.kept("places", ("images", "views"), self._places)

    def _places(self) -> pd.DataFrame:
        parts = []
        columns = ["place", "lat", "lon", "split", "month"]
        images = self.table_or_none("images")
        if images is not None:
            parts.append(images.loc[images["quarantine"] == "", columns])
        views = self.table_or_none("views")
        if views is not None:
            views = views[views["use"] == tables.Use.GALLERY]
            others = views if images is None else views[~views["place"].isin(parts[0]["place"])]
            parts.append(others[columns])
        if not parts:
            raise UserError(f"{self.root}: has no pictures yet; run the pipeline (dvc repro) or fetch them (dvc pull)")
        rows = pd.concat(parts, ignore_index=True)
        grouped = rows.groupby("place", sort=True)
        known = rows[rows["month"] != ""].groupby("place")["month"]
        out = grouped.agg(
            lat=("lat", "mean"), lon=("lon", "mean"), split=("split", "first"), pictures=("month", "size")
        )
        out["dates"] = grouped["month"].nunique()
        out["first"] = known.min().reindex(out.index).fillna("")
        out["last"] = known.max().reindex(out.index).fillna("")
        return out

    def points(self) -> Points:
        """The places, ready to be cut into tiles."""

        def make() -> Points:
            places = self.places()
            numbers = places.index.to_numpy(np.int64)
            return Points(numbers, places["lat"].to_numpy(), places["lon"].to_numpy(), places["split"].tolist())

        return self.kept("points", ("images", "views"), make)


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
