"""A tiny street of open pictures, behind the contracts of Panoramax and of Mapillary."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from PIL import Image
from tinyservice import Fault, TinyService

from streetrecall.params.schema import Params
from streetrecall.providers.boxes import BoxProvider
from streetrecall.providers.http import Client, Secret
from streetrecall.providers.mapillary import MapillaryProvider
from streetrecall.providers.panoramax import PanoramaxProvider

TOKEN = "MLY|4711|TopSecretToken"
START = (59.3250, 18.0700)
STEP_DEG = 0.0006  # about 67 m to the north
YEARS = (2023, 2019, 2014)


@dataclass(frozen=True)
class Taken:
    """A picture: of a place, a year, a heading; ``sphere`` pictures face north."""

    name: str
    lat: float
    lon: float
    year: int
    heading: float
    sphere: bool
    sequence: str


def street(places: int, flat: bool = True) -> list[Taken]:
    """``places`` places; spheres of three years at each even one, flat pictures of four directions at each other."""
    taken = []
    for place in range(places):
        for year in YEARS:
            lat = START[0] + STEP_DEG * place + 0.00002 * (year % 3)
            if place % 2 == 0 or not flat:
                taken.append(Taken(f"s{place}-{year}", lat, START[1], year, 0.0, True, f"seq{year}"))
            else:
                taken += [
                    Taken(
                        f"f{place}-{year}-{k}",
                        lat,
                        START[1] + 1e-5 * k,
                        year,
                        (5.0 + 90 * k) % 360,
                        False,
                        f"seq{year}",
                    )
                    for k in range(4)
                ]
    return taken


@lru_cache(maxsize=512)
def jpeg(name: str, sphere: bool) -> bytes:
    rng = np.random.default_rng(list(name.encode()))
    image = Image.fromarray(rng.integers(0, 255, (6, 12, 3)).astype(np.uint8))
    out = io.BytesIO()
    image.resize((256, 128) if sphere else (320, 240), Image.Resampling.NEAREST).save(out, "JPEG")
    return out.getvalue()


class TinyOpen(TinyService):
    """Both services of the same pictures.

    ``paged``: answers of a search have so many items and links to the next page. ``expired``: ids of pictures whose
    links are no longer valid until they are asked for by id. ``redirects``: pictures are in a store elsewhere.
    """

    def __init__(self, taken: list[Taken], fault: Fault | None = None) -> None:
        super().__init__(fault)
        self.taken = taken
        self.token = f"OAuth {TOKEN}"
        self.paged = 0
        self.expired: set[str] = set()
        self.missing: set[str] = set()
        self.redirects = False

    def guarded(self, path: str) -> list[str]:
        return [] if path.startswith(("/api", "/pictures", "/store")) else [path]

    def answer(self, path: str, query: dict[str, str]) -> tuple[Any, ...]:
        parts = path.strip("/").split("/")
        if path == "/api/search":
            return self._search(query)
        if parts[:2] == ["api", "collections"]:
            found = next((t for t in self.taken if parts[2:] == [t.sequence, "items", t.name]), None)
            return (
                _json(self._item(found, renewed=True))
                if found
                else _json({"message": "no item", "status_code": 404}, 404)
            )
        if parts[0] in ("pictures", "store"):
            return self._picture(parts[0], parts[1].removesuffix(".jpg"), query)
        if path == "/images":
            return self._images(query)
        found = next((t for t in self.taken if t.name == parts[0]), None)
        if found is None:
            return _json({"error": {"message": "no such object", "code": 100}}, 404)
        return _json(self._image(found, query, renewed=True))

    def _within(self, query: dict[str, str]) -> list[Taken]:
        west, south, east, north = (float(v) for v in query["bbox"].split(","))
        return [t for t in self.taken if west <= t.lon <= east and south <= t.lat <= north]

    def _search(self, query: dict[str, str]) -> tuple[Any, ...]:
        limit = int(query.get("limit", 10))
        if not 1 <= limit <= 10_000:
            return _json({"message": "Parameter limit must be a number between 1 and 10000", "status_code": 400}, 400)
        found, first, links = self._within(query), int(query.get("token", 0)), []
        size = self.paged or limit
        if self.paged and first + size < len(found):
            href = f"{self.base}/api/search?bbox={query['bbox']}&limit={limit}&token={first + size}"
            links.append({"rel": "next", "href": href, "method": "GET"})
        features = [self._item(t) for t in found[first : first + size]]
        return 200, "application/geo+json", json.dumps({"features": features, "links": links}).encode()

    def _item(self, t: Taken, renewed: bool = False) -> dict[str, Any]:
        related = [
            {"rel": "related", "id": o.name, "href": f"{self.base}/api/collections/{o.sequence}/items/{o.name}"}
            for o in self.taken
            if o.year != t.year and abs(o.lat - t.lat) < 0.0001 and o.sphere == t.sphere and o.heading == t.heading
        ]
        return {
            "id": t.name, "collection": t.sequence, "type": "Feature", "links": related,
            "geometry": {"type": "Point", "coordinates": [t.lon, t.lat]},
            "assets": {size: {"href": self._href(t, renewed), "type": "image/jpeg"} for size in ("sd", "hd")},
            "properties": {
                "datetime": f"{t.year}-06-01T10:00:00+00:00", "view:azimuth": t.heading, "license": "etalab-2.0",
                "geovisio:producer": "Ann", "pers:interior_orientation": {"field_of_view": 360 if t.sphere else 70},
            },
        }  # fmt: skip

    def _images(self, query: dict[str, str]) -> tuple[Any, ...]:
        west, south, east, north = (float(v) for v in query["bbox"].split(","))
        if (east - west) * (north - south) >= 0.01 or not 1 <= int(query["limit"]) <= 2000:
            return _json({"error": {"message": "bbox too large", "type": "MLYApiException", "code": 1}}, 400)
        return _json({"data": [self._image(t, query) for t in self._within(query)[: int(query["limit"])]]})

    def _image(self, t: Taken, query: dict[str, str], renewed: bool = False) -> dict[str, Any]:
        """The fields that are asked for, and the id, as the service answers."""
        milliseconds = int((t.year - 1970) * 365.25 * 86_400_000 + 150 * 86_400_000)
        point = {"type": "Point", "coordinates": [t.lon, t.lat]}
        known = {
            "id": t.name, "captured_at": milliseconds, "sequence": t.sequence, "is_pano": t.sphere, "geometry": point,
            "computed_geometry": point, "computed_compass_angle": t.heading,
            "creator": {"username": "ann", "id": "1"}, "thumb_2048_url": self._href(t, renewed),
        }  # fmt: skip
        return {name: known[name] for name in ("id", *query.get("fields", "").split(",")) if name in known}

    def _href(self, t: Taken, renewed: bool) -> str:
        return f"{self.base}/pictures/{t.name}.jpg" + ("?renewed=1" if renewed and t.name in self.expired else "")

    def _picture(self, where: str, name: str, query: dict[str, str]) -> tuple[Any, ...]:
        found = next((t for t in self.taken if t.name == name), None)
        if found is None or name in self.missing:
            return 404, "text/plain", b"no such picture"
        if where == "pictures" and name in self.expired and "renewed" not in query:
            return 403, "text/plain", b"URL signature expired"
        if where == "pictures" and self.redirects:
            return 302, "text/plain", b"", {"Location": f"/store/{name}.jpg"}
        return 200, "image/jpeg", jpeg(name, found.sphere)


def _json(content: object, status: int = 200) -> tuple[Any, ...]:
    return status, "application/json; charset=UTF-8", json.dumps(content).encode()


def open_box_provider(name: str, params: Params, base: str, token: str = TOKEN) -> BoxProvider:
    """The provider called ``name``, pointed at a `TinyOpen`."""
    client = Client(params.network, environment=False)
    provider: BoxProvider
    if name == "panoramax":
        provider = PanoramaxProvider(params, base, client)
    else:
        provider = MapillaryProvider(params, base, Secret(token), client)
    provider.reopen = partial(open_box_provider, name, params, base, token)
    return provider
