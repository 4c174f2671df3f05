"""The HTTP service: the API below /api, and the page."""

from __future__ import annotations

import asyncio
import time
from enum import IntEnum
from http import HTTPStatus
from typing import Annotated, Any, Literal, Protocol

import anyio
import anyio.to_thread
from fastapi import Body, FastAPI, Path, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.types import ASGIApp

from streetrecall import __version__
from streetrecall.pictures.photo import MAX_PIXELS_WHOLE
from streetrecall.serve import assets, problems, results, uploads
from streetrecall.serve.assets import Asset
from streetrecall.serve.changes import REVISION, Revisions
from streetrecall.serve.guard import COOKIE, Access, Guard, Limits
from streetrecall.serve.pictures import PATTERN, Pictures
from streetrecall.serve.problems import ProblemError
from streetrecall.serve.project import Project
from streetrecall.serve.tiles import Points

FRESH = "private, no-cache"  # kept by the client, and asked for again each time
LASTING = "private, max-age=31536000, immutable"
NAME = r"^[A-Za-z0-9_]{1,60}$"
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


class K(IntEnum):
    ONE, FIVE, TEN, TWENTY = 1, 5, 10, 20


class Within(IntEnum):
    M25, M50, M100 = 25, 50, 100


class Health(BaseModel):
    status: Literal["ok"]
    version: str
    locate: bool
    results: bool


class Token(BaseModel):
    token: Annotated[str, Body(max_length=500)]


def create(
    project: Project, locator: Locator | None, access: Access, limits: Limits, shared_only: bool = False
) -> ASGIApp:
    """The service of a project's results and a bundle, either of which may be missing."""
    api = FastAPI(title="streetrecall", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    problems.install(api)
    _page(api)
    _service(api, project, locator, access, limits)
    _results(api, project, locator, Pictures(project, shared_only))
    _changes(api, project)
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


def _service(api: FastAPI, project: Project, locator: Locator | None, access: Access, limits: Limits) -> None:
    @api.get("/healthz", tags=["service"])
    def healthz() -> Health:
        """Whether the service answers, and what it can answer."""
        there = project.has("queries") or project.has("photo_answers")
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
        content: dict[str, Any] = {
            "version": __version__,
            "data": project.version(),
            "city": None,
            "bounds": None,
            "places": 0,
            "evaluated": results.choices(project),
            "quarantine": project.has("images"),
            "compare": project.has("queries"),
            "bundle": locator.about() if locator is not None else None,
            "limits": {"files": limits.files, "file_bytes": limits.file_bytes, "pixels": MAX_PIXELS_WHOLE},
        }
        outline = project.outline()
        if outline is not None:
            content["city"] = outline.stem
        if project.has("images") or project.has("views"):
            places = project.places()
            content["places"] = len(places)
            if len(places):
                content["bounds"] = [
                    round(float(v), 6)
                    for v in (places["lon"].min(), places["lat"].min(), places["lon"].max(), places["lat"].max())
                ]
        elif locator is not None:
            content |= {k: v for k, v in locator.about().items() if k in ("bounds", "places")}
        return content


def _results(api: FastAPI, project: Project, locator: Locator | None, pictures: Pictures) -> None:
    of_bundle: list[Points] = []

    def points() -> Points:
        """The project's places, or the bundle's where there is no project."""
        if project.has("images") or project.has("views") or locator is None:
            return project.points()
        if not of_bundle:
            numbers, lat, lon = locator.places()
            of_bundle.append(Points(numbers, lat, lon, ["gallery"] * len(numbers)))
        return of_bundle[0]

    @api.get("/api/city", tags=["map"])
    def city(request: Request) -> dict[str, Any]:
        """The city's polygon, as GeoJSON; without features where it is not known."""
        return project.city()

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

    @api.get("/api/places", tags=["places"])
    def places(
        request: Request,
        west: Annotated[float, Query(ge=-180, le=180)] = -180,
        south: Annotated[float, Query(ge=-90, le=90)] = -90,
        east: Annotated[float, Query(ge=-180, le=180)] = 180,
        north: Annotated[float, Query(ge=-90, le=90)] = 90,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> dict[str, Any]:
        """The places of a box, with how many pictures and dates they have."""
        table = project.places()
        inside = table[table["lon"].between(west, east) & table["lat"].between(south, north)]
        rows = inside.iloc[offset : offset + limit].reset_index().round({"lat": 6, "lon": 6})
        return {"total": len(inside), "places": rows.to_dict("records")}

    @api.get("/api/places/{place}", tags=["places"])
    def place(place: Annotated[int, Path(ge=0, lt=2**53)]) -> dict[str, Any]:
        """A place's pictures by date and direction."""
        found = results.place(project, place)
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"There is no place {place}.")
        return found

    @api.get("/api/queries", tags=["results"], response_class=Response, responses={200: _JSON})
    def queries(
        request: Request,
        scope: Annotated[str, Query(pattern=NAME)],
        protocol: Annotated[str, Query(pattern=NAME)],
        system: Literal["model", "baseline"] = "model",
    ) -> Response:
        """The queries of a protocol and what became of them, column by column."""
        content = results.queries(project, system, scope, protocol)
        if content is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"There is no evaluation of {system}, {scope}, {protocol}.")
        return Asset.json(content).answer(request, FRESH)

    @api.get("/api/queries/{number}", tags=["results"])
    def query(
        number: Annotated[int, Path(ge=0, lt=2**53)],
        scope: Annotated[str, Query(pattern=NAME)],
        protocol: Annotated[str, Query(pattern=NAME)],
        system: Literal["model", "baseline"] = "model",
    ) -> dict[str, Any]:
        """A query with its pictures, its answers and its predicted position."""
        found = results.query(project, system, scope, protocol, number)
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"There is no query {number} of {system}, {scope}, {protocol}.")
        return found

    @api.get("/api/quarantine", tags=["results"])
    def quarantine(
        reason: Annotated[str | None, Query(pattern=r"^[a-z_ ]{1,60}$")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 60,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> dict[str, Any]:
        """What was kept out of training and evaluation, and why."""
        table = results.quarantined(project)
        counts = {str(name): int(count) for name, count in table["reason"].value_counts().items()}
        rows = table if reason is None else table[table["reason"] == reason]
        part = rows.iloc[offset : offset + limit]
        return {
            "total": len(rows),
            "reasons": counts,
            "pictures": [
                {
                    "reason": row["reason"],
                    "detail": row["detail"],
                    "place": int(row["place"]),
                    "split": row["split"],
                    "picture": results.picture(row["name"], row),
                }
                for row in part.to_dict("records")
            ],
        }

    @api.get(
        "/api/pictures/{name}",
        tags=["places"],
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}, "image/png": {}, "image/webp": {}}}},
    )
    def picture(
        request: Request,
        name: Annotated[str, Path(pattern=rf"{PATTERN[:-1]}$|^gallery-(0|[1-9][0-9]{{0,11}})$")],
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
            found = pictures.find(name, size == "small")
            data, media_type, tag = found.data, found.media_type, found.tag
        headers = {"etag": f'"{tag}"', "cache-control": LASTING if v else FRESH}
        if assets.unchanged(request, tag):
            return Response(None, 304, headers)
        return Response(data, 200, headers, media_type)


def _changes(api: FastAPI, project: Project) -> None:
    revisions = Revisions(project)

    @api.get("/api/revisions", tags=["compare"])
    def known() -> dict[str, Any]:
        """The revisions whose results can be compared."""
        return {"revisions": revisions.known()}

    @api.get("/api/compare", tags=["compare"], response_class=Response, responses={200: _JSON})
    def compare(
        request: Request,
        protocol: Annotated[str, Query(pattern=NAME)],
        scope: Annotated[str, Query(pattern=NAME)] = "test",
        first: Annotated[str, Query(pattern=REVISION)] = "HEAD",
        second: Annotated[str, Query(pattern=REVISION)] = "workspace",
        system: Literal["model", "baseline"] = "model",
        k: K = K.ONE,
        within_m: Within = Within.M25,
    ) -> Response:
        """The queries that a revision gained and lost, and whether it is better: a paired bootstrap over places."""
        content = revisions.compare(first, second, system, scope, protocol, int(k), int(within_m))
        return Asset.json(content).answer(request, FRESH)


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


_JSON: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "Found."}
