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

    At most ``threads`` items are under way, so that little is lost when the process is killed. The first exception ends
    the work and is raised; ``abandon`` is called before, to wake the threads that wait. ``over`` ends the work too: no
    further item is begun, and what nobody has taken is lost.
    """
    todo = list(items)
    waiting, end = iter(todo), object()
    over = over or threading.Event()
    lock, room = threading.Lock(), threading.Semaphore(threads)  # for results that nobody has taken
    done: queue.SimpleQueue[R | _Ended] = queue.SimpleQueue()

    def run() -> None:
        error = None
        try:
            while not over.is_set():
                with lock:
                    item = next(waiting, end)
                if item is end:
                    return
                for result in work(item):  # type: ignore[arg-type]
                    while not room.acquire(timeout=_LOOK_S):
                        if over.is_set():
                            return
                    done.put(result)
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
            result = done.get()
            if isinstance(result, _Ended):
                if result.error is not None:
                    raise result.error
                left -= 1
            else:
                room.release()
                yield result
    except BaseException:
        over.set()
        abandon()
        raise
    finally:
        for thread in running:
            thread.join()
