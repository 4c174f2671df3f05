"""The smallest service that keeps the viewer's and the metadata contract: a few panoramas of plain colours."""

from __future__ import annotations

import colorsys
import hashlib
import io
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from PIL import Image

PAGE = """<!doctype html><meta charset=utf-8><title>tiny viewer</title>
<style>html,body{margin:0;overflow:hidden;background:#000}canvas{display:block}</style><canvas></canvas>
<script>
const canvas = document.querySelector("canvas"), pen = canvas.getContext("2d");
const fit = () => { canvas.width = innerWidth; canvas.height = innerHeight; };
let wanted = 0;
const state = {pano: null, heading: null, ready: false, frame: 0, error: null};
window.viewer = {state, async show({pano, heading}) {
  const mine = ++wanted;
  if (pano.startsWith("hang")) for (;;);
  Object.assign(state, {pano, heading, ready: false, error: null, status: 0, retryAfter: null});
  try {
    const answer = await fetch(`/tile?pano=${encodeURIComponent(pano)}&heading=${heading}`, {cache: "no-store"});
    state.status = answer.status;
    state.retryAfter = answer.headers.get("retry-after");
    if (!answer.ok) throw new Error(`http ${answer.status}`);
    const picture = await createImageBitmap(await answer.blob());
    if (mine !== wanted) return;
    fit();
    pen.imageSmoothingEnabled = false;
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    state.frame++;
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    if (mine === wanted) state.ready = true;
  } catch (error) { if (mine === wanted) state.error = String(error.message || error); }
}, async dates(pano) {
  const answer = await fetch(`/viewer/panos?pano=${encodeURIComponent(pano)}`, {cache: "no-store"});
  const {status, headers} = answer;
  if (!answer.ok) throw Object.assign(new Error(`http ${status}`), {status, retryAfter: headers.get("retry-after")});
  return answer.json();
}};
</script>"""

BAD_TOKEN = json.dumps(
    {"error": {"message": "bad token", "type": "OAuthException", "code": 190, "fbtrace_id": "A"}}
).encode()
Fault = Callable[[str, dict[str, str], int], str | None]


def tile(pano: str, heading: str) -> bytes:
    """A picture of 16 x 9 coloured fields that no other panorama or heading shares."""
    if pano.startswith("black"):
        return _png(Image.new("RGB", (16, 9)))
    digest = hashlib.sha512(f"{pano} {float(heading):g}".encode()).digest()
    image = Image.new("RGB", (16, 9))
    image.putdata([tuple(int(255 * c) for c in colorsys.hsv_to_rgb(digest[i % 64] / 255, 0.7, 0.9))
                   for i in range(16 * 9)])  # fmt: skip
    return _png(image)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class TinyService:
    """``fault(path, query, how often asked so far)`` names a fault.

    429, 500, reset, stall, truncated, malformed, html, black.
    """

    def __init__(self, fault: Fault | None = None, dates: int = 2) -> None:
        self.fault = fault or (lambda path, query, n: None)
        self.dates = dates
        self.asked: Counter[str] = Counter()
        self.queries: list[str] = []
        self.times: list[float] = []  # of each of them; time.monotonic()
        self.hosts: set[str] = set()  # addresses of those who asked
        self.headers: list[dict[str, str]] = []
        self.token: str | None = None
        self.retry_after = "1"
        self.release = threading.Event()
        self.base = ""
        self._lock = threading.Lock()

    def guarded(self, path: str) -> list[str]:
        """The path, if it needs ``token`` as its header Authorization."""
        return []

    def answer(self, path: str, query: dict[str, str]) -> tuple[Any, ...]:
        if path == "/maps/api/streetview/metadata":
            lat, lng = (float(v) for v in query["location"].split(","))
            if not query.get("key", "").startswith("AIza"):
                return _json({"status": "REQUEST_DENIED", "error_message": f"bad key {query.get('key')}"})
            if lat < 0:
                return _json({"status": "ZERO_RESULTS"})
            body = {"status": "OK", "pano_id": f"pano{lat:.3f}", "location": {"lat": round(lat, 3), "lng": lng},
                    "copyright": "© nobody"}  # fmt: skip
            return _json(body if lat > 80 else body | {"date": "2021-05"})
        if path == "/viewer/panos":
            pano = query["pano"]
            if pano.startswith("unknown"):
                return 404, "text/plain", b"unknown"
            dates = [{"pano": f"{pano}-{i}", "date": f"{2022 - i}-06"} for i in range(self.dates)]
            return _json({"pano": pano, "lat": 59.3, "lng": 18.0, "copyright": "© nobody", "dates": dates})
        if path == "/viewer":
            return 200, "text/html; charset=utf-8", PAGE.encode()
        if path == "/tile":
            if query["pano"].startswith("gone"):
                return 404, "text/plain", b"unknown"
            return 200, "image/png", tile(query["pano"], query["heading"])
        return 404, "text/plain", b"no such page"


def _json(content: object) -> tuple[int, str, bytes]:
    return 200, "application/json; charset=UTF-8", json.dumps(content).encode()


@contextmanager
def serving(service: TinyService, host: str = "127.0.0.1") -> Iterator[TinyService]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_CONNECT(self) -> None:
            service.queries.append(f"CONNECT {self.path}")
            self.send_error(502)

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            path = url.path
            query = {k: v[0] for k, v in parse_qs(url.query).items()}
            what = path + "".join(f" {query[k]}" for k in ("location", "pano", "heading", "bbox") if k in query)
            with service._lock:
                service.asked[what] += 1
                service.queries.append(self.path)
                service.times.append(time.monotonic())
                service.hosts.add(self.client_address[0])
                service.headers.append(dict(self.headers))
                fault = service.fault(path, query, service.asked[what])
            status, kind, body, *more = service.answer(path, query)
            extra = more[0] if more else {}
            if path in service.guarded(path) and self.headers.get("Authorization") != service.token:
                status, kind, body, extra = 401, "application/json", BAD_TOKEN, {}
            length = len(body)
            if fault == "reset":
                self.connection.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER 0: closing resets
                self.close_connection = True
                self.connection.close()
                return
            if fault == "stall":
                service.release.wait(60)
                self.close_connection = True
                return
            if fault in ("429", "500"):
                status, kind, body, length = int(fault), "text/plain", b"no", 2
            elif fault == "truncated":
                body = body[: len(body) // 2]
                self.close_connection = True
            elif fault == "malformed":
                body, length = body[: len(body) // 2], len(body) // 2
            elif fault == "black":
                kind, body = "image/png", _png(Image.new("RGB", (16, 9)))
                length = len(body)
            elif fault == "html":
                kind, body = "text/html", b"<html>sorry</html>"
                length = len(body)
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(length))
                for name, value in extra.items() if not fault else ():
                    self.send_header(name, value)
                if fault == "429":
                    self.send_header("Retry-After", service.retry_after)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the client was killed

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        open: ClassVar[set[socket.socket]] = set()

        def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
            self.open.add(request)
            super().process_request(request, client_address)

        def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
            self.open.discard(request)
            super().shutdown_request(request)

        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None: ...

    server = Server((host, 0), Handler)
    service.base = f"http://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.release.set()
        server.shutdown()
        server.server_close()
        for connection in list(Server.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()
