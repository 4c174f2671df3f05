"""Panoramax's STAC contract over the simulated city. A collection is one drive along one street."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from streetrecall.simulator.city.plan import City
from streetrecall.simulator.render.develop import jpeg
from streetrecall.simulator.render.renderer import renderer
from streetrecall.simulator.service.catalogue import LICENCE_LINK, SIZES, Catalogue
from streetrecall.simulator.service.search import BadRequestError, limit_of, parse

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


class _GeoJson(JSONResponse):
    media_type = "application/geo+json"


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/") + "/api"


def refuse(request: Request, error: Exception) -> Response:
    """The answer to a request that cannot be served."""
    assert isinstance(error, BadRequestError)
    return JSONResponse({"message": error.message, "status_code": error.status}, error.status)


def router(city: City) -> APIRouter:
    """The contract's paths below ``/api``."""
    routes = APIRouter(prefix="/api")
    catalogue = Catalogue(city)

    def members(name: str) -> list[int]:
        if name not in catalogue.collections:
            raise BadRequestError("Collection doesn't exist", status=404)
        return catalogue.collections[name]

    def answer(request: Request, values: dict[str, Any]) -> Response:
        query = parse(values)
        found = catalogue.search(query)
        features = [catalogue.item(i, _base(request), related=query.ids is not None) for i in found]
        return _GeoJson({"features": features, "links": [], "type": "FeatureCollection"})

    @routes.get("")
    @routes.get("/")
    def landing(request: Request) -> Response:
        return JSONResponse(_landing(catalogue, _base(request), f"{request.base_url}openapi.json"))

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
        except ValueError as error:
            raise BadRequestError("The body is not JSON") from error
        if not isinstance(values, dict):
            raise BadRequestError("The body is not a JSON object")
        return answer(request, values)

    @routes.get("/collections")
    def collections(request: Request, limit: int = 100, page: int = 1) -> Response:
        base, names = _base(request), list(catalogue.collections)
        limit, page = max(1, min(limit, 1000)), max(1, page)
        links = _page_links(base, f"{base}/", f"{base}/collections", "application/json")
        if page * limit < len(names):
            href = f"{base}/collections?limit={limit}&page={page + 1}"
            links.append({"href": href, "rel": "next", "type": "application/json"})
        shown = names[(page - 1) * limit : page * limit]
        return JSONResponse({"collections": [catalogue.collection(n, base) for n in shown], "links": links})

    @routes.get("/collections/{name}")
    def collection(request: Request, name: str) -> Response:
        members(name)
        return JSONResponse(catalogue.collection(name, _base(request)))

    @routes.get("/collections/{name}/items")
    def items(request: Request, name: str, limit: int = 1000, startAfterRank: int = 0) -> Response:
        rows, limit, base = members(name), limit_of(limit), _base(request)
        url, after = f"{base}/collections/{name}/items", startAfterRank + limit
        links = _page_links(base, f"{base}/collections/{name}", url, "application/geo+json")
        if after < len(rows):
            href = f"{url}?limit={limit}&startAfterRank={after}"
            links.append({"href": href, "rel": "next", "type": "application/geo+json"})
        features = [catalogue.item(i, base) for i in rows[startAfterRank:after]]
        return _GeoJson({"features": features, "links": links, "type": "FeatureCollection"})

    @routes.get("/collections/{name}/items/{item}")
    def one_item(request: Request, name: str, item: str) -> Response:
        i = catalogue.index.get(item)
        if i is None or catalogue.collection_of[i] != name:
            raise BadRequestError("Item doesn't exist", status=404)
        return _GeoJson(catalogue.item(i, _base(request), related=True))

    @routes.get("/pictures/{item}/{size}.jpg")
    def picture(item: str, size: str) -> Response:
        i = catalogue.index.get(item)
        if i is None or size not in SIZES:
            raise BadRequestError("Picture doesn't exist", status=404)
        return Response(jpeg(renderer(city).panorama(city.panos[i], SIZES[size])), media_type="image/jpeg")

    return routes


def _page_links(base: str, parent: str, url: str, kind: str) -> list[dict[str, str]]:
    return [
        {"href": f"{base}/", "rel": "root", "title": "Instance catalog", "type": "application/json"},
        {"href": parent, "rel": "parent", "type": "application/json"},
        {"href": url, "rel": "self", "type": kind},
    ]


def _landing(catalogue: Catalogue, base: str, openapi: str) -> dict[str, Any]:
    return {
        "conformsTo": _CONFORMANCE,
        "description": "A simulated city, for trials: nothing here is real",
        "extent": catalogue.extent(),
        "id": "streetrecall-simulator",
        "links": [
            {"href": f"{base}/", "rel": "self", "type": "application/json"},
            {"href": f"{base}/", "rel": "root", "title": "Instance catalog", "type": "application/json"},
            {"href": openapi, "rel": "service-desc", "type": "application/json"},
            {"href": f"{base}/conformance", "rel": "conformance", "type": "application/json"},
            {"href": f"{base}/collections", "rel": "data", "type": "application/json"},
            {"href": f"{base}/search", "rel": "search", "type": "application/geo+json", "method": "GET"},
            {"href": f"{base}/search", "rel": "search", "type": "application/geo+json", "method": "POST"},
            {"href": f"{base}/pictures/{{id}}/thumb.jpg", "rel": "item-preview",
             "title": "Thumbnail URL for a given picture", "type": "image/jpeg"},
            LICENCE_LINK,
        ],
        "stac_extensions": [],
        "stac_version": "1.0.0",
        "title": "streetrecall simulated city",
        "type": "Catalog",
    }  # fmt: skip
