"""Many requests at a time, by threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S = 0.1  # how soon a thread that cannot hand over its result notices the end of the work


class _Ended:
    """A thread has ended, with ``error`` if there was one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def concurrently(
    work: Callable[[T], Iterable[R]], items: Iterable[T], threads: int, abandon: Callable[[], None]
) -> Iterator[R]:
    """The results of ``work`` on every item by that many threads, each as soon as it is there, in any order.

    At most ``threads`` items are under way, so that little is lost when the process is killed. The first exception ends
    the work and is raised; ``abandon`` is called before, to wake the threads that wait.
    """
    todo = list(items)
    waiting = iter(todo)
    lock, over = threading.Lock(), threading.Event()
    done: queue.Queue[R | _Ended] = queue.Queue(maxsize=threads)

    def put(result: R | _Ended) -> None:
        while not over.is_set():
            try:
                done.put(result, timeout=_LOOK_S)
                return
            except queue.Full:
                continue

    def run() -> None:
        try:
            while not over.is_set():
                with lock:
                    item = next(waiting, done)  # the queue is no item
                if item is done:
                    break
                for result in work(item):  # type: ignore[arg-type]
                    put(result)
                    if over.is_set():
                        break
        except BaseException as error:
            put(_Ended(error))
        else:
            put(_Ended())

    running = [threading.Thread(target=run, name=f"request-{n}", daemon=True) for n in range(min(threads, len(todo)))]
    for thread in running:
        thread.start()
    try:
        left = len(running)
        while left:
            result = done.get()
            if not isinstance(result, _Ended):
                yield result
                continue
            if result.error is not None:
                raise result.error
            left -= 1
    except BaseException:
        over.set()
        abandon()
        raise
    finally:
        for thread in running:
            thread.join()
