"""What every request passes first: host, origin, token, limits of number, size and time, and headers of the answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streetrecall.serve.problems import ProblemError, problem

COOKIE = "streetrecall_session"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})

# Nothing is loaded from other hosts, and no script or style stands in the page itself. MapLibre draws its icons from
# data: addresses in its style sheet, and pictures that a user chose are shown from blob: addresses.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Limits:
    """How much the service takes on. Sizes are in bytes and times in seconds."""

    requests: int = 64  # answered at a time
    uploads: int = 16  # of them, uploads that are received or answered
    files: int = 8  # photos in one upload
    file_bytes: int = 30_000_000
    body_bytes: int = 80_000_000
    small_body_bytes: int = 10_000  # of any other request
    body_grace_s: float = 10.0  # a body that takes longer must come at the rate below
    body_rate: int = 50_000  # bytes a second
    header_s: float = 10.0
    request_s: float = 120.0
    connections: int = 512


@dataclass(frozen=True)
class Access:
    """Who may ask: names of this host, and the token that is asked for, if one is."""

    token: str | None = None
    names: frozenset[str] = field(default_factory=lambda: LOOPBACK)

    def session(self) -> str:
        """The value of the cookie that stands for the token; it does not tell the token."""
        assert self.token is not None
        return hmac.new(self.token.encode(), b"streetrecall session", hashlib.sha256).hexdigest()

    def knows(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def allows(self, headers: Headers) -> bool:
        """Whether a request carries the token, as a bearer token or by the cookie of a session."""
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.session().encode())


class Guard:
    """The outermost layer of the service. It refuses what it must not answer, and bounds what it answers."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits) -> None:
        self.app, self.access, self.limits = app, access, limits
        self.open = 0
        self.uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            async with asyncio.timeout(self.limits.request_s):
                await self._answer(scope, receive, answer)
        except ProblemError as error:
            if not started:
                await problem(error.status_code, error.detail, dict(error.headers or {}))(scope, receive, answer)
        except TimeoutError:
            if not started:
                await problem(HTTPStatus.SERVICE_UNAVAILABLE, "The answer took too long.")(scope, receive, answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        self._check(headers, path, method)
        upload = path == "/api/locate" and method == "POST"
        most = self.limits.body_bytes if upload else self.limits.small_body_bytes
        body = Body(receive, most, self.limits)
        if self.open >= self.limits.requests or (upload and self.uploads >= self.limits.uploads):
            await body.discard()
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS, "The service is busy; ask again in a moment.", {"retry-after": "2"}
            )
        self.open += 1
        self.uploads += upload
        try:
            body.check(headers.get("content-length", ""))
            await self.app(scope, body, send)
        finally:
            self.open -= 1
            self.uploads -= upload

    def _check(self, headers: Headers, path: str, method: str) -> None:
        """Refuse other names of this host (DNS rebinding), other sites' requests, and those without the token."""
        name = host_name(headers.get("host", ""))
        if name not in self.access.names:
            raise ProblemError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This service does not answer under that name; start it with --name NAME to allow it.",
            )
        if method not in ("GET", "HEAD", "OPTIONS"):
            origin = headers.get("origin")
            foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
            if foreign or (origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower()):
                raise ProblemError(HTTPStatus.FORBIDDEN, "Only the service's own page may send this from a browser.")
        if path.startswith("/api/") and path != "/api/session" and not self.access.allows(headers):
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "This service wants its token: send the header 'Authorization: Bearer TOKEN'.",
                {"www-authenticate": 'Bearer realm="streetrecall"'},
            )


class Body:
    """Receives the body of a request, and stops where it is too large or comes too slowly."""

    def __init__(self, receive: Receive, most: int, limits: Limits) -> None:
        self.receive, self.most, self.limits = receive, most, limits
        self.size = 0
        self.ended = False
        self.began = asyncio.get_running_loop().time()

    def check(self, length: str) -> None:
        """Refuse a body whose stated ``length`` is too large before any of it is read."""
        if length.isdecimal() and int(length[:20]) > self.most:
            raise self._too_large()

    def _too_large(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The request is larger than {self.most / 1e6:g} MB; send fewer or smaller photos.",
            {"connection": "close"},
        )

    async def __call__(self) -> Message:
        if self.ended:
            return await self.receive()  # it waits for the client to go away
        end = self.began + self.limits.body_grace_s + self.size / self.limits.body_rate
        try:
            async with asyncio.timeout_at(end):
                message = await self.receive()
        except TimeoutError:
            raise ProblemError(
                HTTPStatus.REQUEST_TIMEOUT, "The request came too slowly.", {"connection": "close"}
            ) from None
        self.size += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        if self.size > self.most:
            raise self._too_large()
        return message

    async def discard(self) -> None:
        """Read the body and keep nothing of it: a client that still sends would not see the answer."""
        while not self.ended:
            await self()


def host_name(host: str) -> str:
    """The name in a Host header, without the port.

    >>> host_name("Example.org:8080"), host_name("[::1]:80"), host_name("[::1")
    ('example.org', '[::1]', '')
    """
    host = host.lower()
    if host.startswith("["):
        inside, closed, _ = host.partition("]")
        return f"{inside}]" if closed else ""
    return host.partition(":")[0]


def protocol(limits: Limits) -> Any:
    """uvicorn's HTTP protocol, which closes connections whose headers do not arrive in time."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._wait()
            else:
                self._stop_waiting()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait(self) -> None:
            if self._waiting is None:
                self._waiting = self.loop.call_later(limits.header_s, self._give_up)

        def _stop_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _give_up(self) -> None:
            self._waiting = None
            if not self.transport.is_closing():
                self.transport.close()

    return Protocol
