"""The table of a folder: ``pictures.csv``, ``pictures.parquet`` or ``pictures.geojson`` (docs/folder.md)."""

from __future__ import annotations

import csv
import io
import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError
from streetrecall.providers.folder.names import ROLES, SPLITS
from streetrecall.providers.folders import UnreadableError, opened, printable
from streetrecall.providers.shots import compass, is_position

NAMES = ("pictures.csv", "pictures.parquet", "pictures.geojson")
NEEDED = ("path", "lat", "lon")
KNOWN = (*NEEDED, "captured_at", "heading_deg", "projection", "place", "split", "role", "licence", "attribution")
_DATE = re.compile(r"(\d{4})-(0[1-9]|1[0-2])(?:$|-\d\d)")
_EMPTY = ("", "nan", "none", "null", "nat", "<na>")


@dataclass(frozen=True)
class Row:
    """A line of the table, checked. Heading NaN and texts empty where it says nothing."""

    path: str
    lat: float
    lon: float
    month: str
    taken: str
    heading_deg: float
    sphere: bool
    place: str
    split: str
    role: str
    licence: str
    attribution: str


def read_table(path: Path) -> Iterator[tuple[str, Row | str]]:
    """Each line of the table: where it is, and its content or why it cannot be used.

    Raises:
        UserError: the file cannot be read, or lacks a column that is needed.
    """
    try:
        with opened(path) as file:
            data = file.read()
        if path.suffix == ".csv":
            lines = list(_csv(data))
        elif path.suffix == ".parquet":
            lines = list(_parquet(data))
        else:
            lines = list(_geojson(data))
    except (UnreadableError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable table ({str(error)[:200]}); docs/folder.md shows one") from error
    columns = {name for _, values in lines for name in values}
    missing = [name for name in NEEDED if lines and name not in columns]
    if missing:
        raise UserError(f"{path}: lacks the columns {', '.join(missing)}; those known are {', '.join(KNOWN)}")
    for where, values in lines:
        yield f"{path.name}: {where}", read_row(values)


def read_row(values: Mapping[str, Any]) -> Row | str:
    """A line of the table, or why it cannot be used.

    >>> read_row({"path": "a.jpg", "lat": "59.3", "lon": 18.1, "captured_at": "2021-05-03T10:00"}).month
    '2021-05'
    >>> read_row({"path": "a.jpg", "lat": "59,3", "lon": 18.1})
    "lat or lon is no position in degrees ('59,3', '18.1')"
    """
    text = {name: _text(values.get(name)) for name in KNOWN}
    path = posixpath.normpath(text["path"].replace("\\", "/")) if text["path"] else ""
    if not path or not path.isprintable():
        return "no path"
    if path.startswith("/") or path == ".." or path.startswith("../"):
        return "its path leads out of the folder"
    lat, lon = _number(text["lat"]), _number(text["lon"])
    if not is_position(lat, lon):
        return f"lat or lon is no position in degrees ({text['lat'][:40]!r}, {text['lon'][:40]!r})"
    date = _DATE.match(text["captured_at"])
    if text["captured_at"] and not date:
        return f"captured_at is no time as 2021-05-03T10:15:00 or month as 2021-05 ({text['captured_at'][:40]!r})"
    heading = _number(text["heading_deg"])
    if text["heading_deg"] and not abs(heading) <= 720:
        return f"heading_deg is no angle in degrees ({text['heading_deg'][:40]!r})"
    if text["projection"] not in ("", "perspective", "equirectangular"):
        return f"projection is neither perspective nor equirectangular ({text['projection'][:40]!r})"
    split, role = SPLITS.get(text["split"].lower(), ""), ROLES.get(text["role"].lower(), "")
    if text["split"] and not split:
        return f"split is none of train, validation, test ({text['split'][:40]!r})"
    if text["role"] and not role:
        return f"role is neither database nor queries ({text['role'][:40]!r})"
    return Row(
        path, lat, lon, f"{date[1]}-{date[2]}" if date else "", text["captured_at"],
        compass(heading), text["projection"] == "equirectangular", text["place"],
        split or ("test" if role else ""), role, text["licence"], text["attribution"],
    )  # fmt: skip


def _csv(data: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), restkey="more")
    try:
        for values in reader:
            yield f"line {reader.line_num}", {str(k).strip(): v for k, v in values.items() if k is not None}
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _parquet(data: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
        records = table.select([name for name in table.column_names if name in KNOWN]).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    yield from ((f"row {number + 1}", values) for number, values in enumerate(records))


def _geojson(data: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    content = json.loads(data.decode("utf-8-sig"))
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list):
        raise ValueError("it is no FeatureCollection")
    for number, feature in enumerate(features):
        feature = feature if isinstance(feature, dict) else {}
        values = feature.get("properties")
        geometry = feature.get("geometry")
        found = dict(values) if isinstance(values, dict) else {}
        point = geometry.get("coordinates") if isinstance(geometry, dict) and geometry.get("type") == "Point" else None
        if isinstance(point, list) and len(point) >= 2:
            found |= {"lon": point[0], "lat": point[1]}
        yield f"feature {number + 1}", {"lat": None, "lon": None} | found


def _text(value: Any) -> str:
    """A cell as text; empty for what tools write where there is no value."""
    if value is None or isinstance(value, (dict, list)):
        return ""
    text = (
        value.isoformat() if hasattr(value, "isoformat") else printable(str(value).encode("utf-8", "replace").decode())
    )
    text = text.strip()
    return "" if text.lower() in _EMPTY else text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
