"""The simulator's service: builds the city, answers Google's and Panoramax's contracts over it, serves the viewer page.

`running` starts it as a child process on a free loopback port and stops it again; ``streetrecall serve-city`` runs it
by itself. The child ends with its parent, however the parent ends: it reads a pipe from the parent and stops when that
pipe is closed.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetrecall.errors import UserError
from streetrecall.params.schema import Params, load, parse
from streetrecall.simulator.service import faults as fault_plans

if TYPE_CHECKING:
    from fastapi import FastAPI

    from streetrecall.simulator.city.plan import City

HOST = "127.0.0.1"
START_SECONDS = 180.0
STOP_SECONDS = 10.0


def app(city: City) -> FastAPI:
    """The service of a city, without faults."""
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    from streetrecall.simulator.service import google, panoramax, viewer
    from streetrecall.simulator.service.search import BadRequestError

    api = FastAPI(title="streetrecall simulator", docs_url=None, redoc_url=None)
    for module in (google, panoramax, viewer):
        api.include_router(module.router(city))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problem = error.errors()[0]
        message = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        return JSONResponse({"message": message, "status_code": 400}, 400)

    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(BadRequestError, panoramax.refuse)
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


def serve(
    params: Params,
    sock: socket.socket,
    faults: dict[str, Any] | None,
    root: Path | None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until stopped.

    Args:
        sock: bound, see `listen`.
        faults: a plan of faults, see `streetrecall.simulator.service.faults.Plan`.
        root: folder that holds ``data/cities``; None: the working folder.
        on_ready: called once with the base URL, when the city is built, the renderer is compiled and has drawn a view,
            and the socket listens.
    """
    import uvicorn

    from streetrecall.simulator.city.plan import open_city
    from streetrecall.simulator.render.develop import dark, jpeg
    from streetrecall.simulator.render.renderer import HEIGHT, WIDTH, renderer

    plan = fault_plans.plan(faults)
    city = open_city(params, root)
    if city.panos:
        renderer(city).view(city.panos[0], 0.0)
    host, port = sock.getsockname()[:2]
    protocol, disconnect = _tracking_protocol()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready(f"http://{host}:{port}")

    config = uvicorn.Config(
        fault_plans.Faults(app(city), plan, disconnect, jpeg(dark(WIDTH, HEIGHT))), http=protocol, ws="none",
        lifespan="off", log_level="critical", access_log=False, timeout_keep_alive=120, timeout_graceful_shutdown=1,
    )  # fmt: skip
    Server(config).run(sockets=[sock])


def _tracking_protocol() -> tuple[type[asyncio.Protocol], fault_plans.Disconnect]:
    """uvicorn's HTTP protocol that remembers its connections, and a function that closes one of them."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    transports: dict[tuple[str, int], asyncio.Transport] = {}

    class Protocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if self.client:
                transports[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client:
                transports.pop(self.client, None)
            super().connection_lost(exc)

    def disconnect(client: tuple[str, int], at_once: bool) -> None:
        transport = transports.get((client[0], client[1]))
        if transport is not None and at_once:
            fault_plans.reset(transport)
        elif transport is not None:
            transport.close()

    return Protocol, disconnect


@contextmanager
def running(
    params: Params, port: int = 0, faults: dict[str, Any] | None = None, root: Path | None = None
) -> Iterator[str]:
    """Run the service as a child process; yields its base URL, such as ``http://127.0.0.1:41234``.

    Args:
        port: 0 takes a free one.
        faults: a plan of faults, see `streetrecall.simulator.service.faults.Plan`.
        root: folder that holds ``data/cities``; None: the working folder.

    Raises:
        UserError: the service did not start; with the last line of its output.
    """
    fault_plans.plan(faults)
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
            line = _start(child, order)
            if not line.startswith("http://"):
                child.kill()
                child.wait()
                errors.seek(0)
                output = errors.read().decode(errors="replace").strip().splitlines()
                reason = output[-1] if output else "it wrote no error"
                raise UserError(f"the simulated city's service did not start: {reason}")
            yield line
        finally:
            _stop(child)


def _start(child: subprocess.Popen[bytes], order: dict[str, Any]) -> str:
    """Send a child its order; returns the line with which it answers, empty where it ends or takes too long."""
    assert child.stdin is not None and child.stdout is not None
    with suppress(BrokenPipeError):
        child.stdin.write(json.dumps(order).encode() + b"\n")
        child.stdin.flush()
    ready, _, _ = select.select([child.stdout], [], [], START_SECONDS)
    return child.stdout.readline().decode().strip() if ready else ""


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Close a child's input, upon which it ends; kill it where it does not."""
    assert child.stdin is not None and child.stdout is not None
    with suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


def _end_with(parent: int) -> None:
    """End this process when its standard input is closed or its parent is another process."""

    def watch() -> None:
        while True:
            readable, _, _ = select.select([sys.stdin], [], [], 1.0)
            if (readable and not os.read(sys.stdin.fileno(), 4096)) or os.getppid() != parent:
                os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _first_line(descriptor: int) -> bytes:
    """A line, read byte by byte, so that no buffer takes what comes after it."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


def _child() -> int:
    """The child of `running`: reads its order from standard input and writes the base URL when it is ready."""
    order = json.loads(_first_line(sys.stdin.fileno()))
    _end_with(order["parent"])
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

    def on_ready(url: str) -> None:
        print(f"The simulated city is served at {url}/viewer (Ctrl-C stops it)", flush=True)

    serve(params, listen(args.host, args.port), faults, None, on_ready)
    return 0


if __name__ == "__main__":
    sys.exit(_child())
