"""Many requests at a time, by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def concurrently(work: Callable[[T], R], items: Iterable[T], threads: int, abandon: Callable[[], None]) -> Iterator[R]:
    """``work`` on every item by that many threads; yields each result as soon as it is there, in any order.

    At most ``threads`` items are under way, so that little is lost when the process is killed. The first exception ends
    the work and is raised; ``abandon`` is called before, to wake the threads that wait.
    """
    todo = deque(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="request") as pool:
        running: set[Future[R]] = set()
        try:
            while todo or running:
                while todo and len(running) < threads:
                    running.add(pool.submit(work, todo.popleft()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BaseException:
            abandon()
            raise
