"""Work on the machines of a Dask cluster, whose scheduler `STREETRECALL_CLUSTER` names.

The machines share the project's folder under one path and have this program installed. Each keeps its own store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from streetrecall.errors import UserError
from streetrecall.imports import PACKAGE, code_digest
from streetrecall.threads import concurrently

ADDRESS = "STREETRECALL_CLUSTER"
WAIT_S = 30  # for the scheduler to answer, and for a first worker

Item = TypeVar("Item")
Result = TypeVar("Result")


class Cluster:
    """The workers of the scheduler at ``address``. A context manager.

    A task may run twice, when a worker is lost.

    Raises:
        UserError: no scheduler or no worker answers, or a worker has other code.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._distributed = _library()
        try:
            self.client = self._distributed.Client(address, timeout=WAIT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{ADDRESS}={address}: no Dask scheduler answers there ({error})") from error
        try:
            _check_workers(self.client, self._distributed, address)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()

    def in_order(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """``function`` of each item, in the order of ``items``; for work that keeps a processor busy.

        A task must write whole files under names that depend on the item alone. An item whose task fails does not stop
        the others. Its error is raised in its turn.

        Raises:
            UserError: workers died on an item.
        """
        futures = self.client.map(partial(_run_in, Path.cwd(), function), list(items), pure=False, retries=0)
        for number, future in enumerate(futures):
            failed = future.exception()  # waits
            if failed is None:
                yield future.result()
                future.release()
                continue
            for other in futures[number + 1 :]:
                other.exception()
            if isinstance(failed, self._distributed.scheduler.KilledWorker):
                raise self._deadly(f"item {number + 1} of {len(items)} ({_named(items[number])})") from failed
            raise failed

    def as_they_come(
        self, function: Callable[[Item], Iterable[Result]], items: Sequence[Item], at_once: int
    ) -> Iterator[Result]:
        """The results of ``function`` on each item, in any order; for work that waits for others.

        Each worker process has up to ``at_once`` items under way, whatever number of processors it has. The first
        exception ends the work and is raised. An item on which workers die does not stop the others: a worker's death
        puts all its items under suspicion, so these run once more at the end, one at a time.

        Raises:
            UserError: workers died on an item that ran alone.
        """
        task = partial(_run_in, Path.cwd(), partial(_let_others_run, function))
        running: set[Any] = set()
        suspects: list[Item] = []

        def run(item: Item, alone: bool = False) -> list[Result]:
            future = self.client.submit(task, item, pure=False, retries=0)
            running.add(future)
            try:
                while True:
                    try:
                        found: list[Result] = future.result(timeout=WAIT_S if alone else None)
                        return found
                    except TimeoutError:
                        if not self.client.nthreads():
                            raise self._deadly(
                                f"{len(suspects)} items ({_named(item)} was the last), and none is left"
                            ) from None
            finally:
                running.discard(future)

        def run_with_others(item: Item) -> list[Result]:
            try:
                return run(item)
            except self._distributed.scheduler.KilledWorker:
                suspects.append(item)
                return []

        def cancel() -> None:
            self.client.cancel(list(running))

        processes = max(1, len(self.client.nthreads()))  # there may be none while a lost one is replaced
        yield from concurrently(run_with_others, items, at_once * processes, cancel)
        deadly = []
        for item in suspects:
            try:
                with suppress(TimeoutError):  # one that dies before it has started is not replaced
                    self.client.wait_for_workers(processes, timeout=WAIT_S)
                yield from run(item, alone=True)
            except self._distributed.scheduler.KilledWorker:
                deadly.append(_named(item))
        if deadly:
            raise self._deadly(f"{len(deadly)} of {len(items)} items ({'; '.join(deadly[:5])})")

    def _deadly(self, where: str) -> UserError:
        return UserError(
            f"{ADDRESS}={self._address}: workers died on {where}; the others were computed. See the log of the "
            "workers; is their memory large enough?"
        )


def _library() -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise UserError(f"{ADDRESS} is set, but Dask is not installed: pip install 'streetrecall[cluster]'") from error
    return distributed


def _check_workers(client: Any, distributed: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WAIT_S)
    except (TimeoutError, distributed.TimeoutError) as error:
        raise UserError(f"{ADDRESS}={address}: the scheduler has no worker after {WAIT_S} s") from error
    here = _digest_of_all_code()
    for worker, digest in client.run(_digest_of_all_code).items():
        if digest != here:
            raise UserError(
                f"{ADDRESS}={address}: worker {worker} has other code of streetrecall; install the same there"
            )


def _digest_of_all_code() -> str:
    modules = (path.relative_to(PACKAGE.parent).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))
    return code_digest(*sorted(module.replace("/", ".").removesuffix(".__init__") for module in modules))


def _run_in(folder: Path, function: Callable[[Item], Result], item: Item) -> Result:
    """``function(item)`` in ``folder``, since paths in dvc.yaml are relative."""
    if Path.cwd() != folder:
        os.chdir(folder)
    return function(item)


def _let_others_run(function: Callable[[Item], Iterable[Result]], item: Item) -> list[Result]:
    """The results of ``function``, which waits more than it computes: the worker takes another task meanwhile."""
    _library().secede()
    return list(function(item))


def _named(item: object) -> str:
    text = str(item[0]) if isinstance(item, tuple) else str(item)
    return text if len(text) <= 80 else f"{text[:77]}..."
