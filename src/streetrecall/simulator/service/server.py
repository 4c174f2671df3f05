"""The simulator service: builds the city, answers Google's and Panoramax's contracts over it, serves the viewer page.

`running` starts it as a child process on a free loopback port and stops it again; ``streetrecall serve-city`` runs it
by itself. The child lives no longer than its parent: it holds one end of a pipe and stops when the other one is gone,
however the parent ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetrecall.errors import UserError
from streetrecall.params.schema import Params, load, parse
from streetrecall.simulator.service import faults as faulty

if TYPE_CHECKING:
    from fastapi import FastAPI

    from streetrecall.simulator.city.plan import City

HOST = "127.0.0.1"
START_SECONDS = 180.0
STOP_SECONDS = 10.0


def app(city: City) -> FastAPI:
    """The service over a city, without faults."""
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    from streetrecall.simulator.service import google, panoramax, viewer

    api = FastAPI(title="streetrecall simulator", docs_url=None, redoc_url=None)
    for module in (google, panoramax, viewer):
        api.include_router(module.router(city))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problem = error.errors()[0]
        message = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        return JSONResponse({"message": message, "status_code": 400}, 400)

    api.add_exception_handler(RequestValidationError, invalid)
    return api


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one.

    Raises:
        UserError: the port is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return sock


def serve(params: Params, sock: socket.socket, faults: dict[str, Any] | None, root: Path | None, told: Any) -> None:
    """Serve until stopped. ``told`` is called once with the base URL when the service is ready to answer.

    Ready means: the city stands, the renderer is compiled and has drawn a view, and the socket listens.
    """
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    from streetrecall.simulator.city.plan import open_city
    from streetrecall.simulator.render import view as render

    plan = faulty.plan(faults)
    city = open_city(params, root)
    if city.panos:
        render.jpeg(render.renderer(city).view(city.panos[0], 0.0))
    open_connections: dict[tuple[str, int], asyncio.Transport] = {}

    class Protocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if self.client:
                open_connections[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client:
                open_connections.pop(self.client, None)
            super().connection_lost(exc)

    def cut(client: tuple[str, int], at_once: bool) -> None:
        transport = open_connections.get(tuple(client))  # type: ignore[arg-type]
        if transport is not None and at_once:
            faulty.reset(transport)
        elif transport is not None:
            transport.close()

    black = render.jpeg(render.Renderer._dark(render.WIDTH, render.HEIGHT))
    host, port = sock.getsockname()[:2]

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            told(f"http://{host}:{port}")

    config = uvicorn.Config(
        faulty.Faults(app(city), plan, cut, lambda: black), http=Protocol, ws="none", lifespan="off",
        log_level="critical", access_log=False, timeout_keep_alive=120, timeout_graceful_shutdown=1,
    )  # fmt: skip
    Server(config).run(sockets=[sock])


@contextmanager
def running(
    params: Params, port: int = 0, faults: dict[str, Any] | None = None, root: Path | None = None
) -> Iterator[str]:
    """Run the service as a child process; yields its base URL, such as ``http://127.0.0.1:41234``.

    Args:
        port: 0 takes a free one.
        faults: a plan of faults, see `streetrecall.simulator.service.faults.Plan`.
        root: folder that holds ``data/cities``; by default the working folder.

    Raises:
        UserError: the service did not start; with what it said.
    """
    faulty.plan(faults)
    order = {
        "params": params.model_dump(mode="json"),
        "port": port,
        "faults": faults,
        "root": str(root) if root else None,
        "parent": os.getpid(),
    }
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "streetrecall.simulator.service.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
        )  # fmt: skip
        try:
            assert child.stdin is not None and child.stdout is not None
            with suppress(BrokenPipeError):
                child.stdin.write(json.dumps(order).encode() + b"\n")
                child.stdin.flush()
            ready, _, _ = select.select([child.stdout], [], [], START_SECONDS)
            line = child.stdout.readline() if ready else b""
            if not line.startswith(b"http://"):
                child.kill()
                child.wait()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()[-1:]
                raise UserError(f"the simulated city's service did not start: {said[0] if said else 'it said nothing'}")
            yield line.decode().strip()
        finally:
            with suppress(BrokenPipeError):
                if child.stdin is not None:
                    child.stdin.close()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()


def _outlive_nobody(parent: int) -> None:
    """End this process when standard input ends or the parent is no longer ours."""

    def watch() -> None:
        while True:
            readable, _, _ = select.select([sys.stdin], [], [], 1.0)
            if (readable and not os.read(sys.stdin.fileno(), 4096)) or os.getppid() != parent:
                os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _first_line(descriptor: int) -> bytes:
    """A line read byte by byte: nothing behind it is buffered away from the watch that follows."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


def _child() -> int:
    order = json.loads(_first_line(sys.stdin.fileno()))
    _outlive_nobody(order["parent"])
    try:
        sock = listen(HOST, order["port"])
        root = Path(order["root"]) if order["root"] else None
        serve(parse(order["params"]), sock, order["faults"], root, lambda url: print(url, flush=True))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=HOST, help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8700, help="port; 0 takes a free one (%(default)s)")
    parser.add_argument(
        "--faults", default="", metavar="JSON",
        help="""plan of faults, such as '{"probabilities": {"429": 0.1}, "seed": 1, "times": 2}'""",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    try:
        faults = json.loads(args.faults) if args.faults else None
    except ValueError as error:
        raise UserError(f"--faults: not JSON: {error}") from error
    if faults is not None and not isinstance(faults, dict):
        raise UserError("--faults: not a JSON object")
    params = load(args.params)

    def told(url: str) -> None:
        print(f"The simulated city is served at {url}/viewer (Ctrl-C stops it)", flush=True)

    serve(params, listen(args.host, args.port), faults, None, told)
    return 0


if __name__ == "__main__":
    sys.exit(_child())
