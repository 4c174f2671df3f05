"""Many requests at a time, by threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S = 0.1  # how soon a thread whose result nobody takes notices the end of the work


class _Ended:
    """A thread has ended, by ``error`` if that is not None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def concurrently(
    work: Callable[[T], Iterable[R]],
    items: Iterable[T],
    threads: int,
    abandon: Callable[[], None],
    over: threading.Event | None = None,
) -> Iterator[R]:
    """The results of ``work`` on every item by that many threads, each as soon as it is there, in any order.

    A thread goes on only when the caller has asked for the result after its last one, and so has kept the last one. So
    a killed process loses at most one result of each thread. The first exception ends the work and is raised;
    ``abandon`` is called before, to wake the threads that wait. ``over`` ends the work too: no further item is begun,
    and what nobody has taken is lost.
    """
    todo = list(items)
    waiting, end = iter(todo), object()
    over = over or threading.Event()
    lock = threading.Lock()
    done: queue.SimpleQueue[tuple[R, threading.Semaphore] | _Ended] = queue.SimpleQueue()

    def run() -> None:
        error, kept = None, threading.Semaphore(0)
        try:
            while not over.is_set():
                with lock:
                    item = next(waiting, end)
                if item is end:
                    return
                for result in work(item):  # type: ignore[arg-type]
                    done.put((result, kept))
                    while not kept.acquire(timeout=_LOOK_S):
                        if over.is_set():
                            return
        except BaseException as caught:
            error = caught
        finally:
            done.put(_Ended(error))

    running = [threading.Thread(target=run, name=f"request-{n}", daemon=True) for n in range(min(threads, len(todo)))]
    for thread in running:
        thread.start()
    try:
        left = len(running)
        while left:
            message = done.get()
            if isinstance(message, _Ended):
                if message.error is not None:
                    raise message.error
                left -= 1
            else:
                result, kept = message
                yield result
                kept.release()
    except BaseException:
        over.set()
        abandon()
        raise
    finally:
        for thread in running:
            thread.join()
