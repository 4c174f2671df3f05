"""Work on several processor cores, or on a cluster, whose results come in order whatever computes them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from streetrecall.cluster import ADDRESS, Cluster

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], use_processes: bool = True
) -> Iterator[Result]:
    """``function`` of each item, in the order of ``items``, computed on all cores.

    ``use_processes`` false computes here, which is faster for little work because a process takes seconds to start.
    Function, items and results must be picklable. Where ``STREETRECALL_CLUSTER`` names the scheduler of a Dask cluster,
    its workers compute: see `streetrecall.cluster.Cluster`.

    >>> list(map_in_order(abs, [-1, 2], use_processes=False))
    [1, 2]
    """
    address = os.environ.get(ADDRESS)
    if address and use_processes:
        with Cluster(address) as cluster:
            yield from cluster.in_order(function, items)
        return
    processes = min(available_cores(), len(items))
    if not use_processes or processes <= 1:
        yield from map(function, items)
        return
    # Spawn, because a fork would copy the threads and locks of the caller.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, items)
