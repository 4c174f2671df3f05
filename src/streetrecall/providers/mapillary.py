"""Provider `mapillary`: open pictures of Mapillary (CC BY-SA 4.0), with the user's own token (docs/sources.md).

The token comes from ``STREETRECALL_MAPILLARY_TOKEN`` alone, travels in a header, and no text shows it.
"""

from __future__ import annotations

import datetime as dt
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.boxes import Box, BoxProvider, Page, dump_page, load_page
from streetrecall.providers.fields import is_url, mapping, number, text
from streetrecall.providers.folders import UnreadableError, opened
from streetrecall.providers.http import (
    Answer,
    Client,
    DeniedError,
    GoneError,
    RequestError,
    Secret,
    TemporaryError,
    read_json,
)
from streetrecall.providers.panoramax import endpoint_of
from streetrecall.providers.proxies import LOOPBACK, Proxies
from streetrecall.providers.shots import Shot, is_position

PUBLIC = "https://graph.mapillary.com"
ENDPOINT, TOKEN = "STREETRECALL_MAPILLARY", "STREETRECALL_MAPILLARY_TOKEN"
LICENCE = "CC-BY-SA-4.0"
SPHERICAL = ("spherical", "equirectangular")
FIELDS = "id,captured_at,computed_geometry,geometry,computed_compass_angle,compass_angle,sequence,camera_type,is_pano"
MAX_DEGREES2 = 0.01  # area of a box, exclusive


class MapillaryProvider(BoxProvider):
    """Mapillary's API version 4 at ``endpoint``; see `streetrecall.providers.boxes.BoxProvider`."""

    name = "mapillary"

    def __init__(self, params: Params, endpoint: str, token: Secret, client: Client) -> None:
        s = params.mapillary
        self._endpoint, self._token, self._asset = endpoint.rstrip("/"), token, s.asset
        self._known: list[Shot] | None = None
        super().__init__(
            params, client, f"mapillary {self._endpoint} {s.asset}", s.place_m, s.heading_deg, s.box_deg, s.limit
        )

    @classmethod
    def open(cls, params: Params) -> MapillaryProvider:
        """The public service, or that of the environment, with the user's own token.

        Raises:
            UserError: there is no token.
        """
        token = os.environ.get(TOKEN, "").strip()
        if not token:
            raise UserError(f"provider 'mapillary': set {TOKEN} in the environment to your own access token (MLY|...)")
        if not token.isascii() or not token.isprintable():
            raise UserError(f"{TOKEN}: not an access token; copy it again from your developer's page")
        endpoint = endpoint_of(ENDPOINT, PUBLIC)
        local = urlsplit(endpoint).hostname in LOOPBACK
        proxies = Proxies([]) if local else Proxies.from_environment()
        return cls(params, endpoint, Secret(token), Client(params.network, proxies, environment=not local))

    def _ask_for(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        fields = f"{FIELDS},creator,{self._asset}"
        return self.client.get(
            f"{self._endpoint}/{path}", {**query, "fields": fields}, read_object,
            authorise=lambda: {"Authorization": f"OAuth {self._token.reveal()}"},
            means={400: BadQueryError, 401: BadTokenError, 403: BadTokenError},
        )  # fmt: skip

    def _search(self, box: Box) -> Page:
        """The pictures in a box. Such answers have no further pages: a full one is divided."""
        if (box.east - box.west) * (box.north - box.south) >= MAX_DEGREES2:
            return Page([], full=True)
        body = self._ask_for("images", {"bbox": box.text, "limit": str(self._limit)})
        items = body.get("data")
        if not isinstance(items, list):
            raise TemporaryError("the answer has no list of data")
        shots = [read_image(item, self._asset) for item in items]
        return Page([s for s in shots if s is not None], len(items) >= self._limit, sum(s is None for s in shots))

    def _fresh(self, shot: Shot) -> str:
        found = self._by_id(shot.shot_id)
        if found is None:
            raise GoneError("it has no picture any more")
        return found.source

    def _by_id(self, name: str) -> Shot | None:
        return read_image(self._ask_for(quote(name, safe=""), {}), self._asset)

    def _listed(self) -> list[Shot] | None:
        """The pictures of the list that ``mapillary.ids`` names."""
        if self._params.mapillary.ids == "none":
            return None
        if self._known is None:
            self._known = self._of_list(read_ids(Path(self._params.mapillary.ids)))
        return self._known

    def _of_list(self, ids: list[str]) -> list[Shot]:
        failed = {}
        missing = [name for name in ids if f"id {name}" not in self.notes]
        for name, page in self._together(MapillaryProvider._page_of_id, missing):
            if isinstance(page, str):
                failed[name] = page
            else:
                self.notes[f"id {name}"] = dump_page(page)
        self.unplanned += [(f"id {name}", f"could not be asked; {why}") for name, why in failed.items()]
        shots = []
        for name in ids:
            found = load_page(self.notes[f"id {name}"]).shots if f"id {name}" in self.notes else []
            shots += found
            if not found and name not in failed:
                self.unplanned.append((f"id {name}", "there is no such picture any more"))
        return shots

    def _page_of_id(self, name: str) -> Iterator[tuple[str, Page | str]]:
        """The picture of an id as a page, empty where there is none any more, or why that is not known."""
        try:
            shot = self._by_id(name)
        except GoneError:
            shot = None
        except RequestError as error:
            yield name, str(error)
            return
        yield name, Page([shot] if shot else [])


class BadTokenError(DeniedError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"the service rejects the token ({reason}); check {TOKEN}")


class BadQueryError(DeniedError):
    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the service rejects the request ({reason}); check mapillary.limit, mapillary.box_deg and mapillary.ids"
        )


def read_object(answer: Answer) -> dict[str, Any]:
    """The object in an answer; the service may call it JavaScript.

    Raises:
        TemporaryError: the answer is something else.
    """
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/javascript", "application/javascript"):
        answer = Answer(answer.status, {"Content-Type": "application/json"}, answer.body)
    return read_json(answer)


def read_ids(path: Path) -> list[str]:
    """The ids in a file, one in a line; what follows a comma in a line, empty lines and repeats are skipped.

    Raises:
        UserError: there is no such file, or a line is no id.
    """
    try:
        with opened(path) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except UnreadableError as error:
        raise UserError(f"mapillary.ids: {path}: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"mapillary.ids: {path}: not UTF-8") from error
    ids: dict[str, None] = {}
    for number_of_line, line in enumerate(lines, 1):
        name = line.partition(",")[0].strip().strip('"')
        if number_of_line == 1 and name.lower() in ("id", "key", "image_id", "image_key"):
            continue
        if name and not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise UserError(f"mapillary.ids: {path}: line {number_of_line} is no id of a picture")
        ids[name] = None
    ids.pop("", None)
    return list(ids)


def read_image(item: Any, asset: str) -> Shot | None:
    """The shot of an image; None where it has no id, position or picture.

    >>> read_image({"id": "1", "geometry": {"coordinates": [18.0, 59.0]}}, "thumb_2048_url") is None
    True
    """
    if not isinstance(item, dict):
        return None
    name, href = text(item.get("id")), item.get(asset)
    for key in ("computed_geometry", "geometry"):
        point = mapping(item, key).get("coordinates")
        if isinstance(point, list) and len(point) >= 2 and is_position(number(point[1]), number(point[0])):
            lon, lat = number(point[0]), number(point[1])
            break
    else:
        return None
    if not name or not isinstance(href, str) or not is_url(href):
        return None
    angles = [number(item.get(key)) for key in ("computed_compass_angle", "compass_angle")]
    heading = next((angle % 360.0 for angle in angles if 0 <= angle <= 360), math.nan)
    author = text(mapping(item, "creator").get("username"))
    return Shot(
        name, lat, lon, month_of(number(item.get("captured_at"))), heading,
        item.get("is_pano") is True or item.get("camera_type") in SPHERICAL, LICENCE,
        f"Mapillary, {author}" if author else "Mapillary", href, sequence=text(item.get("sequence")),
    )  # fmt: skip


def month_of(milliseconds: float) -> str:
    """The month of an instant in milliseconds since 1970 (UTC); empty where it makes no sense.

    >>> month_of(1620036900000.0), month_of(math.nan), month_of(-1.0)
    ('2021-05', '', '')
    """
    if not 0 < milliseconds < 4e12:
        return ""
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).strftime("%Y-%m")
