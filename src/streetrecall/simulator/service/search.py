"""Queries of Panoramax's item search, read from a URL or a JSON body."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

DEFAULT_LIMIT = 10
MAX_LIMIT = 10_000
METRES_PER_DEGREE = 111_320.0
_LIMIT = f"Parameter limit must be either empty or a number between 1 and {MAX_LIMIT}"
_BBOX = "Parameter bbox must be in format [minX, minY, maxX, maxY]"
_DATETIME = "Parameter datetime should contain one or two dates"
_SORTABLE = ("ts", "datetime", "updated")


class BadRequestError(Exception):
    """A request that the service refuses, in the words of the real server."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.status = message, status


@dataclass(frozen=True)
class Query:
    """What a search asks for. None: anything."""

    limit: int = DEFAULT_LIMIT
    area: BaseGeometry | None = None  # longitude, latitude
    ids: frozenset[str] | None = None
    collections: frozenset[str] | None = None
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    newest_first: bool = True


def parse(values: Mapping[str, Any]) -> Query:
    """Read a query.

    Raises:
        BadRequestError: a value cannot be understood; the message names the parameter.
    """
    first, last = _interval(str(values["datetime"])) if values.get("datetime") else (None, None)
    return Query(
        limit=limit_of(values.get("limit", DEFAULT_LIMIT)),
        area=_area(values),
        ids=frozenset(_listed(values["ids"])) if values.get("ids") else None,
        collections=frozenset(_listed(values["collections"])) if values.get("collections") else None,
        first=first,
        last=last,
        newest_first=_newest_first(values["sortby"]) if values.get("sortby") else True,
    )


def limit_of(value: Any) -> int:
    """The number of items that a request asks for.

    Raises:
        BadRequestError: not a number from 1 to 10000.
    """
    try:
        limit = int(value)
    except (TypeError, ValueError) as error:
        raise BadRequestError(_LIMIT) from error
    if not 1 <= limit <= MAX_LIMIT:
        raise BadRequestError(_LIMIT)
    return limit


def _listed(value: Any) -> list[str]:
    """The entries of a list, as JSON or with commas."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRequestError(f"Not a list: {value}") from error
    return [str(v).strip() for v in (value.split(",") if isinstance(value, str) else value)]


def _area(values: Mapping[str, Any]) -> BaseGeometry | None:
    """The area of ``bbox``, ``intersects`` or ``place_position``; the last of them that is given counts."""
    if values.get("bbox") and values.get("intersects"):
        raise BadRequestError("Parameters bbox and intersects can't be given together")
    area: BaseGeometry | None = None
    if values.get("bbox"):
        area = _box(values["bbox"])
    if values.get("intersects"):
        geometry = values["intersects"]
        try:
            area = shape(json.loads(geometry) if isinstance(geometry, str) else geometry)
        except (ValueError, KeyError, TypeError, AttributeError, shapely.errors.GEOSException) as error:
            raise BadRequestError("Parameter intersects should contain a valid GeoJSON Geometry") from error
    if values.get("place_position"):
        area = _disc(str(values["place_position"]), str(values.get("place_distance", "3-15")))
    return area


def _box(value: Any) -> BaseGeometry:
    try:
        box = [float(v) for v in _listed(value)]
    except ValueError as error:
        raise BadRequestError(_BBOX) from error
    if len(box) != 4 or not all(abs(v) <= most for v, most in zip(box, (180, 90, 180, 90), strict=True)):
        raise BadRequestError(_BBOX)
    return shapely.box(box[0], box[1], box[2], box[3])


def _disc(position: str, distance: str) -> BaseGeometry:
    """The disc around ``longitude,latitude`` with the larger of the distances ``3-15`` as its radius, metres."""
    place = re.fullmatch(r"(-?[\d.]+),(-?[\d.]+)", position)
    spread = re.fullmatch(r"(?:([\d.]+)-)?([\d.]+)", distance)
    if not place or not spread:
        raise BadRequestError("Parameter place_position should be longitude,latitude and place_distance in metres")
    lon, lat = float(place[1]), float(place[2])
    stretch = max(0.01, math.cos(math.radians(lat)))
    ring = shapely.Point(0, 0).buffer(float(spread[2]))
    return shapely.transform(ring, lambda c: c / [METRES_PER_DEGREE * stretch, METRES_PER_DEGREE] + [lon, lat])


def _instant(text: str) -> dt.datetime | None:
    """An instant; None where the interval is open."""
    if text in ("", ".."):
        return None
    try:
        when = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise BadRequestError(f"Parameter datetime is not valid: {text}") from error
    return when if when.tzinfo else when.replace(tzinfo=dt.UTC)


def _end_of(text: str) -> dt.datetime | None:
    """The last instant of a day, or the instant itself."""
    when = _instant(text)
    return when + dt.timedelta(days=1, microseconds=-1) if when and len(text) == len("YYYY-MM-DD") else when


def _interval(text: str) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Both ends of ``a/b``, ``../b`` or ``a/..``, or of a single day or instant."""
    ends = text.split("/")
    if len(ends) == 1:
        start = _instant(text)
        if start is None:
            raise BadRequestError(_DATETIME)
        return start, _end_of(text)
    if len(ends) != 2:
        raise BadRequestError(_DATETIME)
    return _instant(ends[0]), _end_of(ends[1])


def _newest_first(order: Any) -> bool:
    if isinstance(order, list) and order and isinstance(order[0], dict):
        order = ("-" if order[0].get("direction") == "desc" else "+") + str(order[0].get("field"))
    order = str(order[0] if isinstance(order, list) else order).strip()
    order = order if order[:1] in "+-" else f"+{order}"
    if order[1:] not in _SORTABLE:
        raise BadRequestError(f"Unsupported sortby parameter: {order}")
    return order[0] == "-"
