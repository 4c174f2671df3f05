"""The city's panoramas as Panoramax's items and collections: a collection is one drive along one street."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely

from streetrecall.simulator.city.panoramas import Pano
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.service.search import Query

LICENCE = "CC0-1.0"
LICENCE_URL = "https://creativecommons.org/publicdomain/zero/1.0/"
PRODUCER = "streetrecall simulated city"
SIZES = {"hd": 4096, "sd": 2048, "thumb": 500}  # widths of a picture, pixels
FRAME_SECONDS = 4  # between two pictures of one drive

LICENCE_LINK = {"href": LICENCE_URL, "rel": "license", "title": f"License for this object ({LICENCE})"}
_NAMESPACE = uuid.UUID("6f2f1b6e-7c2a-5d0e-9b51-0d6a2f6c1a55")
_PROVIDERS = [{"id": str(_NAMESPACE), "name": PRODUCER, "roles": ["producer"]}]
_ASSETS = {
    "hd": ("HD picture", "Highest resolution available of this picture", "data"),
    "sd": ("SD picture", "Picture in standard definition (fixed width of 2048px)", "visual"),
    "thumb": ("Thumbnail", "Picture in low definition (fixed width of 500px)", "thumbnail"),
}  # title, description, role


class Catalogue:
    """Items are known by their number in ``city.panos`` within, and by a UUID without."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.item_ids = [str(uuid.uuid5(_NAMESPACE, p.pano_id)) for p in city.panos]
        self.index = {item: i for i, item in enumerate(self.item_ids)}
        drives: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, p in enumerate(city.panos):
            drives[p.street, p.month].append(i)
        self.collections: dict[str, list[int]] = {}
        self.collection_of = [""] * len(city.panos)
        self.rank_of = [0] * len(city.panos)  # position within the collection, from 0
        for (street, month), items in sorted(drives.items()):
            name = str(uuid.uuid5(_NAMESPACE, f"{city.seed}/{street}/{month}"))
            self.collections[name] = sorted(items, key=lambda i: city.panos[i].spot)
            for rank, i in enumerate(self.collections[name]):
                self.collection_of[i], self.rank_of[i] = name, rank
        self.lat, self.lon = city.latlon
        self._tree = shapely.STRtree([shapely.Point(x, y) for x, y in zip(self.lon, self.lat, strict=True)])

    def time(self, i: int) -> dt.datetime:
        """An instant in the panorama's month; the spots of one drive follow each other."""
        pano = self.city.panos[i]
        start = dt.datetime(pano.month // 12, pano.month % 12 + 1, 1 + pano.street % 27, 10, tzinfo=dt.UTC)
        return start + dt.timedelta(seconds=FRAME_SECONDS * self.rank_of[i])

    def search(self, query: Query) -> list[int]:
        """Numbers of the items that a query asks for, in its order, as many as it wants."""
        found: Iterable[int] = range(len(self.item_ids))
        if query.area is not None:
            found = map(int, self._tree.query(query.area, "intersects"))
        kept = [
            i
            for i in found
            if (query.ids is None or self.item_ids[i] in query.ids)
            and (query.collections is None or self.collection_of[i] in query.collections)
            and (query.first is None or self.time(i) >= query.first)
            and (query.last is None or self.time(i) <= query.last)
        ]
        kept.sort(key=lambda i: (self.time(i), self.item_ids[i]), reverse=query.newest_first)
        return kept[: query.limit]

    def item(self, i: int, base: str, related: bool = False) -> dict[str, Any]:
        """An item as JSON; ``related`` adds links to the same place at other dates."""
        pano, item, collection = self.city.panos[i], self.item_ids[i], self.collection_of[i]
        lat, lon = float(self.lat[i]), float(self.lon[i])
        assets = {
            name: {"description": text, "href": f"{base}/pictures/{item}/{name}.jpg", "roles": [role], "title": title,
                   "type": "image/jpeg"}
            for name, (title, text, role) in _ASSETS.items()
        }  # fmt: skip
        return {
            "assets": assets,
            "bbox": [lon, lat, lon, lat],
            "collection": collection,
            "geometry": self._point(i),
            "id": item,
            "links": self._item_links(i, base) + (self._related_links(i, base) if related else []),
            "properties": self._properties(i, pano, assets),
            "providers": _PROVIDERS,
            "stac_extensions": [
                "https://stac-extensions.github.io/view/v1.0.0/schema.json",
                "https://stac-extensions.github.io/perspective-imagery/v1.0.0/schema.json",
            ],
            "stac_version": "1.0.0",
            "type": "Feature",
        }

    def _point(self, i: int) -> dict[str, Any]:
        return {"coordinates": [float(self.lon[i]), float(self.lat[i])], "type": "Point"}

    def _href(self, i: int, base: str) -> str:
        return f"{base}/collections/{self.collection_of[i]}/items/{self.item_ids[i]}"

    def _properties(self, i: int, pano: Pano, assets: dict[str, Any]) -> dict[str, Any]:
        when = self.time(i).isoformat()
        return {
            "annotations": [],
            "collection": {"semantics": []},
            "created": when,
            "datetime": when,
            "datetimetz": when,
            "exif": {},
            "geovisio:image": assets["hd"]["href"],
            "geovisio:producer": PRODUCER,
            "geovisio:rank_in_collection": self.rank_of[i] + 1,
            "geovisio:thumbnail": assets["thumb"]["href"],
            "license": LICENCE,
            "original_file:name": f"{pano.pano_id}.jpg",
            "pers:interior_orientation": {
                "camera_manufacturer": "streetrecall", "camera_model": "simulator", "field_of_view": 360,
                "sensor_array_dimensions": [4096, 2048],
            },
            "semantics": [],
            "updated": when,
            "view:azimuth": 0,
        }  # fmt: skip

    def _item_links(self, i: int, base: str) -> list[dict[str, Any]]:
        collection = f"{base}/collections/{self.collection_of[i]}"
        links: list[dict[str, Any]] = [
            {"href": f"{base}/", "rel": "root", "title": "Instance catalog", "type": "application/json"},
            {"href": collection, "rel": "parent", "type": "application/json"},
            {"href": self._href(i, base), "rel": "self", "type": "application/geo+json"},
            {"href": collection, "rel": "collection", "type": "application/json"},
            LICENCE_LINK,
        ]
        rows = self.collections[self.collection_of[i]]
        for rel, rank in (("next", self.rank_of[i] + 1), ("prev", self.rank_of[i] - 1)):
            if 0 <= rank < len(rows):
                links.append(self._item_link(rel, rows[rank], base))
        return links

    def _related_links(self, i: int, base: str) -> list[dict[str, Any]]:
        others = [self.city.by_id[other.pano_id] for other in self.city.dates(self.city.panos[i])]
        return [
            {"datetime": self.time(k).isoformat(), **self._item_link("related", k, base)} for k in others if k != i
        ]  # fmt: skip

    def _item_link(self, rel: str, i: int, base: str) -> dict[str, Any]:
        return {
            "geometry": self._point(i), "href": self._href(i, base), "id": self.item_ids[i], "rel": rel,
            "type": "application/geo+json",
        }  # fmt: skip

    def collection(self, name: str, base: str) -> dict[str, Any]:
        """A collection as JSON."""
        rows = self.collections[name]
        first = self.city.panos[rows[0]]
        extent = self.extent(rows)
        created, updated = extent["temporal"]["interval"][0]
        return {
            "created": created,
            "description": "A sequence of geolocated pictures",
            "extent": extent,
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
                LICENCE_LINK,
            ],
            "providers": _PROVIDERS,
            "semantics": [],
            "stac_extensions": ["https://stac-extensions.github.io/stats/v0.2.0/schema.json"],
            "stac_version": "1.0.0",
            "stats:items": {"count": len(rows)},
            "summaries": {},
            "title": f"street {first.street}, {first.date}",
            "type": "Collection",
            "updated": updated,
        }  # fmt: skip

    def extent(self, rows: list[int] | None = None) -> dict[str, Any]:
        """The box and the interval of some items, or of all."""
        rows = list(range(len(self.item_ids))) if rows is None else rows
        lat, lon = np.asarray(self.lat)[rows], np.asarray(self.lon)[rows]
        times = [self.time(i) for i in rows]
        return {
            "spatial": {"bbox": [[float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())]]},
            "temporal": {"interval": [[min(times).isoformat(), max(times).isoformat()]]},
        }
