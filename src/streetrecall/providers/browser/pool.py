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
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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
class _Seat:
    """Where one browser is open at a time, for one thread at a time."""

    browser: Browser | None = None


class BrowserPool:
    """Answers requests by ``network.browsers`` browsers, which stay open until `close`. Safe for threads.

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
        self._seats = [_Seat() for _ in range(params.network.browsers)]
        self._free: queue.SimpleQueue[_Seat] = queue.SimpleQueue()
        for seat in self._seats:
            self._free.put(seat)
        self._started = 0
        self._count_lock = threading.Lock()
        self._stop = threading.Event()

    def close(self) -> None:
        """End all browsers; returns when none of their processes is left."""
        self.end()
        if self._reaper.stdin is not None and not self._reaper.stdin.closed:
            self._reaper.stdin.close()
        self._reaper.wait()

    def seconds(self) -> dict[str, float]:
        """Seconds by step, summed over the browsers that are open."""
        total: dict[str, float] = defaultdict(float)
        for seat in self._seats:
            for step, spent in (seat.browser.seconds if seat.browser else {}).items():
                total[step] += spent
        return dict(total)

    def answers(self, group: Iterable[Request]) -> Iterator[Result]:
        """One result for each request of ``group``, all by one browser, in order; fewer after `end`.

        Raises:
            DeniedError: the service accepts no request at all.
            UserError: no browser can be started, or the service kept refusing.
        """
        seat = self._free.get()
        try:
            for request in group:
                if self._stop.is_set():
                    return
                self._client.pace(self._host)
                result = self._answer(seat, request)
                self._tell_breaker(result)
                yield result
        finally:
            self._free.put(seat)

    def end(self) -> None:
        """End all browsers, whatever they are doing; returns when no thread uses one. No other one is started."""
        self._stop.set()
        self._client.stop()
        for _ in self._seats:  # each is taken back from the thread that has it
            while True:
                reaper.kill(f"{self._folder}/")
                with suppress(queue.Empty):
                    self._free.get(timeout=0.1)
                    break
        for seat in self._seats:  # for threads that wait for one, and then see that the work has ended
            self._free.put(seat)

    def _answer(self, seat: _Seat, request: Request) -> Result:
        if seat.browser is not None and seat.browser.captures >= self._params.network.recycle_captures:
            self._discard_browser(seat)
        if seat.browser is None:
            seat.browser = self._start()
        browser = seat.browser
        result: Result
        hung = threading.Timer(longest_s(self._params), self._kill_hung, [browser])
        hung.daemon = True
        hung.start()
        try:
            result = browser.take(request) if isinstance(request, CaptureRequest) else browser.dates(request)
        except BrowserError as error:
            failed = failure({"error": f"browser: {error}"})
            result = (
                Capture(request, data=b"", **failed)
                if isinstance(request, CaptureRequest)
                else Dates(request, **failed)
            )
            self._discard_browser(seat)
        finally:
            hung.cancel()
        if result.temporary and browser.proxy is not None and not _reachable(browser.proxy):
            self._client.proxies.unreachable(browser.proxy)
            self._discard_browser(seat)
        return result

    def _kill_hung(self, browser: Browser) -> None:
        log.warning("a browser hangs; it is replaced")
        browser.kill()

    def _tell_breaker(self, result: Result) -> None:
        if result.refused:
            self._client.turns.refused(self._host, result.reason, result.retry_after_s)
        elif result.status in (CaptureStatus.OK, CaptureStatus.GONE):
            self._client.turns.accepted()
        else:
            self._client.turns.undecided()

    def _discard_browser(self, seat: _Seat) -> None:
        """End the browser; the next request starts another one."""
        if seat.browser is not None:
            seat.browser.kill()
        seat.browser = None

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
