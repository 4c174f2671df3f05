"""Pictures of a viewer page by headless Chromium, driven by Selenium; several browsers side by side.

The page offers ``window.viewer``: ``show({pano, heading})`` changes the view without loading the page anew,
``dates(pano)`` is a promise of ``{lat, lng, copyright, dates: [{pano, date}]}``, and ``state`` is ``{pano, heading,
ready, frame, error, status, retryAfter}``: ``ready`` once exactly that view is on the screen, ``frame`` counts what has
been drawn, ``status`` and ``retryAfter`` are of the answer behind an error. A picture counts only if the page was ready
with the view asked for, and no frame was drawn until it had been taken. A page that cannot see all its frames sets
``still``, in milliseconds: then a picture counts only if all that were taken for so long before it are the same.
``lacks`` says what a view waits for, and ``denied`` that the service takes no request at all, and why.

A browser that crashes or hangs costs the try of the one view it was at, and is replaced. Should this process itself be
killed, a small helper process (`streetrecall.providers.browser.reaper`) ends its browsers and removes their profiles.
"""

from __future__ import annotations

import base64
import logging
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.base import Capture, View
from streetrecall.providers.browser import reaper
from streetrecall.providers.http import REFUSAL, Client, DeniedError, Stopped, retry_after

log = logging.getLogger(__name__)

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
STARTS = 3  # a browser that does not start so many times in a row ends the run
LONGEST_FOLDER = 24  # characters, of the folder for temporary files
GRACE_S = 5.0  # beyond the page's own limit, before a browser counts as hung

# Nothing but the viewer page is to be fetched, and a page that nobody looks at is to run at full speed.
FLAGS = (
    "--headless=new",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--password-store=basic",
    "--use-mock-keychain",
    "--force-color-profile=srgb",
    "--force-device-scale-factor=1",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-renderer-backgrounding",
    "--disable-sync",
    "--metrics-recording-only",
    "--disable-frame-rate-limit",
    "--disable-features=AutofillServerCommunication,CertificateTransparencyComponentUpdater,MediaRouter,"
    "NetworkTimeServiceQuerying,OptimizationHints,OptimizationGuideModelDownloading,Translate",
)

# Waits for the page, then for what it makes of ``begin``, a promise, until ``end`` finds a result.
_WAIT = """
const frame = () => new Promise(requestAnimationFrame);
async function until(limit, begin, end) {
  const last = performance.now() + limit;
  let over = null;
  for (let begun = false; ; await frame()) {
    const viewer = window.viewer, state = viewer && viewer.state;
    if (state && state.denied) return {denied: String(state.denied)};
    if (viewer && !begun) {
      begun = true;
      begin(viewer).then(value => { over = {value}; }, e => {
        over = {error: String(e && e.message || e), status: e && e.status, retryAfter: e && e.retryAfter};
      });
    }
    const result = over && over.error !== undefined ? over : viewer && end(state, over);
    if (result) return result;
    if (performance.now() > last) {
      return {error: !viewer ? "the viewer page did not start" :
        "there was no answer in time" + (state.lacks ? ": " + state.lacks + " did not come" : "")};
    }
  }
}
"""

# ``again`` is false where the view was asked for already and is only to come to rest.
SHOW = (
    _WAIT
    + """
const [pano, heading, again, limit, done] = arguments;
const shows = s => s.pano === pano && Math.abs(((s.heading - heading) % 360 + 540) % 360 - 180) < 1e-6;
until(limit, viewer => again ? viewer.show({pano, heading}) : Promise.resolve(), s => {
  if (!shows(s)) return null;
  if (s.error) return {error: String(s.error), status: s.status, retryAfter: s.retryAfter};
  return s.ready ? {frame: s.frame, still: s.still || 0} : null;
}).then(done);
"""
)

DATES = (
    _WAIT
    + """
const [pano, limit, done] = arguments;
until(limit, viewer => viewer.dates(pano), (s, over) => over && {dates: over.value}).then(done);
"""
)

STATE = """
const [pano, heading] = arguments, s = window.viewer && window.viewer.state;
return !!s && s.ready && !s.error && s.pano === pano &&
  Math.abs(((s.heading - heading) % 360 + 540) % 360 - 180) < 1e-6 ? s.frame : null;
"""


class TroubleWithBrowserError(Exception):
    """The browser cannot go on and must be replaced."""


def find_browser() -> str | None:
    """Path of Chromium or Chrome: ``STREETRECALL_CHROMIUM``, else the first that is found on PATH."""
    named = os.environ.get("STREETRECALL_CHROMIUM")
    if named:
        if not shutil.which(named):
            raise UserError(f"STREETRECALL_CHROMIUM: there is no program {named}")
        return shutil.which(named)
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def arguments(profile: str, viewer: str, proxy: str | None, isolated: bool) -> list[str]:
    """Chromium's command line for a viewer page at the URL ``viewer``, through ``proxy`` if there is one.

    ``isolated``: the page is on loopback and needs no other host, so none is asked or even looked up, whatever
    Chromium and its packagers would like to know. Otherwise a page on loopback is fetched without the proxy, and all
    that it asks for goes through it.
    """
    flags = [*FLAGS, f"--user-data-dir={profile}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # as root Chromium starts in no other way
    reached = [urlsplit(viewer).hostname]
    if proxy is not None:
        parts = urlsplit(proxy)
        if parts.username:
            raise UserError(
                "STREETRECALL_PROXIES: Chromium takes no proxy with a password; use one that knows this machine"
            )
        reached.append(parts.hostname)
        flags.append(f"--proxy-server={proxy}")
        if isolated:
            # The later rule wins: loopback goes through the proxy; all else is asked directly, and so not found.
            flags.append("--proxy-bypass-list=*;<-loopback>")
    elif isolated:
        flags.append("--no-proxy-server")
    if isolated:
        flags.append("--host-resolver-rules=MAP * ~NOTFOUND, " + ", ".join(f"EXCLUDE {host}" for host in reached))
    return flags


class Browser:
    """One Chromium with one page. Used by one thread; `kill` may be called by any.

    Raises:
        TroubleWithBrowserError: it does not start.
    """

    def __init__(self, params: Params, folder: Path, viewer: str, proxy: str | None, isolated: bool) -> None:
        self._params, self._folder, self._viewer, self.proxy = params, folder, viewer, proxy
        self._at_page = False
        self.captures = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)  # by step
        self._picture = {"format": "jpeg", "quality": params.scrape.quality, "optimizeForSpeed": True}
        folder.mkdir(parents=True)
        options = webdriver.ChromeOptions()
        options.page_load_strategy = "eager"
        options.ignore_local_proxy_environment_variables()
        path = find_browser()
        if path is not None:
            options.binary_location = path
        for flag in arguments(str(folder / "profile"), viewer, proxy, isolated):
            options.add_argument(flag)
        # Its own home, so that nothing of it stays behind, not even crash reports. The log's path marks the driver.
        environment = {
            **os.environ,
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "XDG_CACHE_HOME": str(folder),
            "TMPDIR": str(folder),
            "SE_AVOID_STATS": "true",
        }
        driver = shutil.which("chromedriver")
        if driver is not None:
            environment["SE_OFFLINE"] = os.environ["SE_OFFLINE"] = "true"
        os.environ["SE_AVOID_STATS"] = "true"
        service = Service(
            driver,
            service_args=[f"--log-path={folder / 'driver.log'}", "--log-level=SEVERE"],
            env=environment,
            popen_kw={"start_new_session": True},
        )
        try:
            self._driver = webdriver.Chrome(options=options, service=service)
            self._driver.set_page_load_timeout(params.network.ready_s)
            self._driver.set_script_timeout(params.network.ready_s + GRACE_S / 2)
            self._driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {
                    "width": params.scrape.width,
                    "height": params.scrape.height,
                    "deviceScaleFactor": 1,
                    "mobile": False,
                },
            )
        except Exception as error:
            self.kill()
            raise TroubleWithBrowserError(_first_line(error)) from None

    def take(self, view: View) -> Capture:
        """The picture of ``view``, or why there is none.

        Raises:
            DeniedError: the service takes no request at all.
            TroubleWithBrowserError: the browser crashed or hangs.
        """
        self.captures += 1
        pano, heading = view.panorama.pano_id, view.heading_deg
        before, since = "", 0.0
        with self._guarded():
            self._load()
            last = time.monotonic() + self._params.network.ready_s
            while not before or time.monotonic() < last:
                with self._timed("show"):
                    shown = self._ask(SHOW, pano, heading, not before)
                if "error" in shown:
                    return Capture(view, data=b"", **_failure(shown))
                with self._timed("screenshot"):
                    shot = self._driver.execute_cdp_cmd("Page.captureScreenshot", self._picture)["data"]
                with self._timed("proof"):
                    frame = self._driver.execute_script(STATE, pano, heading)
                now = time.monotonic()
                if frame != shown["frame"] or shot != before:
                    since = now
                if frame == shown["frame"] and now - since >= shown["still"] / 1000:
                    return Capture(view, "ok", "", base64.b64decode(shot))
                before = shot
            self._at_page = False
            return Capture(view, "failed", "the picture never came to rest", b"", temporary=True)

    def dates(self, pano: str) -> Dates:
        """All dates of the place of the panorama ``pano``, or why they cannot be had.

        Raises:
            DeniedError, TroubleWithBrowserError: as `take`.
        """
        with self._guarded():
            self._load()
            told = self._ask(DATES, pano)
            return Dates(pano, **_failure(told)) if "error" in told else Dates(pano, "ok", "", told["dates"])

    def _load(self) -> None:
        """The page, bare: without street names and whatever else lies over the picture, and without a view yet."""
        if not self._at_page:
            with self._timed("page load"):
                self._driver.get(f"{self._viewer}?labels=0&ui=0")
            self._at_page = True

    def _ask(self, script: str, *values: object) -> dict[str, Any]:
        """What the page says; after an error it is loaded anew before it is asked for more."""
        told = self._driver.execute_async_script(script, *values, self._params.network.ready_s * 1000)
        self._at_page = "error" not in told
        if "denied" in told:
            raise DeniedError(told["denied"])
        return dict(told)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except DeniedError:
            raise
        except WebDriverException as error:
            raise TroubleWithBrowserError(_first_line(error)) from None
        except Exception as error:  # the driver's connection: urllib3 and http.client have many words for its end
            raise TroubleWithBrowserError(f"the browser is gone ({type(error).__name__})") from None

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start

    def kill(self) -> None:
        """End the browser and its driver at once, and remove its profile."""
        reaper.kill(f"{self._folder}/")
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True)
class Dates:
    """What came of asking for a place's dates: ``body`` is the page's answer, and the rest is as in `Capture`."""

    pano: str
    status: str  # ok, gone or failed
    reason: str
    body: Any = None
    temporary: bool = False
    retry_after_s: float = 0.0
    refused: bool = False


def _failure(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a page's error means: gone for good if the service knows the panorama no more, else worth another try."""
    status = told.get("status")
    if status in (404, 410):
        return {"status": "gone", "reason": str(told["error"])}
    return {
        "status": "failed",
        "reason": str(told["error"]),
        "temporary": True,
        "retry_after_s": retry_after(told.get("retryAfter"), time.time()),
        "refused": status in REFUSAL,
    }


@dataclass
class _Worker:
    """A thread and the browser that it has now; ``busy_until`` is when its browser counts as hung."""

    browser: Browser | None = None
    busy_until: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Browsers:
    """Takes pictures by ``network.browsers`` browsers; they stay open between calls of `capture`.

    Args:
        viewer: URL of the page; on loopback, unless through a proxy.
        host: that the page asks, and whose turn each picture waits for.
        isolated: see `arguments`.
    """

    def __init__(self, params: Params, viewer: str, host: str, client: Client, isolated: bool) -> None:
        if find_browser() is None and shutil.which("chromedriver") is not None:
            raise UserError(
                "there is a chromedriver but no Chromium or Chrome on PATH: install it (Debian: apt-get install "
                "chromium chromium-driver), or name it in STREETRECALL_CHROMIUM"
            )
        self._params, self._viewer, self._client, self._isolated = params, viewer, client, isolated
        self._host = host
        # Chromium puts a socket below its temporary folder, and a socket's path may have 103 characters at most.
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

    def capture(self, views: Iterable[View]) -> Iterator[Capture]:
        """One answer for each of ``views``, in any order; the views of one panorama are taken together.

        Raises:
            DeniedError: the service takes no request at all.
            UserError: no browser can be started, or the service kept refusing.
        """
        ordered = sorted(views, key=lambda v: (v.place, v.date_index, v.panorama.pano_id, v.direction))
        yield from self._run([list(g) for _, g in groupby(ordered, key=lambda v: (v.place, v.panorama.pano_id))])

    def dates(self, panos: Iterable[str]) -> Iterator[Dates]:
        """The last answer for each of ``panos``, in any order, after as many tries as params.yaml allows.

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
        """One answer for each View (a Capture) or panorama's id (a Dates); those of a group by one browser."""
        todo: queue.SimpleQueue[Sequence[View | str]] = queue.SimpleQueue()
        done: queue.SimpleQueue[Capture | Dates | BaseException] = queue.SimpleQueue()
        count = 0
        for group in groups:
            count += len(group)
            todo.put(group)
        self._threads = [
            threading.Thread(target=self._work, args=(worker, todo, done), name=f"browser-{i}", daemon=True)
            for i, worker in enumerate(self._workers)
        ]
        for thread in self._threads:
            thread.start()
        try:
            looked = time.monotonic()
            while count:
                result = None
                with suppress(queue.Empty):
                    result = done.get(timeout=1.0)
                if time.monotonic() - looked >= 1.0:
                    self._end_hung()
                    looked = time.monotonic()
                if result is None:
                    continue
                if isinstance(result, BaseException):
                    raise result
                count -= 1
                yield result
        finally:
            if count:
                self._end()
            for thread in self._threads:
                thread.join()

    def _end(self) -> None:
        """Stop the threads, whatever they are at; there is no going on after this."""
        self._stop.set()
        self._client.stop()
        while any(thread.is_alive() for thread in self._threads):
            reaper.kill(f"{self._folder}/")
            for thread in self._threads:
                thread.join(0.1)

    def _end_hung(self) -> None:
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
        todo: queue.SimpleQueue[Sequence[View | str]],
        done: queue.SimpleQueue[Capture | Dates | BaseException],
    ) -> None:
        try:
            while not self._stop.is_set():
                try:
                    group = todo.get_nowait()
                except queue.Empty:
                    return
                for wish in group:
                    if self._stop.is_set():
                        return
                    self._client.pace(self._host)
                    done.put(self._judged(self._answer(worker, wish)))
        except BaseException as error:
            done.put(error)

    def _answer(self, worker: _Worker, wish: View | str) -> Capture | Dates:
        if worker.browser is not None and worker.browser.captures >= self._params.network.recycle_captures:
            self._replace(worker)
        if worker.browser is None:
            fresh = self._start()
            with worker.lock:
                worker.browser = fresh
        browser = worker.browser
        answer: Capture | Dates
        try:
            with worker.lock:
                worker.busy_until = time.monotonic() + 2 * self._params.network.ready_s + GRACE_S
            answer = browser.take(wish) if isinstance(wish, View) else browser.dates(wish)
        except TroubleWithBrowserError as trouble:
            failure = _failure({"error": f"browser: {trouble}"})
            answer = Capture(wish, data=b"", **failure) if isinstance(wish, View) else Dates(wish, **failure)
            self._replace(worker)
        finally:
            with worker.lock:
                worker.busy_until = None
        if answer.temporary and browser.proxy is not None and not _reachable(browser.proxy):
            self._client.proxies.unreachable(browser.proxy)
            if worker.browser is not None:
                self._replace(worker)
        return answer

    def _judged(self, answer: Capture | Dates) -> Capture | Dates:
        if answer.refused:
            self._client.breaker.refused(answer.reason, answer.retry_after_s)
            self._client.hold(self._host, answer.retry_after_s)
        elif answer.status in ("ok", "gone"):
            self._client.breaker.accepted()
        else:
            self._client.breaker.undecided()
        return answer

    def _replace(self, worker: _Worker) -> None:
        with worker.lock:
            if worker.browser is not None:
                worker.browser.kill()
            worker.browser = None

    def _start(self) -> Browser:
        problem = ""
        for _ in range(STARTS):
            if self._stop.is_set():
                raise Stopped("the run has ended")
            with self._count_lock:
                self._started += 1
                folder = self._folder / str(self._started)
            try:
                return Browser(self._params, folder, self._viewer, self._client.proxies.current, self._isolated)
            except TroubleWithBrowserError as trouble:
                problem = str(trouble)
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


def _first_line(error: BaseException) -> str:
    """The gist of a driver's error: it goes on with a stack of addresses, and may hold URLs."""
    text = str(getattr(error, "msg", None) or error).strip().splitlines()
    return re.sub(r"https?://\S+", "URL", text[0])[:200] if text else type(error).__name__
