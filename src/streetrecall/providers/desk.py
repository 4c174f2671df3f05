"""Requests by the workers of a Dask cluster, whose turns the client process gives.

The client process has the `Turns` of the run, and a `Desk` where workers ask for them. Each worker process opens a
provider of its own, with the credentials of its own environment, and keeps it (and so its browsers) until the run ends.
Nothing secret goes through the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from streetrecall.cluster import Cluster
from streetrecall.errors import UserError
from streetrecall.providers.http import Client
from streetrecall.providers.pacing import Turns

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
Work = Callable[[Any, T], Iterable[R]]

REACH_S = 5.0  # for a worker to reach the client process


class Asking(Protocol):
    """A provider that asks a service by ``client``."""

    namespace: str
    client: Client

    def close(self) -> None: ...


class Desk:
    """Gives items to the workers of the cluster at ``address``, and ``turns`` to their requests.

    Args:
        reopen: opens the provider in a worker process.
        namespace: the provider's; that of a worker's must be the same.

    Raises:
        UserError: the cluster cannot be used (`streetrecall.cluster.Cluster`), or a worker does not reach this machine.
    """

    def __init__(self, address: str, turns: Turns, reopen: Callable[[], Asking], namespace: str) -> None:
        self._turns, self._recipe = turns, pickle.dumps((reopen, namespace))
        self._cluster = Cluster(address)
        self._client = self._cluster.client
        try:
            self._server = self._client.sync(self._listen)
            self._address: str = self._server.address
            for worker, reached in self._client.run(_reaches, self._address).items():
                if not reached:
                    raise UserError(
                        f"worker {worker} does not reach this machine at {self._address}, where it has to ask before "
                        "each request; allow connections from the workers"
                    )
        except BaseException:
            self._cluster.close()
            raise

    async def _listen(self) -> Any:
        from distributed.comm import get_address_host
        from distributed.core import Server
        from distributed.utils import get_ip

        workers = await self._client.scheduler.ncores()
        here = get_ip(get_address_host(next(iter(workers))))  # by which the workers reach this machine
        server = Server({"ask": self._answer, "recipe": lambda: self._recipe})
        await server.listen(
            f"{urlsplit(self._client.scheduler.address).scheme}://{here}:0",
            **self._client.security.get_listen_args("client"),
        )
        return server

    def _answer(self, name: str, values: Sequence[Any]) -> tuple[str, Any]:
        """What ``turns`` answers to a worker: the kind, and the value or the text of a `UserError`."""
        try:
            return "value", getattr(self._turns, name)(*values)
        except UserError as error:
            return "error", str(error)

    def each(self, work: Work[T, R], items: Sequence[T], at_once: int) -> Iterator[R]:
        """The results of ``work`` with a worker's provider on each item; see `Cluster.as_they_come`."""
        yield from self._cluster.as_they_come(partial(_at_worker, self._address, work), items, at_once)

    def close(self) -> None:
        """Close the providers of the workers, and the desk."""
        try:
            self._client.run(_close, self._address, on_error="ignore")
            self._client.sync(self._server.close)
        finally:
            self._cluster.close()


class LostError(Exception):
    """The client process cannot be reached."""


class RemoteTurns(Turns):
    """The turns of the desk at ``address``, for all threads of this worker process."""

    def __init__(self, address: str) -> None:
        from distributed import get_worker

        self._worker, self._address = get_worker(), address

    def call(self, operation: str, **values: Any) -> Any:
        """The desk's answer.

        Raises:
            LostError: it does not answer.
        """
        from distributed.utils import sync

        async def call() -> Any:
            return await getattr(self._worker.rpc(self._address), operation)(**values)

        try:
            return sync(self._worker.loop, call)
        except OSError as error:
            raise LostError(str(error)) from None

    def _ask(self, name: str, *values: Any) -> Any:
        kind, value = self.call("ask", name=name, values=values)
        if kind == "error":
            raise UserError(value)
        return value

    def turn(self, host: str) -> tuple[bool, float]:
        reserved, wait = self._ask("turn", host)
        return reserved, wait

    def reserve(self, host: str) -> float:
        return float(self._ask("reserve", host))

    def held(self, host: str) -> float:
        return float(self._ask("held", host))

    def hold(self, host: str, seconds: float) -> None:
        self._ask("hold", host, seconds)

    def accepted(self) -> None:
        self._ask("accepted")

    def undecided(self) -> None:
        self._ask("undecided")

    def refused(self, host: str, reason: str, retry_after_s: float) -> None:
        self._ask("refused", host, reason, retry_after_s)


_opened: dict[str, Asking] = {}  # the providers of this worker process, by the address of their desk
_lock = threading.Lock()


def _at_worker(address: str, work: Work[T, R], item: T) -> list[R]:
    from distributed import Reschedule

    try:
        return list(work(_provider(address), item))
    except LostError as error:
        log.warning("the client process at %s cannot be reached (%s); another worker takes this item", address, error)
        raise Reschedule from error


def _provider(address: str) -> Asking:
    """This process's provider for the run whose desk is at ``address``."""
    with _lock:
        if address not in _opened:
            for other in [other for other in _opened if not _reaches(other)]:
                _opened.pop(other).close()  # its client process was killed
            turns = RemoteTurns(address)
            reopen, namespace = pickle.loads(turns.call("recipe"))
            provider: Asking = reopen()
            if provider.namespace != namespace:
                provider.close()
                raise UserError(
                    f"a worker on {socket.gethostname()} would ask '{provider.namespace}' and not '{namespace}'; set "
                    "the same variables (STREETRECALL_...) there as here"
                )
            provider.client.turns = turns
            _opened[address] = provider
        return _opened[address]


def _reaches(address: str) -> bool:
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=REACH_S):
            return True
    except OSError:
        return False


async def _close(address: str) -> None:
    """Close the provider of a run; not in the thread of the worker's own events, which must go on."""

    def close() -> None:
        with _lock:
            provider = _opened.pop(address, None)
        if provider is not None:
            provider.close()

    await asyncio.to_thread(close)
