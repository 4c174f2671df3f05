"""The HTTP service: the API below /api, and the page."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Annotated, Any, Literal, Protocol

import anyio
import anyio.to_thread
import numpy as np
from fastapi import Body, FastAPI, Path, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.types import ASGIApp

from streetrecall import __version__
from streetrecall.pictures.formats import MAX_PIXELS_WHOLE
from streetrecall.serve import assets, problems, uploads
from streetrecall.serve.assets import FRESH, LASTING, Asset
from streetrecall.serve.guard import COOKIE, Access, Guard, Limits
from streetrecall.serve.problems import ProblemError
from streetrecall.serve.tiles import Points

PICTURE = r"^(crops|views|photos|gallery)-(0|[1-9][0-9]{0,11})$"
DESCRIPTION = (
    "Answers where a photo was taken, and shows the results of the evaluation. Errors are problem details (RFC 9457)."
)


class Locator(Protocol):
    """What answers photos."""

    def about(self) -> dict[str, Any]:
        """What a person should know of it, as `GET /api/about` gives it in `bundle`."""

    def places(self) -> tuple[NDArray, NDArray, NDArray]:
        """Numbers, latitudes and longitudes of the places that can be the answer."""

    def locate(self, uploads: list[uploads.Upload]) -> dict[str, Any]:
        """The answer to photos of one spot, as `POST /api/locate` gives it."""

    def picture(self, row: int, small: bool) -> tuple[bytes, str, str] | None:
        """A picture of the gallery: its bytes, media type and tag; None if there is none that may be shown."""


class Explorer(Protocol):
    """What shows a project's results; see `streetrecall.serve.explore`."""

    def about(self) -> dict[str, Any]:
        """What there is, as `GET /api/about` gives it."""

    def has_results(self) -> bool:
        """Whether the evaluation has run."""

    def city(self) -> dict[str, Any]:
        """The city's polygon, as GeoJSON."""

    def points(self) -> Points:
        """The places with pictures."""

    def picture(self, name: str, small: bool) -> tuple[bytes, str, str]:
        """A picture by its id: its bytes, media type and tag."""

    def add_routes(self, api: FastAPI) -> None:
        """Add the addresses of the results."""


class Health(BaseModel):
    status: Literal["ok"]
    version: str
    locate: bool
    results: bool


class Token(BaseModel):
    token: Annotated[str, Body(max_length=500)]


def create(explorer: Explorer | None, locator: Locator | None, access: Access, limits: Limits) -> ASGIApp:
    """The service of a project's results and a bundle, either of which may be missing."""
    api = FastAPI(title="streetrecall", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    problems.install(api)
    _page(api)
    _service(api, explorer, locator, access, limits)
    _map(api, explorer, locator)
    if explorer is not None:
        explorer.add_routes(api)
    _locate(api, locator, limits)
    return Guard(api, access, limits)


def _page(api: FastAPI) -> None:
    files = assets.load()

    @api.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        return files["index.html"].answer(request, FRESH)

    @api.get("/favicon.ico", include_in_schema=False)
    def icon(request: Request) -> Response:
        return files["icon.svg"].answer(request, FRESH)

    @api.get("/static/{name:path}", include_in_schema=False)
    def static(request: Request, name: str) -> Response:
        if name not in files:
            raise ProblemError(HTTPStatus.NOT_FOUND, "There is no such file.")
        return files[name].answer(request, FRESH)


def _service(api: FastAPI, explorer: Explorer | None, locator: Locator | None, access: Access, limits: Limits) -> None:
    @api.get("/healthz", tags=["service"])
    def healthz() -> Health:
        """Whether the service answers, and what it can answer."""
        there = explorer is not None and explorer.has_results()
        return Health(status="ok", version=__version__, locate=locator is not None, results=there)

    @api.post("/api/session", tags=["service"], status_code=204, response_class=Response)
    def session(request: Request, given: Token) -> Response:
        """Exchange the token for a cookie, with which pages show pictures."""
        if access.token is not None:
            if not access.knows(given.token):
                raise ProblemError(HTTPStatus.UNAUTHORIZED, "That is not the token of this service.")
            response = Response(status_code=204)
            secure = request.headers.get("x-forwarded-proto") == "https"
            response.set_cookie(COOKIE, access.session(), httponly=True, samesite="strict", secure=secure)
            return response
        return Response(status_code=204)

    @api.get("/api/about", tags=["service"])
    def about(request: Request) -> dict[str, Any]:
        """What there is: the city, the evaluated protocols, the bundle, the limits of uploads."""
        bundle = locator.about() if locator is not None else None
        content: dict[str, Any] = {
            "version": __version__,
            "data": bundle["version"] if bundle else "",
            "city": None,
            "bounds": bundle["bounds"] if bundle else None,
            "places": bundle["places"] if bundle else 0,
            "evaluated": [],
            "time": False,
            "quarantine": False,
            "compare": False,
            "bundle": bundle,
            "limits": {"files": limits.files, "file_bytes": limits.file_bytes, "pixels": MAX_PIXELS_WHOLE},
        }
        return content | (explorer.about() if explorer is not None else {})


def _map(api: FastAPI, explorer: Explorer | None, locator: Locator | None) -> None:
    of_bundle: list[Points] = []

    def points() -> Points:
        """The project's places, or the bundle's where there is no project."""
        if explorer is not None:
            return explorer.points()
        if not of_bundle:
            numbers, lat, lon = locator.places() if locator is not None else (np.zeros(0, np.int64), *np.zeros((2, 0)))
            of_bundle.append(Points(numbers, lat, lon, ["gallery"] * len(numbers)))
        return of_bundle[0]

    @api.get("/api/city", tags=["map"])
    def city() -> dict[str, Any]:
        """The city's polygon, as GeoJSON; without features where it is not known."""
        return explorer.city() if explorer is not None else {"type": "FeatureCollection", "features": []}

    @api.get(
        "/api/tiles/{zoom}/{column}/{row}",
        tags=["map"],
        response_class=Response,
        responses={200: {"content": {"application/vnd.mapbox-vector-tile": {}}}},
    )
    def tile(
        request: Request,
        zoom: Annotated[int, Path(ge=0, le=24)],
        column: Annotated[int, Path(ge=0, lt=2**24)],
        row: Annotated[int, Path(ge=0, lt=2**24)],
    ) -> Response:
        """Places as a vector tile: points with `place` and `split`, or in crowded tiles points with a `count`."""
        content = points().tile(zoom, column, row)
        return Asset.of(content, "application/vnd.mapbox-vector-tile").answer(request, FRESH)

    @api.get(
        "/api/pictures/{name}",
        tags=["places"],
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}, "image/png": {}, "image/webp": {}}}},
    )
    def picture(
        request: Request,
        name: Annotated[str, Path(pattern=PICTURE)],
        size: Literal["small", "full"] = "full",
        v: Annotated[str | None, Query(pattern=r"^[0-9a-f]{1,64}$", description="Version, for lasting caches.")] = None,
    ) -> Response:
        """A picture, or its thumbnail."""
        if name.startswith("gallery-"):
            row = int(name.removeprefix("gallery-"))
            kept = locator.picture(row, size == "small") if locator is not None else None
            if kept is None:
                raise ProblemError(HTTPStatus.NOT_FOUND, "There is no such picture in the bundle.")
            data, media_type, tag = kept
        else:
            if explorer is None:
                raise ProblemError(HTTPStatus.NOT_FOUND, "This service shows no results, so there is no such picture.")
            data, media_type, tag = explorer.picture(name, size == "small")
        headers = {"etag": f'"{tag}"', "cache-control": LASTING if v else FRESH}
        if assets.unchanged(request, tag):
            return Response(None, 304, headers)
        return Response(data, 200, headers, media_type)


def _locate(api: FastAPI, locator: Locator | None, limits: Limits) -> None:
    answering: list[anyio.CapacityLimiter] = []

    async def locate(request: Request) -> dict[str, Any]:
        """Where a photo was taken. Several photos are taken to be of one spot and are asked together."""
        if locator is None:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "There is no bundle to answer with: dvc repro bundle, or --bundle FOLDER.",
            )
        files = await uploads.receive(request, limits)
        if not answering:
            answering.append(anyio.CapacityLimiter(1))  # it uses all cores

        def work() -> dict[str, Any]:
            began = time.perf_counter()
            answer = locator.locate([uploads.Upload(uploads.shown(f.filename), f.file.read()) for f in files])
            return answer | {"milliseconds": round(1000 * (time.perf_counter() - began))}

        try:
            return await anyio.to_thread.run_sync(work, limiter=answering[0])
        finally:
            await asyncio.gather(*(f.close() for f in files))

    photos = {"type": "array", "minItems": 1, "maxItems": limits.files, "items": {"type": "string", "format": "binary"}}
    api.add_api_route(
        "/api/locate",
        locate,
        methods=["POST"],
        tags=["locate"],
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": {"type": "object", "required": ["photos"], "properties": {"photos": photos}}
                    }
                },
            }
        },
    )
