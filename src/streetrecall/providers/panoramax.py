"""Provider `panoramax`: open pictures of a Panoramax server (docs/sources.md).

The server is the public one, or that of ``STREETRECALL_PANORAMAX``, such as the simulated city's
(``streetrecall serve-city``). It is asked by its STAC interface: `/api/search` by boxes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from streetrecall import months
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.boxes import Box, BoxProvider, Page
from streetrecall.providers.fields import is_url, joined, mapping, number, text
from streetrecall.providers.http import Answer, Client, DeniedError, GoneError, RequestError, TemporaryError, read_json
from streetrecall.providers.proxies import LOOPBACK, Proxies
from streetrecall.providers.shots import Shot, compass, is_position

PUBLIC = "https://api.panoramax.xyz"
ENDPOINT = "STREETRECALL_PANORAMAX"
MAX_PAGES = 100  # of one box
WHOLE_CIRCLE = 360
_MONTH = re.compile(f"({months.PATTERN})-")


class PanoramaxProvider(BoxProvider):
    """A Panoramax server at ``endpoint``; see `streetrecall.providers.boxes.BoxProvider`."""

    name = "panoramax"

    def __init__(self, params: Params, endpoint: str, client: Client) -> None:
        s = params.panoramax
        self._endpoint = endpoint.rstrip("/").removesuffix("/api") + "/api"
        super().__init__(
            params, client, f"panoramax {self._endpoint} {s.asset}", s.place_m, s.heading_deg, s.box_deg, s.limit
        )

    @classmethod
    def open(cls, params: Params) -> PanoramaxProvider:
        """The server of the environment, or the public one.

        Raises:
            UserError: the environment names something else than a server.
        """
        endpoint = endpoint_of(ENDPOINT, PUBLIC)
        local = urlsplit(endpoint).hostname in LOOPBACK
        proxies = Proxies([]) if local else Proxies.from_environment()
        return cls(params, endpoint, Client(params.network, proxies, environment=not local))

    def _search(self, box: Box) -> Page:
        """All pictures in a box. Pages follow the server's ``next`` links where it gives them."""
        url, query = f"{self._endpoint}/search", {"bbox": box.text, "limit": str(self._limit)}
        shots: dict[str, Shot] = {}
        dropped, seen = 0, set()
        for _ in range(MAX_PAGES):
            items, following = self.client.get(url, query, read_items, means={400: BadRequestError})
            found = [read_item(item, self._params.panoramax.asset) for item in items]
            shots |= {shot.shot_id: shot for shot in found if shot is not None}
            dropped += sum(shot is None for shot in found)
            if not following:
                return Page(list(shots.values()), len(items) >= self._limit, dropped)
            seen.add(url)
            url, query = joined(url, following), {}
            if url in seen or urlsplit(url).netloc != urlsplit(self._endpoint).netloc:
                break  # links that lead in a circle or elsewhere: the box is divided instead
        return Page(list(shots.values()), full=True, dropped=dropped)

    def _fresh(self, shot: Shot) -> str:
        found = read_item(self._item(shot), self._params.panoramax.asset)
        if found is None:
            raise GoneError("its item has no picture any more")
        return found.source

    def _item(self, shot: Shot) -> Mapping[str, Any]:
        url = f"{self._endpoint}/collections/{quote(shot.sequence, safe='')}/items/{quote(shot.shot_id, safe='')}"
        return self.client.get(url, {}, read_json)

    def _same_places(self, anchors: Sequence[Shot]) -> dict[str, set[str]] | None:
        """By the server's links to the same place at other dates, if params.yaml asks for them."""
        if self._params.panoramax.dates != "related":
            return None

        places = {}
        missing = [shot for shot in anchors if f"related {shot.shot_id}" not in self.notes]
        for shot, found in self._together(PanoramaxProvider._related, missing):
            if isinstance(found, str):
                self.unplanned.append((f"panorama {shot.shot_id}", f"its dates cannot be had; {found}"))
            else:
                self.notes[f"related {shot.shot_id}"] = json.dumps(found)
        for shot in anchors:
            note = self.notes.get(f"related {shot.shot_id}", "[]")
            places[shot.shot_id] = {shot.shot_id, *json.loads(note)}
        return places

    def _related(self, shot: Shot) -> Iterator[tuple[Shot, list[str] | str]]:
        """The ids of the other dates that the server links, or why there are none."""
        try:
            yield shot, sorted(read_related(self._item(shot)))
        except RequestError as error:
            yield shot, str(error)


class BadRequestError(DeniedError):
    """The server rejects the request itself: no other one will do better."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the server rejects the search ({reason}); check that {ENDPOINT} is a Panoramax server, and "
            "panoramax.limit and panoramax.box_deg"
        )


def endpoint_of(variable: str, default: str) -> str:
    """The base URL of a service: that of an environment variable, or ``default``.

    Raises:
        UserError: the variable holds something else than a URL.
    """
    value = os.environ.get(variable, "").strip() or default
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise UserError(f"{variable}: give the address of the service alone, such as {default}")
    return value


def read_items(answer: Answer) -> tuple[list[Any], str]:
    """The items of a search, and the link to the next page (empty where there is none that a GET can follow).

    Raises:
        TemporaryError: the answer is something else.
    """
    body = read_json(answer)
    features = body.get("features")
    if not isinstance(features, list):
        raise TemporaryError("the answer has no list of features")
    return features, next((href for rel, href, _ in _links(body, ("GET",)) if rel == "next"), "")


def read_item(item: Any, asset: str) -> Shot | None:
    """The shot of an item; None where it has no id, position or picture, or is hidden.

    >>> read_item({"id": "a"}, "sd") is None
    True
    """
    if not isinstance(item, dict):
        return None
    properties, geometry = mapping(item, "properties"), mapping(item, "geometry")
    name, sequence, point = item.get("id"), item.get("collection"), geometry.get("coordinates")
    href = mapping(mapping(item, "assets"), asset).get("href")
    if not (isinstance(name, str) and name and isinstance(href, str) and isinstance(point, list) and len(point) >= 2):
        return None
    lon, lat = number(point[0]), number(point[1])
    if not is_position(lat, lon) or not is_url(href):
        return None
    camera = mapping(properties, "pers:interior_orientation")
    date = _MONTH.match(str(properties.get("datetimetz") or properties.get("datetime") or ""))
    azimuth = number(properties.get("view:azimuth"))
    return Shot(
        name, lat, lon, date[1] if date else "", compass(azimuth),
        number(camera.get("field_of_view")) == WHOLE_CIRCLE, text(properties.get("license")) or "none stated",
        _author(item, properties), href, sequence=sequence if isinstance(sequence, str) else "",
    )  # fmt: skip


def read_related(item: Any) -> set[str]:
    """The ids of an item's links to the same place at other dates."""
    found = _links(item, ("GET",)) if isinstance(item, dict) else iter(())
    return {name for rel, href, name in found if rel == "related" and name}


def _links(body: Mapping[str, Any], methods: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Relation, address and item's id of the links of a STAC object that one of ``methods`` can follow."""
    links = body.get("links")
    for link in links if isinstance(links, list) else []:
        known = isinstance(link, dict) and isinstance(link.get("href"), str)
        if known and str(link.get("method", "GET")).upper() in methods:
            yield str(link.get("rel", "")), link["href"], text(link.get("id"))


def _author(item: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """Who took the picture: the producer, or the first provider of the item that has a name."""
    producer = text(properties.get("geovisio:producer"))
    providers = item.get("providers")
    people = providers if isinstance(providers, list) else []
    names = [text(p.get("name")) for p in people if isinstance(p, dict)]
    return producer or next((name for name in names if name), "unknown")
