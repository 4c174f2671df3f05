"""Errors of the service as problem details (RFC 9457), and how they are described in OpenAPI."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from streetrecall.errors import UserError

MEDIA_TYPE = "application/problem+json"
LOG = logging.getLogger(__name__)

SCHEMA = {
    "type": "object",
    "title": "Problem",
    "description": "Problem details as in RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "file": {"type": "string", "description": "The uploaded file that is meant, by the name that the client gave."},
    },
}


class ProblemError(HTTPException):
    """A request that cannot be answered: the status, what was wrong and what to do.

    FastAPI lets HTTPExceptions through where it reads a body, and no others.
    """

    def __init__(
        self, status: int, detail: str, headers: dict[str, str] | None = None, file: str | None = None
    ) -> None:
        super().__init__(status, detail, headers or {})
        self.file = file


def problem(status: int, detail: str, headers: dict[str, str] | None = None, file: str | None = None) -> Response:
    """The answer to a request that failed."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if file is not None:
        content["file"] = file
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status, {"cache-control": "no-store", **(headers or {})}, MEDIA_TYPE)


def install(api: FastAPI) -> None:
    """Let every error of ``api`` become a problem, and describe them in its OpenAPI document."""
    api.add_exception_handler(ProblemError, _known)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(UserError, _input)
    api.add_exception_handler(Exception, _fault)

    plain = api.openapi

    def described() -> dict[str, Any]:
        document = api.openapi_schema
        if document is None:
            document = plain()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas["Problem"] = SCHEMA
            answer = {
                "description": "What was wrong and what to do.",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
            for operations in document["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
                    operation["responses"]["default"] = answer
        return document

    api.openapi = described  # type: ignore[method-assign]


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem(error.status_code, error.detail, dict(error.headers or {}), error.file)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {first['msg']}")


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this address; /openapi.json lists the addresses that there are."
    return problem(error.status_code, detail, dict(error.headers or {}))


async def _input(request: Request, error: Exception) -> Response:
    return problem(HTTPStatus.CONFLICT, str(error))


async def _fault(request: Request, error: Exception) -> Response:
    LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed; its log says why.")
