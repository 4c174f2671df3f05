"""Google's Street View contract over the simulated city: metadata, static images, and the part of the Maps JavaScript
API that shows panoramas; with keys, signatures and statuses."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from streetrecall.simulator.city.panoramas import Pano
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.render.develop import grey, jpeg
from streetrecall.simulator.render.renderer import renderer

COPYRIGHT = "© streetrecall simulated city"
# The example secret of Google's documentation, the only one that this service knows.
SECRET = "vNIXE0xscrmjlyV-12Nj_BvUPaw="
MAX_SIDE = 640
_KEY = re.compile(r"AIza[A-Za-z0-9_-]*\Z")


def signature(path_and_query: str, secret: str = SECRET) -> str:
    """The signature of a URL: HMAC-SHA1 with a secret in URL-safe base64.

    >>> signature("/maps/api/geocode/json?address=New+York&client=clientID")
    'chaRF2hTJKOScPr-RQCEhZbSzIE='
    """
    digest = hmac.new(base64.urlsafe_b64decode(secret), path_and_query.encode(), hashlib.sha1).digest()
    return base64.urlsafe_b64encode(digest).decode()


class _Json(JSONResponse):
    media_type = "application/json; charset=UTF-8"


def _refusal(request: Request) -> str | None:
    """Why a request is denied, or None: no key, a malformed key, or a wrong signature."""
    key = request.query_params.get("key")
    client = request.query_params.get("client")
    if not key and not client:
        return (
            "You must use an API key to authenticate each request to this API. "
            "The simulator accepts any key that begins with AIza."
        )
    if key and not _KEY.match(key):
        return "The provided API key is invalid."
    signed = request.query_params.get("signature")
    if client and not signed:
        return "A client ID needs a signature."
    if signed is not None:
        query = request.scope["query_string"].decode("latin-1")
        bare = "&".join(part for part in query.split("&") if not part.startswith("signature="))
        try:
            fits = hmac.compare_digest(signature(f"{request.url.path}?{bare}"), signed)
        except (binascii.Error, ValueError, TypeError):
            fits = False
        if not fits:
            return "The provided signature is invalid."
    return None


def _number(text: str | None, default: float, low: float, high: float) -> float | None:
    """A number from a query, ``default`` where it is not given; None where it is no number or out of range."""
    if text is None or text == "":
        return default
    try:
        value = float(text)
    except ValueError:
        return None
    return value if low <= value <= high else None


def _location(text: str) -> tuple[float, float] | None:
    """Latitude and longitude, degrees; None for any other text (an address, for example)."""
    match = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*", text)
    if not match:
        return None
    lat, lon = float(match[1]), float(match[2])
    return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None


def find(city: City, request: Request) -> tuple[str, str, Pano | None]:
    """Status, error message and panorama for a request's ``pano``, or its ``location`` and ``radius``."""
    q = request.query_params
    if q.get("pano"):
        pano = city.pano(q["pano"])
        return ("OK" if pano else "ZERO_RESULTS"), "", pano
    if not q.get("location"):
        return "INVALID_REQUEST", "Invalid request. Missing the 'location' or 'pano' parameter.", None
    radius = _number(q.get("radius"), 50.0, 0.0, 1e7)
    if radius is None:
        return "INVALID_REQUEST", "Invalid request. Invalid 'radius' parameter.", None
    if q.get("source", "default") not in ("default", "outdoor"):
        return "INVALID_REQUEST", "Invalid request. Invalid 'source' parameter.", None
    where = _location(q["location"])
    if where is None:
        return "NOT_FOUND", "", None
    pano = city.nearest(*where, radius)
    return ("OK" if pano else "ZERO_RESULTS"), "", pano


def router(city: City) -> APIRouter:
    """The contract's paths below ``/maps/api``."""
    routes = APIRouter(prefix="/maps/api")

    @routes.get("/streetview/metadata")
    def metadata(request: Request) -> Response:
        return _metadata(city, request)

    @routes.get("/streetview")
    def static(request: Request) -> Response:
        return _static_image(city, request)

    @routes.get("/js")
    def script(request: Request) -> Response:
        """The API's script. As with Google's, the page learns of a refused key; the status does not show it."""
        denial = None
        if _refusal(request):
            denial = "InvalidKeyMapError" if request.query_params.get("key") else "MissingKeyMapError"
        code = (Path(__file__).parent / "maps.js").read_text(encoding="utf-8")
        return Response(f"{code}({json.dumps(denial)});\n", media_type="text/javascript")

    @routes.get("/js/GeoPhotoService.GetMetadata")
    def panorama(request: Request) -> Response:
        return _panorama(city, request)

    return routes


def _metadata(city: City, request: Request) -> Response:
    refusal = _refusal(request)
    if refusal:
        return _Json({"error_message": refusal, "status": "REQUEST_DENIED"})
    status, message, pano = find(city, request)
    if pano is None:
        return _Json({**({"error_message": message} if message else {}), "status": status})
    lat, lon = city.position(pano)
    answer: dict[str, Any] = {"copyright": COPYRIGHT}
    if pano.dated:
        answer["date"] = pano.date
    return _Json({**answer, "location": {"lat": lat, "lng": lon}, "pano_id": pano.pano_id, "status": "OK"})


def _static_image(city: City, request: Request) -> Response:
    q = request.query_params
    refusal = _refusal(request)
    if refusal:
        return Response(refusal, 403, media_type="text/plain")
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", q.get("size", ""))
    if not match:
        return Response("The Google Maps Platform: missing or invalid 'size'.", 400, media_type="text/plain")
    width, height = (max(16, min(MAX_SIDE, int(v))) for v in match.groups())
    heading = _number(q.get("heading"), float("nan"), -360.0, 360.0)
    fov, pitch = _number(q.get("fov"), 90.0, 1.0, 1e4), _number(q.get("pitch"), 0.0, -90.0, 90.0)
    if heading is None or fov is None or pitch is None:
        return Response("Invalid 'heading', 'fov' or 'pitch'.", 400, media_type="text/plain")
    status, _, pano = find(city, request)
    if pano is None:
        strict = q.get("return_error_code", "false").lower() == "true"
        code = (400 if status == "INVALID_REQUEST" else 404) if strict else 200
        return Response(jpeg(grey(width, height)), code, media_type="image/jpeg")
    if math.isnan(heading):  # not given
        heading = pano.heading
    picture = renderer(city).view(pano, heading, width, height, min(fov, 120.0), pitch, 0.5)
    return Response(jpeg(picture), media_type="image/jpeg")


def _panorama(city: City, request: Request) -> Response:
    """What the script requests when a page calls ``StreetViewService.getPanorama``."""
    status, _, pano = ("REQUEST_DENIED", "", None) if _refusal(request) else find(city, request)
    headers = {"access-control-allow-origin": "*"}
    if pano is None:
        return _Json({"status": status}, headers=headers)
    lat, lon = city.position(pano)
    links = [
        {"pano": other.pano_id, "heading": math.degrees(math.atan2(other.x - pano.x, other.y - pano.y)) % 360}
        for other in city.neighbours(pano)
    ]
    answer = {
        "copyright": COPYRIGHT, "links": links, "location": {"pano": pano.pano_id, "lat": lat, "lng": lon},
        "status": "OK", "time": [{"pano": p.pano_id, "date": p.date} for p in reversed(city.dates(pano))],
    }  # fmt: skip
    if pano.dated:
        answer["imageDate"] = pano.date
    return _Json(answer, headers=headers)
