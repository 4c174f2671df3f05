"""Panoramax's STAC contract over the simulated city: a sequence is one street's drive of one month."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import shapely
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from streetrecall.simulator.city.plan import City
from streetrecall.simulator.render import view as render

LICENCE = "CC0-1.0"
LICENCE_URL = "https://creativecommons.org/publicdomain/zero/1.0/"
PRODUCER = "streetrecall simulated city"
_NAMESPACE = uuid.UUID("6f2f1b6e-7c2a-5d0e-9b51-0d6a2f6c1a55")
_CONFORMANCE = [
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/simple-query",
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/browseable",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
]
_SIZES = {"hd": 4096, "sd": 2048, "thumb": 500}
MAX_LIMIT = 10_000


class _BadRequestError(Exception):
    def __init__(self, message: str, details: Any = None, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.details, self.status = message, details, status


class _GeoJson(JSONResponse):
    media_type = "application/geo+json"


class _Catalogue:
    """The city's panoramas as items of collections, with the identifiers that the contract wants (UUIDs)."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.item_ids = [str(uuid.uuid5(_NAMESPACE, p.pano_id)) for p in city.panos]
        self.index = {item: i for i, item in enumerate(self.item_ids)}
        members: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, p in enumerate(city.panos):
            members[p.street, p.month].append(i)
        self.collections: dict[str, list[int]] = {}
        self.collection_of: list[str] = [""] * len(city.panos)
        for (street, month), items in sorted(members.items()):
            name = str(uuid.uuid5(_NAMESPACE, f"{city.seed}/{street}/{month}"))
            self.collections[name] = sorted(items, key=lambda i: city.panos[i].spot)
            for i in items:
                self.collection_of[i] = name
        lat, lon = city.latlon
        self.lat, self.lon = lat, lon
        self.tree = shapely.STRtree([shapely.Point(x, y) for x, y in zip(lon, lat, strict=True)])

    def time(self, i: int) -> dt.datetime:
        """An instant in the panorama's month; spots of one drive follow each other."""
        pano = self.city.panos[i]
        rank = self.collections[self.collection_of[i]].index(i)
        start = dt.datetime(pano.month // 12, pano.month % 12 + 1, 1 + pano.street % 27, 10, tzinfo=dt.UTC)
        return start + dt.timedelta(seconds=4 * rank)

    def item(self, i: int, base: str, related: bool = False) -> dict[str, Any]:
        pano, item, collection = self.city.panos[i], self.item_ids[i], self.collection_of[i]
        lat, lon = float(self.lat[i]), float(self.lon[i])
        when = self.time(i)
        rank = self.collections[collection].index(i)
        rows = self.collections[collection]

        def href(k: int) -> str:
            return f"{base}/collections/{self.collection_of[k]}/items/{self.item_ids[k]}"

        def point(k: int) -> dict[str, Any]:
            return {"coordinates": [float(self.lon[k]), float(self.lat[k])], "type": "Point"}

        links: list[dict[str, Any]] = [
            {"href": f"{base}/", "rel": "root", "title": "Instance catalog", "type": "application/json"},
            {"href": f"{base}/collections/{collection}", "rel": "parent", "type": "application/json"},
            {"href": href(i), "rel": "self", "type": "application/geo+json"},
            {"href": f"{base}/collections/{collection}", "rel": "collection", "type": "application/json"},
            {"href": LICENCE_URL, "rel": "license", "title": f"License for this object ({LICENCE})"},
        ]
        for rel, k in (("next", rank + 1), ("prev", rank - 1)):
            if 0 <= k < len(rows):
                links.append(
                    {"geometry": point(rows[k]), "href": href(rows[k]), "id": self.item_ids[rows[k]], "rel": rel,
                     "type": "application/geo+json"}
                )  # fmt: skip
        if related:
            for other in self.city.dates(pano):
                k = self.city.by_id[other.pano_id]
                if k != i:
                    links.append(
                        {"datetime": _stamp(self.time(k)), "geometry": point(k), "href": href(k),
                         "id": self.item_ids[k], "rel": "related", "type": "application/geo+json"}
                    )  # fmt: skip
        names = {"hd": ("HD picture", "Highest resolution available of this picture", "data"),
                 "sd": ("SD picture", "Picture in standard definition (fixed width of 2048px)", "visual"),
                 "thumb": ("Thumbnail", "Picture in low definition (fixed width of 500px)", "thumbnail")}  # fmt: skip
        assets = {
            name: {"description": text, "href": f"{base}/pictures/{item}/{name}.jpg", "roles": [role], "title": title,
                   "type": "image/jpeg"}
            for name, (title, text, role) in names.items()
        }  # fmt: skip
        return {
            "assets": assets,
            "bbox": [lon, lat, lon, lat],
            "collection": collection,
            "geometry": point(i),
            "id": item,
            "links": links,
            "properties": {
                "annotations": [],
                "collection": {"semantics": []},
                "created": _stamp(when),
                "datetime": _stamp(when),
                "datetimetz": _stamp(when),
                "exif": {},
                "geovisio:image": assets["hd"]["href"],
                "geovisio:producer": PRODUCER,
                "geovisio:rank_in_collection": rank + 1,
                "geovisio:thumbnail": assets["thumb"]["href"],
                "license": LICENCE,
                "original_file:name": f"{pano.pano_id}.jpg",
                "pers:interior_orientation": {
                    "camera_manufacturer": "streetrecall", "camera_model": "simulator", "field_of_view": 360,
                    "sensor_array_dimensions": [4096, 2048],
                },
                "semantics": [],
                "updated": _stamp(when),
                "view:azimuth": 0,
            },
            "providers": [{"id": str(_NAMESPACE), "name": PRODUCER, "roles": ["producer"]}],
            "stac_extensions": [
                "https://stac-extensions.github.io/view/v1.0.0/schema.json",
                "https://stac-extensions.github.io/perspective-imagery/v1.0.0/schema.json",
            ],
            "stac_version": "1.0.0",
            "type": "Feature",
        }  # fmt: skip

    def collection(self, name: str, base: str) -> dict[str, Any]:
        rows = self.collections[name]
        times = sorted(self.time(i) for i in rows)
        return {
            "created": _stamp(times[0]),
            "description": "A sequence of geolocated pictures",
            "extent": {
                "spatial": {"bbox": [self._box(rows)]},
                "temporal": {"interval": [[_stamp(times[0]), _stamp(times[-1])]]},
            },
            "geovisio:length_km": round(len(rows) * self.city.params.spot_spacing_m / 1000, 3),
            "id": name,
            "keywords": ["pictures"],
            "license": LICENCE,
            "links": [
                {"href": f"{base}/collections/{name}/items", "rel": "items", "title": "Pictures in this sequence",
                 "type": "application/geo+json"},
                {"href": f"{base}/", "rel": "parent", "title": "Instance catalog", "type": "application/json"},
                {"href": f"{base}/", "rel": "root", "title": "Instance catalog", "type": "application/json"},
                {"href": f"{base}/collections/{name}", "rel": "self", "title": "Metadata of this sequence",
                 "type": "application/json"},
                {"href": LICENCE_URL, "rel": "license", "title": f"License for this object ({LICENCE})"},
            ],
            "providers": [{"id": str(_NAMESPACE), "name": PRODUCER, "roles": ["producer"]}],
            "semantics": [],
            "stac_extensions": ["https://stac-extensions.github.io/stats/v0.2.0/schema.json"],
            "stac_version": "1.0.0",
            "stats:items": {"count": len(rows)},
            "summaries": {},
            "title": f"street {self.city.panos[rows[0]].street}, {self.city.panos[rows[0]].date}",
            "type": "Collection",
            "updated": _stamp(times[-1]),
        }  # fmt: skip

    def _box(self, rows: Iterable[int]) -> list[float]:
        rows = list(rows)
        lon, lat = self.lon[rows], self.lat[rows]
        return [float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())]

    def search(self, asked: dict[str, Any]) -> list[int]:
        """Numbers of the items that fit; newest first, as the real server, unless ``sortby`` says otherwise."""
        rows = (
            range(len(self.item_ids)) if "area" not in asked else sorted(self.tree.query(asked["area"], "intersects"))
        )
        found = [int(i) for i in rows]
        if asked.get("ids") is not None:
            wanted = set(asked["ids"])
            found = [i for i in found if self.item_ids[i] in wanted]
        if asked.get("collections") is not None:
            wanted = set(asked["collections"])
            found = [i for i in found if self.collection_of[i] in wanted]
        if asked.get("datetime"):
            first, last = asked["datetime"]
            found = [i for i in found if (not first or self.time(i) >= first) and (not last or self.time(i) <= last)]
        reverse = asked.get("sortby", "-ts") != "+ts"
        return sorted(found, key=lambda i: (self.time(i), self.item_ids[i]), reverse=reverse)


def _stamp(when: dt.datetime) -> str:
    return when.isoformat()


def _instant(text: str) -> dt.datetime | None:
    if text in ("", ".."):
        return None
    try:
        when = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise _BadRequestError(f"Parameter datetime is not valid: {text}") from error
    return when if when.tzinfo else when.replace(tzinfo=dt.UTC)


def _interval(text: str) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Both ends of ``a/b``, ``../b``, ``a/..``, or the day or instant that stands alone."""
    if "/" not in text:
        start = _instant(text)
        if start is None:
            raise _BadRequestError("Parameter datetime should contain one or two dates")
        return start, start + dt.timedelta(days=1, microseconds=-1) if len(text) == 10 else start
    ends = text.split("/")
    if len(ends) != 2:
        raise _BadRequestError("Parameter datetime should contain one or two dates")
    first, last = _instant(ends[0]), _instant(ends[1])
    if last is not None and len(ends[1]) == 10:
        last += dt.timedelta(days=1, microseconds=-1)
    return first, last


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        value = json.loads(value) if value.startswith("[") else value.split(",")
    return [str(v).strip() for v in value]


def _parse(values: dict[str, Any]) -> tuple[dict[str, Any], int]:
    asked: dict[str, Any] = {}
    try:
        limit = int(values.get("limit", 10))
    except (TypeError, ValueError) as error:
        raise _BadRequestError("Parameter limit must be either empty or a number between 1 and 10000") from error
    if not 1 <= limit <= MAX_LIMIT:
        raise _BadRequestError("Parameter limit must be either empty or a number between 1 and 10000")
    if values.get("bbox") and values.get("intersects"):
        raise _BadRequestError("Parameters bbox and intersects can't be given together")
    if values.get("bbox"):
        try:
            box = [float(v) for v in _listed(values["bbox"])]
        except ValueError as error:
            raise _BadRequestError("Parameter bbox must be in format [minX, minY, maxX, maxY]") from error
        if len(box) != 4 or not (
            -180 <= box[0] <= 180 and -180 <= box[2] <= 180 and abs(box[1]) <= 90 and abs(box[3]) <= 90
        ):
            raise _BadRequestError("Parameter bbox must be in format [minX, minY, maxX, maxY]")
        asked["area"] = shapely.box(box[0], box[1], box[2], box[3])
    if values.get("intersects"):
        geometry = values["intersects"]
        try:
            area: BaseGeometry = shape(json.loads(geometry) if isinstance(geometry, str) else geometry)
        except (ValueError, KeyError, TypeError, AttributeError, shapely.errors.GEOSException) as error:
            raise _BadRequestError("Parameter intersects should contain a valid GeoJSON Geometry") from error
        asked["area"] = area
    if values.get("place_position"):
        match = re.fullmatch(r"(-?[\d.]+),(-?[\d.]+)", str(values["place_position"]))
        spread = re.fullmatch(r"(?:([\d.]+)-)?([\d.]+)", str(values.get("place_distance", "3-15")))
        if not match or not spread:
            raise _BadRequestError("Parameter place_position should be longitude,latitude and place_distance in metres")
        lon, lat = float(match[1]), float(match[2])
        metres = float(spread[2])
        scale = 111_320.0
        ring = shapely.Point(0, 0).buffer(metres)
        stretch = max(0.01, math.cos(math.radians(lat)))
        asked["area"] = shapely.transform(ring, lambda c: c / [scale * stretch, scale] + [lon, lat])
    if values.get("ids"):
        asked["ids"] = _listed(values["ids"])
    if values.get("collections"):
        asked["collections"] = _listed(values["collections"])
    if values.get("datetime"):
        asked["datetime"] = _interval(str(values["datetime"]))
    if values.get("sortby"):
        order = values["sortby"]
        if isinstance(order, list) and order and isinstance(order[0], dict):
            order = ("-" if order[0].get("direction") == "desc" else "+") + str(order[0].get("field"))
        order = str(order[0] if isinstance(order, list) else order).strip()
        order = order if order[:1] in "+-" else f"+{order}"
        if order[1:] not in ("ts", "datetime", "updated"):
            raise _BadRequestError(f"Unsupported sortby parameter: {order}")
        asked["sortby"] = f"{order[0]}ts"
    return asked, limit


def router(city: City) -> APIRouter:
    routes = APIRouter(prefix="/api")
    catalogue = _Catalogue(city)

    def base(request: Request) -> str:
        return str(request.base_url).rstrip("/") + "/api"

    def failure(error: _BadRequestError) -> Response:
        body: dict[str, Any] = {"message": error.message, "status_code": error.status}
        return JSONResponse(body | ({"details": error.details} if error.details else {}), error.status)

    def answer(request: Request, values: dict[str, Any]) -> Response:
        try:
            asked, limit = _parse(values)
        except _BadRequestError as error:
            return failure(error)
        found = catalogue.search(asked)[:limit]
        features = [catalogue.item(i, base(request), related="ids" in asked) for i in found]
        return _GeoJson({"features": features, "links": [], "type": "FeatureCollection"})

    @routes.get("")
    @routes.get("/")
    def landing(request: Request) -> Response:
        b = base(request)
        every = range(len(catalogue.item_ids))
        times = [catalogue.time(i) for i in every]
        return JSONResponse(
            {
                "conformsTo": _CONFORMANCE,
                "description": "A simulated city, for trials: nothing here is real",
                "extent": {
                    "spatial": {"bbox": [catalogue._box(every)]},
                    "temporal": {"interval": [[_stamp(min(times)), _stamp(max(times))]]},
                },
                "id": "streetrecall-simulator",
                "links": [
                    {"href": f"{b}/", "rel": "self", "type": "application/json"},
                    {"href": f"{b}/", "rel": "root", "title": "Instance catalog", "type": "application/json"},
                    {"href": str(request.base_url) + "openapi.json", "rel": "service-desc", "type": "application/json"},
                    {"href": f"{b}/conformance", "rel": "conformance", "type": "application/json"},
                    {"href": f"{b}/collections", "rel": "data", "type": "application/json"},
                    {"href": f"{b}/search", "rel": "search", "type": "application/geo+json", "method": "GET"},
                    {"href": f"{b}/search", "rel": "search", "type": "application/geo+json", "method": "POST"},
                    {
                        "href": f"{b}/pictures/{{id}}/thumb.jpg",
                        "rel": "item-preview",
                        "title": "Thumbnail URL for a given picture",
                        "type": "image/jpeg",
                    },
                    {"href": LICENCE_URL, "rel": "license", "title": f"License for this object ({LICENCE})"},
                ],
                "stac_extensions": [],
                "stac_version": "1.0.0",
                "title": "streetrecall simulated city",
                "type": "Catalog",
            }
        )

    @routes.get("/conformance")
    def conformance() -> Response:
        return JSONResponse({"conformsTo": _CONFORMANCE})

    @routes.get("/search")
    def search(request: Request) -> Response:
        return answer(request, dict(request.query_params))

    @routes.post("/search")
    async def search_by_post(request: Request) -> Response:
        try:
            values = json.loads(await request.body() or b"{}")
        except ValueError:
            return failure(_BadRequestError("The body is not JSON"))
        if not isinstance(values, dict):
            return failure(_BadRequestError("The body is not a JSON object"))
        return answer(request, values)

    @routes.get("/collections")
    def collections(request: Request, limit: int = 100, page: int = 1) -> Response:
        b, names = base(request), list(catalogue.collections)
        limit, page = max(1, min(limit, 1000)), max(1, page)
        links = [
            {"href": f"{b}/", "rel": "root", "title": "Instance catalog", "type": "application/json"},
            {"href": f"{b}/", "rel": "parent", "type": "application/json"},
            {"href": f"{b}/collections", "rel": "self", "type": "application/json"},
        ]
        if page * limit < len(names):
            links.append(
                {"href": f"{b}/collections?limit={limit}&page={page + 1}", "rel": "next", "type": "application/json"}
            )
        shown = names[(page - 1) * limit : page * limit]
        return JSONResponse({"collections": [catalogue.collection(n, b) for n in shown], "links": links})

    @routes.get("/collections/{name}")
    def collection(request: Request, name: str) -> Response:
        if name not in catalogue.collections:
            return failure(_BadRequestError("Collection doesn't exist", status=404))
        return JSONResponse(catalogue.collection(name, base(request)))

    @routes.get("/collections/{name}/items")
    def items(request: Request, name: str, limit: int = 1000, startAfterRank: int = 0) -> Response:
        if name not in catalogue.collections:
            return failure(_BadRequestError("Collection doesn't exist", status=404))
        if not 1 <= limit <= MAX_LIMIT:
            return failure(_BadRequestError("Parameter limit must be either empty or a number between 1 and 10000"))
        b, rows = base(request), catalogue.collections[name]
        url = f"{b}/collections/{name}/items"
        shown = rows[startAfterRank : startAfterRank + limit]
        links = [
            {"href": f"{b}/", "rel": "root", "title": "Instance catalog", "type": "application/json"},
            {"href": f"{b}/collections/{name}", "rel": "parent", "type": "application/json"},
            {"href": url, "rel": "self", "type": "application/geo+json"},
        ]
        after = startAfterRank + limit
        if after < len(rows):
            links.append(
                {"href": f"{url}?limit={limit}&startAfterRank={after}", "rel": "next", "type": "application/geo+json"}
            )
        features = [catalogue.item(i, b) for i in shown]
        return _GeoJson({"features": features, "links": links, "type": "FeatureCollection"})

    @routes.get("/collections/{name}/items/{item}")
    def one_item(request: Request, name: str, item: str) -> Response:
        i = catalogue.index.get(item)
        if i is None or catalogue.collection_of[i] != name:
            return failure(_BadRequestError("Item doesn't exist", status=404))
        return _GeoJson(catalogue.item(i, base(request), related=True))

    @routes.get("/pictures/{item}/{size}.jpg")
    def picture(item: str, size: str) -> Response:
        i = catalogue.index.get(item)
        if i is None or size not in _SIZES:
            return failure(_BadRequestError("Picture doesn't exist", status=404))
        data = render.jpeg(render.renderer(city).panorama(city.panos[i], _SIZES[size]))
        return Response(data, media_type="image/jpeg")

    return routes
