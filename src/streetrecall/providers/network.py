"""What the providers that ask a service have in common: requests by many threads, or by the workers of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import partial
from typing import Any, Self, TypeVar

from streetrecall.cluster import ADDRESS
from streetrecall.params.schema import Params
from streetrecall.providers.base import StreetImagery
from streetrecall.providers.desk import Desk
from streetrecall.providers.http import Client
from streetrecall.threads import concurrently

T = TypeVar("T")
R = TypeVar("R")


class NetworkProvider(StreetImagery):
    """A `streetrecall.providers.base.Provider` whose answers cost requests.

    ``reopen`` opens the same provider in another process.
    """

    network = True
    namespace: str

    def __init__(self, params: Params, client: Client) -> None:
        self.notes: MutableMapping[str, str] = {}
        self.unplanned: list[tuple[str, str]] = []
        self.client = client
        self.reopen: Callable[[], NetworkProvider] = partial(type(self).open, params)
        self._params = params
        self._desk: Desk | None = None

    @classmethod
    def open(cls, params: Params) -> Self:
        raise NotImplementedError

    def each(
        self, work: Callable[[Any, T], Iterable[R]], items: Iterable[T], at_once: int | None = None
    ) -> Iterator[R]:
        """The results of ``work(provider, item)`` for every item, each as soon as it is there, in any order.

        The provider is this one, and the work is done by threads of this process; or it is a worker's, where
        ``STREETRECALL_CLUSTER`` names the scheduler of a Dask cluster. Then ``work`` and items must be picklable, and
        what ``work`` changes in the provider is lost. The first exception ends the work and is raised.

        Args:
            at_once: items under way at a time in each process; None: ``network.threads``.
        """
        waiting, at_once = list(items), at_once or self._params.network.threads
        address = os.environ.get(ADDRESS)
        if not address:
            yield from concurrently(partial(work, self), waiting, at_once, self.stop, self.client.stopped)
        elif waiting:
            if self._desk is None:
                self._desk = Desk(address, self.client.turns, self.reopen, self.namespace)
            yield from self._desk.each(work, waiting, at_once)

    def stop(self) -> None:
        """Wake the threads of this process that wait for a request: the work has ended."""
        self.client.stop()

    def close(self) -> None:
        try:
            if self._desk is not None:
                self._desk.close()
        finally:
            self.client.close()
