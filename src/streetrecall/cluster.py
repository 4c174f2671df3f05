"""Work on the machines of a Dask cluster, whose scheduler `STREETRECALL_CLUSTER` names.

The machines share the project's folder under one path and have this program installed. Each keeps its own store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from streetrecall.errors import UserError
from streetrecall.imports import PACKAGE, code_digest

ADDRESS = "STREETRECALL_CLUSTER"
WAIT_S = 30  # for the scheduler to answer, and for a first worker

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_cluster(address: str, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """``function`` of each item, in the order of ``items``, computed by the workers of the scheduler at ``address``.

    A task may run twice, when a worker is lost; it must write whole files under names that depend on the item alone.
    An item whose task fails does not stop the others. Its error is raised in its turn; an item on which workers die is
    an error too.

    Raises:
        UserError: no scheduler or no worker answers, a worker has other code, or workers died on an item.
    """
    distributed = _library()
    try:
        client = distributed.Client(address, timeout=WAIT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{ADDRESS}={address}: no Dask scheduler answers there ({error})") from error
    with client:
        _check_workers(client, distributed, address)
        futures = client.map(partial(_run_in, Path.cwd(), function), list(items), pure=False, retries=0)
        for number, future in enumerate(futures):
            failed = future.exception()  # waits
            if failed is None:
                yield future.result()
                future.release()
                continue
            for other in futures[number + 1 :]:
                other.exception()
            if isinstance(failed, distributed.scheduler.KilledWorker):
                where = f"item {number + 1} of {len(items)} ({_named(items[number])})"
                raise UserError(
                    f"{ADDRESS}={address}: workers died on {where}; the others were computed. See the log of the "
                    "workers; is their memory large enough?"
                ) from failed
            raise failed


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


def _named(item: object) -> str:
    text = str(item[0]) if isinstance(item, tuple) else str(item)
    return text if len(text) <= 80 else f"{text[:77]}..."
