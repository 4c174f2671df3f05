"""`streetrecall serve`: the page and the API of this project's results, and answers to photos from a bundle."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from starlette.types import ASGIApp

from streetrecall.errors import UserError
from streetrecall.serve.guard import LOOPBACK, Access, Limits, protocol
from streetrecall.serve.service import Explorer, Locator, create

TOKEN = "STREETRECALL_TOKEN"
LEAST_TOKEN = 16
BUNDLE = "models/bundle"
RESULTS = ("data/crops/images.parquet", "data/views/views.parquet", "data/results/queries.parquet")  # one is enough
log = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", type=Path, default=Path(), help="folder of the project whose results are shown (.)"
    )
    parser.add_argument("--bundle", type=Path, help=f"bundle that answers photos (PROJECT/{BUNDLE}, if it is there)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8710, help="port; 0 takes a free one (%(default)s)")
    parser.add_argument(
        "--token", help=f"token that is asked for; needed unless all is on this machine (or set {TOKEN})"
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="HOST", help="another name of this service, as behind a proxy"
    )
    parser.add_argument(
        "--shared-only", action="store_true", help="show only pictures whose licence lets others see them"
    )


def main(args: argparse.Namespace) -> int:
    access = access_of(args.host, args.name, args.token or os.environ.get(TOKEN))
    bundle = args.bundle or args.project / BUNDLE
    locator: Locator | None = None
    if args.bundle or (bundle / "bundle.json").is_file():
        from streetrecall.serve.asking import open_bundle

        locator = open_bundle(bundle)
    else:
        log.info("%s: no bundle, so photos are not answered (dvc repro bundle makes it)", bundle)
    remote = not is_loopback(args.host) or bool(args.name)
    explorer = open_project(args.project, args.shared_only or remote)
    if locator is None and explorer is None:
        raise UserError(
            f"{args.project}: holds neither results nor a bundle; run the pipeline (dvc repro), fetch them (dvc pull), "
            "or name a bundle with --bundle"
        )
    run(create(explorer, locator, access, Limits()), listen(args.host, args.port), Limits(), announce)
    return 0


def open_project(folder: Path, shared_only: bool) -> Explorer | None:
    """What shows the results in a project's folder; None without results, or without the packages to read them."""
    if not any((folder / path).is_file() for path in RESULTS):
        return None
    try:
        from streetrecall.serve.explore import Explorer as Found
        from streetrecall.serve.project import Project
    except ImportError as error:
        log.info("%s: its results are not shown (%s); install 'streetrecall[pipeline]' for that", folder, error)
        return None
    return Found(Project(folder), shared_only)


def announce(url: str) -> None:
    print(f"streetrecall is served at {url} (Ctrl-C stops it)", flush=True)


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def access_of(host: str, names: list[str], token: str | None) -> Access:
    """Who may ask a service that listens on ``host`` and is also called ``names``.

    Raises:
        UserError: others can reach the service and there is no token, or the token can be guessed.
    """
    if token is not None and len(token) < LEAST_TOKEN:
        raise UserError(
            f"--token: has {len(token)} characters; take at least {LEAST_TOKEN}, such as of openssl rand -hex 16"
        )
    remote = not is_loopback(host) or bool(names)
    if remote and token is None:
        raise UserError(
            f"others can reach this service ({', '.join([host, *names])}): give it a token, "
            f"such as {TOKEN}=$(openssl rand -hex 16) streetrecall serve --host {host}"
        )
    own = {f"[{host}]" if ":" in host else host.lower()}
    return Access(token, LOOPBACK | own | {name.lower() for name in names})


def listen(host: str, port: int) -> socket.socket:
    """A bound socket.

    Raises:
        UserError: the address is not to be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host}:{port}: {words}; choose another --host or --port") from error
    return sock


def run(
    app: ASGIApp,
    sock: socket.socket,
    limits: Limits,
    on_ready: Callable[[str], None],
    on_start: Callable[[Any], None] = lambda server: None,
) -> None:
    """Serve until stopped. ``on_ready`` is called once with the address when it answers, ``on_start`` before with
    uvicorn's server, whose ``should_exit`` stops it."""
    import uvicorn

    host, port = sock.getsockname()[:2]

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")

    # Uvicorn's own configuration of logging closes all other handlers of the process, and absl's closes its stream too.
    config = uvicorn.Config(
        cast(Any, app), http=protocol(limits), ws="none", lifespan="off", log_config=None, log_level="warning",
        access_log=False, proxy_headers=False, server_header=False, limit_concurrency=limits.connections,
        timeout_keep_alive=10, timeout_graceful_shutdown=2, h11_max_incomplete_event_size=32768,
    )  # fmt: skip
    server = Server(config)
    on_start(server)
    server.run(sockets=[sock])
