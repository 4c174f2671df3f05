"""Several browsers side by side.

A browser that crashes or hangs costs one try of the one picture it was taking, and is replaced. If this process itself
is killed, a helper process (`streetrecall.providers.browser.reaper`) ends its browsers and removes their profiles.
"""

from __future__ import annotations

import logging
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.base import Capture, CaptureRequest
from streetrecall.providers.browser import reaper
from streetrecall.providers.browser.browser import Browser, BrowserError, Dates, failure, longest_s
from streetrecall.providers.browser.chromium import find_browser
from streetrecall.providers.http import Client, StoppedError
from streetrecall.tables import CaptureStatus

log = logging.getLogger(__name__)

STARTS = 3  # the run ends when a browser does not start this many times in a row
LONGEST_FOLDER = 24  # characters of the folder for temporary files

Request = CaptureRequest | str  # a picture, or the dates of the place of a panorama
Result = Capture | Dates


@dataclass
class _Worker:
    """A thread and its current browser; after ``busy_until`` the browser counts as hung."""

    browser: Browser | None = None
    busy_until: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class BrowserPool:
    """Takes pictures by ``network.browsers`` browsers, which stay open between calls of `capture`.

    Args:
        viewer: URL of the page; on loopback, unless through a proxy.
        host: the host that the page asks; each picture waits for its token bucket.
        isolated: see `streetrecall.providers.browser.chromium.arguments`.
    """

    def __init__(self, params: Params, viewer: str, host: str, client: Client, isolated: bool) -> None:
        if find_browser() is None and shutil.which("chromedriver") is not None:
            raise UserError(
                "there is a chromedriver but no Chromium or Chrome on PATH: install it (Debian: apt-get install "
                "chromium chromium-driver), or name it in STREETRECALL_CHROMIUM"
            )
        self._params, self._viewer, self._client, self._isolated = params, viewer, client, isolated
        self._host = host
        # Chromium makes a socket below its temporary folder, and the path of a socket has 103 characters at most.
        short = None if len(tempfile.gettempdir()) <= LONGEST_FOLDER else "/tmp"
        self._folder = Path(tempfile.mkdtemp(prefix="streetrecall-browser-", dir=short))
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", reaper.__file__, str(self._folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._workers = [_Worker() for _ in range(params.network.browsers)]
        self._started = 0
        self._count_lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def close(self) -> None:
        """End all browsers; returns when none of their processes is left."""
        self._end()
        if self._reaper.stdin is not None and not self._reaper.stdin.closed:
            self._reaper.stdin.close()
        self._reaper.wait()

    def seconds(self) -> dict[str, float]:
        """Seconds by step, summed over the browsers that are open."""
        total: dict[str, float] = defaultdict(float)
        for worker in self._workers:
            for step, spent in (worker.browser.seconds if worker.browser else {}).items():
                total[step] += spent
        return dict(total)

    def capture(self, requests: Iterable[CaptureRequest]) -> Iterator[Capture]:
        """One result for each of ``requests``, in any order; the directions of one panorama are taken together.

        Raises:
            DeniedError: the service accepts no request at all.
            UserError: no browser can be started, or the service kept refusing.
        """
        ordered = sorted(requests, key=lambda r: (r.place, r.date_index, r.panorama.pano_id, r.direction))
        yield from self._run([list(g) for _, g in groupby(ordered, key=lambda r: (r.place, r.panorama.pano_id))])

    def dates(self, panos: Iterable[str]) -> Iterator[Dates]:
        """The last answer for each of ``panos``, in any order, after at most ``network.tries`` tries.

        Raises:
            DeniedError, UserError: as `capture`.
        """
        limits = self._client.limits
        due = list(panos)
        for attempt in range(1, limits.tries + 1):
            again = []
            for answer in self._run([[pano] for pano in due]):
                if answer.temporary and attempt < limits.tries:
                    again.append(answer)
                else:
                    yield answer
            if not again:
                return
            due = [answer.pano for answer in again]
            self._client.hold(self._host, self._client.backoff(attempt, max(a.retry_after_s for a in again)))

    def _run(self, groups: Sequence[Sequence[Any]]) -> Iterator[Any]:
        """One result for each request (a Capture for a CaptureRequest, a Dates for a panorama's id), in any order.

        The requests of a group go to one browser, in order.
        """
        todo: queue.SimpleQueue[Sequence[Request]] = queue.SimpleQueue()
        done: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        left = 0
        for group in groups:
            left += len(group)
            todo.put(group)
        self._threads = [
            threading.Thread(target=self._work, args=(worker, todo, done), name=f"browser-{i}", daemon=True)
            for i, worker in enumerate(self._workers)
        ]
        for thread in self._threads:
            thread.start()
        try:
            checked = time.monotonic()
            while left:
                result = None
                with suppress(queue.Empty):
                    result = done.get(timeout=1.0)
                if time.monotonic() - checked >= 1.0:
                    self._kill_hung()
                    checked = time.monotonic()
                if result is None:
                    continue
                if isinstance(result, BaseException):
                    raise result
                left -= 1
                yield result
        finally:
            if left:
                self._end()
            for thread in self._threads:
                thread.join()

    def _end(self) -> None:
        """Stop the threads, whatever they are doing. The pool cannot be used after this."""
        self._stop.set()
        self._client.stop()
        while any(thread.is_alive() for thread in self._threads):
            reaper.kill(f"{self._folder}/")
            for thread in self._threads:
                thread.join(0.1)

    def _kill_hung(self) -> None:
        for worker in self._workers:
            with worker.lock:
                if (
                    worker.browser is not None
                    and worker.busy_until is not None
                    and time.monotonic() > worker.busy_until
                ):
                    log.warning("a browser hangs; it is replaced")
                    worker.busy_until = None
                    worker.browser.kill()

    def _work(
        self,
        worker: _Worker,
        todo: queue.SimpleQueue[Sequence[Request]],
        done: queue.SimpleQueue[Result | BaseException],
    ) -> None:
        """What each thread does: take groups of requests until there are no more."""
        try:
            while not self._stop.is_set():
                try:
                    group = todo.get_nowait()
                except queue.Empty:
                    return
                for request in group:
                    if self._stop.is_set():
                        return
                    self._client.pace(self._host)
                    result = self._answer(worker, request)
                    self._tell_breaker(result)
                    done.put(result)
        except BaseException as error:
            done.put(error)

    def _answer(self, worker: _Worker, request: Request) -> Result:
        if worker.browser is not None and worker.browser.captures >= self._params.network.recycle_captures:
            self._discard_browser(worker)
        if worker.browser is None:
            fresh = self._start()
            with worker.lock:
                worker.browser = fresh
        browser = worker.browser
        result: Result
        try:
            with worker.lock:
                worker.busy_until = time.monotonic() + longest_s(self._params)
            result = browser.take(request) if isinstance(request, CaptureRequest) else browser.dates(request)
        except BrowserError as error:
            failed = failure({"error": f"browser: {error}"})
            result = (
                Capture(request, data=b"", **failed)
                if isinstance(request, CaptureRequest)
                else Dates(request, **failed)
            )
            self._discard_browser(worker)
        finally:
            with worker.lock:
                worker.busy_until = None
        if result.temporary and browser.proxy is not None and not _reachable(browser.proxy):
            self._client.proxies.unreachable(browser.proxy)
            self._discard_browser(worker)
        return result

    def _tell_breaker(self, result: Result) -> None:
        if result.refused:
            self._client.breaker.refused(result.reason, result.retry_after_s)
            self._client.hold(self._host, result.retry_after_s)
        elif result.status in (CaptureStatus.OK, CaptureStatus.GONE):
            self._client.breaker.accepted()
        else:
            self._client.breaker.undecided()

    def _discard_browser(self, worker: _Worker) -> None:
        """End the worker's browser; the next request starts another one."""
        with worker.lock:
            if worker.browser is not None:
                worker.browser.kill()
            worker.browser = None

    def _start(self) -> Browser:
        problem = ""
        for _ in range(STARTS):
            if self._stop.is_set():
                raise StoppedError("the run has ended")
            with self._count_lock:
                self._started += 1
                folder = self._folder / str(self._started)
            try:
                return Browser(self._params, folder, self._viewer, self._client.proxies.current, self._isolated)
            except BrowserError as error:
                problem = str(error)
        raise UserError(
            f"no browser can be started: {problem}. Install Chromium and its driver (Debian: apt-get install chromium "
            "chromium-driver) or Google Chrome; STREETRECALL_CHROMIUM names one that is not on PATH"
        )


def _reachable(proxy: str) -> bool:
    parts = urlsplit(proxy)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=5):
            return True
    except OSError:
        return False
