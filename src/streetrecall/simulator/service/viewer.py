"""The viewer page and what it requests: views, dates of a place, and where one can go from there."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from streetrecall.simulator.city.chance import Stream, generator
from streetrecall.simulator.city.panoramas import Pano
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.render.develop import jpeg
from streetrecall.simulator.render.renderer import FOV, HEIGHT, MAX_FOV, MAX_PITCH, WIDTH, renderer
from streetrecall.simulator.service.google import COPYRIGHT

MAX_SIDE = 4096  # of a view, pixels
SPHERE_WIDTH = 2048  # of an equirectangular picture, pixels, unless the request gives another
KEPT_VIEWS = 192

_HERE = Path(__file__).parent
_NAMES = (
    "Lind", "Ek", "Björk", "Sten", "Sjö", "Berg", "Klock", "Kvarn", "Skepps", "Tull", "Alm", "Ask", "Rosen", "Humle",
    "Hjort", "Svan", "Falk", "Korn",
)  # fmt: skip
_ENDINGS = {"gatan": 0.6, "gränd": 0.1, "vägen": 0.14, "backen": 0.06, "stigen": 0.05, "torget": 0.05}


@lru_cache(maxsize=8)
def _page(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def street_name(seed: int, line: int) -> str:
    """A made-up name for a street line.

    >>> street_name(1, 2) == street_name(1, 2)
    True
    """
    rng = generator(seed, Stream.STREET_NAME, line)
    name = _NAMES[int(rng.integers(0, len(_NAMES)))]
    return name + list(_ENDINGS)[int(rng.choice(len(_ENDINGS), p=list(_ENDINGS.values())))]


def describe(city: City, pano: Pano) -> dict[str, Any]:
    """What the page shows of a panorama: its position, the dates of its place (newest first), its neighbours."""
    lat, lon = city.position(pano)
    street = city.streets[pano.street]
    links = []
    for other in city.neighbours(pano):
        bearing = math.degrees(math.atan2(other.x - pano.x, other.y - pano.y)) % 360
        links.append({"pano": other.pano_id, "heading": round(bearing, 1)})
    return {
        "pano": pano.pano_id,
        "lat": lat,
        "lng": lon,
        "date": pano.date,
        "heading": pano.heading,
        "bearing": round(street.bearing, 1),
        "street": street_name(city.seed, street.line),
        "copyright": COPYRIGHT,
        "dates": [{"pano": p.pano_id, "date": p.date} for p in city.dates(pano)],
        "links": links,
    }


def _bounded(text: str | None, default: float, low: float, high: float) -> float:
    value = default if text is None else float(text)
    if not low <= value <= high:
        raise ValueError(f"{value} is not within {low} to {high}")
    return value


def router(city: City) -> APIRouter:
    """The page, its script and style, and the paths that it requests."""
    routes = APIRouter()

    @lru_cache(maxsize=KEPT_VIEWS)
    def draw(pano: Pano, heading: float, width: int, height: int, fov: float, pitch: float) -> bytes:
        return jpeg(renderer(city).view(pano, heading, width, height, fov, pitch))

    @routes.get("/")
    def root() -> Response:
        return RedirectResponse("/viewer")

    @routes.get("/viewer")
    def page() -> Response:
        return HTMLResponse(_page("viewer.html"))

    @routes.get("/viewer.js")
    def script() -> Response:
        return Response(_page("viewer.js"), media_type="text/javascript")

    @routes.get("/viewer.css")
    def style() -> Response:
        return Response(_page("viewer.css"), media_type="text/css")

    @routes.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @routes.get("/viewer/panos")
    def panos(pano: str = "") -> Response:
        if not pano:  # begin at the spot with the most dates, of several the one nearest to the middle
            ids = min(city.spot_panos, key=lambda s: (-len(s), math.hypot(city.panos[s[0]].x, city.panos[s[0]].y)))
            return JSONResponse(describe(city, city.panos[ids[0]]))
        found = city.pano(pano)
        if found is None:
            return JSONResponse({"status": "ZERO_RESULTS", "message": f"there is no panorama {pano}"}, 404)
        return JSONResponse(describe(city, found))

    @routes.get("/tiles/view")
    def tile(request: Request) -> Response:
        q = request.query_params
        pano = city.pano(q.get("pano", ""))
        if pano is None:
            return JSONResponse({"status": "ZERO_RESULTS", "message": "there is no such panorama"}, 404)
        try:
            heading = _bounded(q.get("heading"), pano.heading, -1e6, 1e6) % 360.0
            width = int(_bounded(q.get("w"), WIDTH, 16, MAX_SIDE))
            height = int(_bounded(q.get("h"), HEIGHT, 16, MAX_SIDE))
            fov = _bounded(q.get("fov"), FOV, 5, MAX_FOV)
            pitch = _bounded(q.get("pitch"), 0.0, -MAX_PITCH, MAX_PITCH)
        except ValueError as error:
            return JSONResponse({"status": "INVALID_REQUEST", "message": str(error)}, 400)
        headers = {"cache-control": "no-store", "access-control-allow-origin": "*"}
        data = draw(pano, heading, width, height, fov, pitch)
        return Response(data, media_type="image/jpeg", headers=headers)

    @routes.get("/tiles/panorama")
    def panorama(request: Request) -> Response:
        q = request.query_params
        pano = city.pano(q.get("pano", ""))
        if pano is None:
            return JSONResponse({"status": "ZERO_RESULTS", "message": "there is no such panorama"}, 404)
        try:
            width = int(_bounded(q.get("w"), SPHERE_WIDTH, 64, MAX_SIDE)) // 4 * 4
        except ValueError as error:
            return JSONResponse({"status": "INVALID_REQUEST", "message": str(error)}, 400)
        data = jpeg(renderer(city).panorama(pano, width))
        return Response(data, media_type="image/jpeg", headers={"cache-control": "no-store"})

    return routes
