"""The viewer page over Google's Maps JavaScript API, served on loopback to the provider's own browsers.

The page loads the API with the user's key, so it contains the key. Its address contains a random word: other users of
this machine, who do not know the address, cannot get the page.
"""

from __future__ import annotations

import html
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Response

from streetrecall.providers.http import Secret

_HERE = Path(__file__).parent


@contextmanager
def serving(api: Secret) -> Iterator[str]:
    """Serve the page until the end of the block; yields its URL.

    Args:
        api: URL of the API's script, with the key; the script calls ``begin`` when it is loaded.
    """
    word = secrets.token_urlsafe(16)
    page = (_HERE / "page.html").read_text(encoding="utf-8").replace("{api}", html.escape(api.reveal()))
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    app = FastAPI(openapi_url=None)
    fresh = {"cache-control": "no-store"}

    @app.get(f"/{word}/viewer")
    def viewer() -> Response:
        return Response(page, media_type="text/html", headers=fresh)

    @app.get(f"/{word}/viewer.js")
    def viewer_script() -> Response:
        return Response(script, media_type="text/javascript", headers=fresh)

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, ws="none", lifespan="off", log_config=None, log_level="critical", access_log=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="google-page", daemon=True)
        thread.start()
        try:
            started.wait()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/{word}/viewer"
        finally:
            server.should_exit = True
            thread.join()
