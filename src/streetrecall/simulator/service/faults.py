"""Faults on request, as ASGI middleware: what a real service does on a bad day.

The header ``X-Fault`` or the query ``fault=KIND`` lets one request fail, on any path that serves data. By a seeded plan
(`Plan`) each item, a path with its query but without key and fault, draws its fault from the seed and fails ``times``
times; after that it works. A share ``permanent`` of the faulty items never works.
"""

from __future__ import annotations

import asyncio
import hashlib
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
Disconnect = Callable[[tuple[str, int], bool], None]

Kind = Literal[
    "429", "500", "timeout", "reset", "truncated", "malformed", "content-type", "stalled-tile", "black", "quota"
]  # fmt: skip
KINDS: tuple[str, ...] = Kind.__args__  # type: ignore[attr-defined]
PICTURES_ONLY = {"stalled-tile", "black"}
METADATA_ONLY = {"quota"}
_FAULTY_PATHS = ("/maps/api/streetview", "/maps/api/js/", "/tiles/", "/api/", "/viewer/panos")
_PICTURE_PATHS = ("/tiles/", "/api/pictures/")


class Plan(BaseModel):
    """A plan of faults for the whole service."""

    model_config = ConfigDict(extra="forbid")

    probabilities: dict[Kind, Annotated[float, Field(ge=0, le=1)]] = {}  # share of items with each kind of fault
    seed: int = 0
    times: int = Field(default=1, ge=1)  # how often an item fails before it works
    permanent: float = Field(default=0.0, ge=0, le=1)  # share of the faulty items that never work
    retry_after_s: float = Field(default=1.0, ge=0)  # Retry-After of a 429
    hang_s: float = Field(default=30.0, gt=0)  # how long a time-out and a stalled tile hang
    paths: list[str] = []  # only paths that begin with one of these; empty: all paths that serve data


def plan(values: dict[str, Any] | None) -> Plan:
    """A plan from its JSON; none: no faults.

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
    """ASGI middleware.

    Args:
        disconnect: closes the connection of a client's address; True: at once, with a TCP reset.
        black: a black frame as JPEG.
    """

    def __init__(self, app: App, plan: Plan, disconnect: Disconnect, black: bytes) -> None:
        self.app = app
        self.plan = plan
        self.disconnect = disconnect
        self.black = black
        self._shown: dict[str, int] = {}
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = self._kind(scope) if scope["type"] == "http" else None
        if kind is None:
            await self.app(scope, receive, send)
        else:
            await self._fail(kind, scope, receive, send)

    def _kind(self, scope: Scope) -> str | None:
        """The fault of a request, or None."""
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
        return self._planned(path, f"{path}?{urlencode(kept)}")

    def _planned(self, path: str, item: str) -> str | None:
        """The fault that the plan has for an item, this time."""
        dice = random.Random(hashlib.blake2b(f"{self.plan.seed}/{item}".encode(), digest_size=16).digest())
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

    async def _fail(self, kind: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a fault."""
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
            self.disconnect(scope["client"], True)
        elif kind == "reset":
            self.disconnect(scope["client"], True)
        elif kind == "content-type":
            await _answer(send, 200, b"<!doctype html><title>Sign in</title><p>Sign in to the network.", b"text/html")
        elif kind == "black":
            await _answer(send, 200, self.black, b"image/jpeg")
        else:
            await self._damage(kind, scope, receive, send)

    async def _hang(self, receive: Receive) -> None:
        """Wait until the client disconnects, or as long as the plan says."""

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        try:
            await asyncio.wait_for(gone(), self.plan.hang_s)
        except TimeoutError:
            return

    async def _damage(self, kind: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Make the real answer, then damage it."""
        start: MutableMapping[str, Any] = {}
        body = bytearray()

        async def keep(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.extend(message.get("body", b""))

        await self.app(scope, receive, keep)
        if kind == "malformed":
            await _answer(send, 200, bytes(body[: len(body) // 2]) + b"\x00{]", _content_type(start))
            return
        await send({**start, "type": "http.response.start"})  # the whole length in the header, half of the body
        await send({"type": "http.response.body", "body": bytes(body[: len(body) // 2]), "more_body": True})
        if kind == "stalled-tile":
            await self._hang(receive)
        self.disconnect(scope["client"], False)


def _applies(kind: str, path: str) -> bool:
    """Whether a path can show a kind of fault."""
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
