"""Faults to order: what a real service does on a bad day, by request or by a seeded plan, as ASGI middleware.

By request: header ``X-Fault`` or query ``fault=KIND`` (every time), on any path. By plan (`Plan`): each item (a path
with its query, less key and fault) draws its fault from the seed and shows it ``times`` times before it comes good; a
``permanent`` share never does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streetrecall.errors import UserError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Kind = Literal[
    "429", "500", "timeout", "reset", "truncated", "malformed", "content-type", "stalled-tile", "black", "quota"
]  # fmt: skip
KINDS: tuple[str, ...] = Kind.__args__  # type: ignore[attr-defined]
PICTURES_ONLY = {"stalled-tile", "black"}
METADATA_ONLY = {"quota"}
_FAULTY_PATHS = ("/maps/api/streetview", "/maps/api/js/", "/tiles/", "/api/", "/viewer/panos")
_PICTURE_PATHS = ("/tiles/", "/api/pictures/")


class Plan(BaseModel):
    """A server-wide plan of faults."""

    model_config = ConfigDict(extra="forbid")

    probabilities: dict[Kind, Annotated[float, Field(ge=0, le=1)]] = {}  # share of items that show each kind
    seed: int = 0
    times: int = Field(default=1, ge=1)  # how often an item shows its fault before it comes good
    permanent: float = Field(default=0.0, ge=0, le=1)  # share of the faulty items that never come good
    retry_after_s: float = Field(default=1.0, ge=0)  # what a 429 asks for
    hang_s: float = Field(default=30.0, gt=0)  # how long a time-out and a stalled tile hang
    paths: list[str] = []  # only paths that begin so; empty: all of the service's data


def plan(values: dict[str, Any] | None) -> Plan:
    """Check a plan.

    Raises:
        UserError: an unknown key or kind of fault, or a value out of range.
    """
    try:
        return Plan.model_validate(values or {})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"faults: '{where}': {problem['msg']}; kinds are {', '.join(KINDS)}") from error


class Faults:
    """ASGI middleware. ``cut`` gets a client's address and cuts its connection, with a reset or in order."""

    def __init__(self, app: App, plan: Plan, cut: Callable[[tuple[str, int], bool], None], black: Callable[[], bytes]):
        self.app = app
        self.plan = plan
        self.cut = cut
        self.black = black
        self._shown: dict[str, int] = {}
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = self._kind(scope) if scope["type"] == "http" else None
        if kind is None:
            await self.app(scope, receive, send)
        else:
            await self._misbehave(kind, scope, receive, send)

    def _kind(self, scope: Scope) -> str | None:
        path = scope["path"]
        if not path.startswith(_FAULTY_PATHS):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        asked = dict(query).get("fault") or next(
            (v.decode("latin-1") for k, v in scope["headers"] if k == b"x-fault"), None
        )
        if asked:
            return asked if asked in KINDS and _applies(asked, path) else None
        if self.plan.paths and not path.startswith(tuple(self.plan.paths)):
            return None
        kept = sorted((k, v) for k, v in query if k not in ("key", "signature", "fault", "_"))
        item = f"{path}?{urlencode(kept)}"
        digest = hashlib.blake2b(f"{self.plan.seed}/{item}".encode(), digest_size=16).digest()
        dice = random.Random(digest)
        draw, forever = dice.random(), dice.random() < self.plan.permanent
        for kind, share in sorted(self.plan.probabilities.items()):
            if not _applies(kind, path):
                continue
            if draw < share:
                with self._lock:
                    self._shown[item] = self._shown.get(item, 0) + 1
                    return kind if forever or self._shown[item] <= self.plan.times else None
            draw -= share
        return None

    async def _misbehave(self, kind: str, scope: Scope, receive: Receive, send: Send) -> None:
        if kind == "429":
            after = str(max(0, round(self.plan.retry_after_s))).encode()
            await _answer(
                send, 429, b'{"message":"Too many requests","status_code":429}', extra=[(b"retry-after", after)]
            )
        elif kind == "500":
            await _answer(send, 500, b'{"message":"Internal server error","status_code":500}')
        elif kind == "quota":
            await _answer(send, 200, b'{"error_message":"You have exceeded your quota.","status":"OVER_QUERY_LIMIT"}')
        elif kind == "timeout":
            await self._hang(receive)
            self.cut(scope["client"], True)
        elif kind == "reset":
            self.cut(scope["client"], True)
        elif kind == "content-type":
            await _answer(send, 200, b"<!doctype html><title>Sign in</title><p>Sign in to the network.", b"text/html")
        elif kind == "black":
            await _answer(send, 200, self.black(), b"image/jpeg")
        else:
            await self._damage(kind, scope, receive, send)

    async def _hang(self, receive: Receive) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        try:
            await asyncio.wait_for(gone(), self.plan.hang_s)
        except TimeoutError:
            return

    async def _damage(self, kind: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the real answer be made, then spoil it."""
        start: MutableMapping[str, Any] = {}
        body = bytearray()

        async def keep(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.extend(message.get("body", b""))

        await self.app(scope, receive, keep)
        if kind == "malformed":
            half = bytes(body[: len(body) // 2])
            spoilt = half + b"\x00{]" if start["headers"] else half
            await _answer(send, 200, spoilt, _content_type(start))
            return
        await send({**start, "type": "http.response.start"})  # the length that was promised, and half of it
        await send({"type": "http.response.body", "body": bytes(body[: len(body) // 2]), "more_body": True})
        if kind == "stalled-tile":
            await self._hang(receive)
        self.cut(scope["client"], False)


def _applies(kind: str, path: str) -> bool:
    if kind in PICTURES_ONLY:
        return path.startswith(_PICTURE_PATHS) or path == "/maps/api/streetview"
    return path.endswith("/metadata") if kind in METADATA_ONLY else True


def _content_type(start: MutableMapping[str, Any]) -> bytes:
    return next((v for k, v in start.get("headers", []) if k == b"content-type"), b"application/json")


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    kind: bytes = b"application/json",
    extra: list[tuple[bytes, bytes]] | None = None,
) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *(extra or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def reset(transport: asyncio.Transport) -> None:
    """Close a connection at once with a TCP reset."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def describe(plan: Plan) -> str:
    """The plan in one line of JSON, for the service's command line."""
    return json.dumps(plan.model_dump(), sort_keys=True)
