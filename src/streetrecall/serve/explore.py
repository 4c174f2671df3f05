"""The API of a project's results: places, queries, quarantine, and what another revision changes."""

from __future__ import annotations

from enum import IntEnum
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response

from streetrecall.review.compare import Asked
from streetrecall.serve import results
from streetrecall.serve.assets import FRESH, Asset
from streetrecall.serve.changes import REVISION, Revisions
from streetrecall.serve.pictures import Pictures
from streetrecall.serve.problems import ProblemError
from streetrecall.serve.project import Project
from streetrecall.serve.tiles import Points
from streetrecall.tables import KS, RADII_M, RIGHT_M

NAME = r"^[A-Za-z0-9_]{1,60}$"
SYSTEM = r"^[A-Za-z0-9_-]{1,60}$"  # networks of others have names of their own
_JSON: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "Found."}


class K(IntEnum):
    ONE, FIVE, TEN, TWENTY = KS


class Within(IntEnum):
    NARROW, MIDDLE, WIDE = RADII_M


class Explorer:
    """Shows what the pipeline wrote. ``shared_only``: no pictures whose licence does not let others see them."""

    def __init__(self, project: Project, shared_only: bool = False) -> None:
        self.project = project
        self.pictures = Pictures(project, shared_only)

    def has_results(self) -> bool:
        return self.project.has("queries") or self.project.has("photo_answers")

    def about(self) -> dict[str, Any]:
        project = self.project
        outline = project.outline()
        content: dict[str, Any] = {
            "data": project.version(),
            "right_m": RIGHT_M,
            "city": outline.stem if outline is not None else None,
            "evaluated": results.choices(project),
            "time": project.has("images") or project.has("views"),
            "quarantine": project.has("images"),
            "compare": project.has("queries"),
        }
        if content["time"]:
            places = project.places()
            content["places"] = len(places)
            if len(places):
                sides = (places["lon"].min(), places["lat"].min(), places["lon"].max(), places["lat"].max())
                content["bounds"] = [round(float(side), 6) for side in sides]
        return content

    def city(self) -> dict[str, Any]:
        return self.project.city()

    def points(self) -> Points:
        return self.project.points()

    def picture(self, name: str, small: bool) -> tuple[bytes, str, str]:
        found = self.pictures.find(name, small)
        return found.data, found.media_type, found.tag

    def add_routes(self, api: FastAPI) -> None:
        _results(api, self.project)
        _changes(api, self.project)


def _results(api: FastAPI, project: Project) -> None:
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
        system: Annotated[str, Query(pattern=SYSTEM)] = "model",
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
        system: Annotated[str, Query(pattern=SYSTEM)] = "model",
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
        system: Annotated[str, Query(pattern=SYSTEM)] = "model",
        k: K = K.ONE,
        within_m: Within = Within.NARROW,
    ) -> Response:
        """The queries that a revision gained and lost, and whether it is better: a paired bootstrap over places."""
        content = revisions.compare(first, second, Asked(system, scope, protocol, f"rank_{within_m:d}m", int(k)))
        return Asset.json(content).answer(request, FRESH)
