"""Pictures of a viewer page by headless Chromium, driven by Selenium; several browsers side by side.

The page offers ``window.viewer.show({pano, heading})``, which changes the view without loading the page anew, and
``window.viewer.state`` = ``{pano, heading, ready, frame, error, status, retryAfter}``: ``ready`` once exactly that view
is on the screen, ``frame`` counts what has been drawn, ``status`` and ``retryAfter`` are of the answer behind an error.
A picture counts only if the page was ready with the view asked for, and no frame was drawn until it had been taken.

A browser that crashes or hangs costs the try of the one view it was at, and is replaced. Should this process itself be
killed, a small helper process (`streetrecall.providers.reaper`) ends its browsers and removes their profiles.
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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from urllib.parse import quote, urlsplit

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service

from streetrecall.errors import UserError
from streetrecall.params import Params
from streetrecall.providers import reaper
from streetrecall.providers.base import Capture, View
from streetrecall.providers.http import REFUSAL, Client, Stopped, retry_after

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

# Shows a view unless the page is at it already (a page is loaded with its first view), and waits for its word.
SHOW = """
const [pano, heading, limit, done] = arguments;
const end = performance.now() + limit;
const later = ms => new Promise(resolve => setTimeout(resolve, ms));
const frame = () => new Promise(requestAnimationFrame);
const shows = s => s && s.pano === pano && Math.abs(((s.heading - heading) % 360 + 540) % 360 - 180) < 1e-6;
(async () => {
  while (!window.viewer && performance.now() < end) await frame();
  if (!window.viewer) return {error: "the viewer page did not start"};
  const now = window.viewer.state;
  if (!shows(now) || now.error) {
    await Promise.race([window.viewer.show({pano, heading}), later(end - performance.now())]);
  }
  for (;;) {
    const s = window.viewer.state;
    if (shows(s) && s.error) return {error: String(s.error), status: s.status, retryAfter: s.retryAfter};
    if (shows(s) && s.ready) return {frame: s.frame};
    if (performance.now() > end) return {error: "the view was not ready in time"};
    await frame();
  }
})().then(done, e => done({error: "the viewer page failed: " + e}));
"""

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
    Chromium and its packagers would like to know.
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
        # The later rule wins: loopback goes through the proxy; all else is asked directly, and so not found.
        flags += [f"--proxy-server={proxy}", f"--proxy-bypass-list={'*;' if isolated else ''}<-loopback>"]
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
            TroubleWithBrowserError: the browser crashed or hangs.
        """
        self.captures += 1
        pano, heading = view.panorama.pano_id, view.heading_deg
        try:
            if not self._at_page:
                with self._timed("page load"):
                    self._driver.get(f"{self._viewer}?pano={quote(pano, safe='')}&heading={heading:g}&labels=0&ui=0")
                self._at_page = True
            for _ in range(self._params.network.tries):
                with self._timed("show"):
                    shown = self._driver.execute_async_script(SHOW, pano, heading, self._params.network.ready_s * 1000)
                if "error" in shown:
                    self._at_page = False
                    return outcome(view, str(shown["error"]), shown.get("status"), shown.get("retryAfter"))
                with self._timed("screenshot"):
                    shot = self._driver.execute_cdp_cmd("Page.captureScreenshot", self._picture)
                with self._timed("proof"):
                    frame = self._driver.execute_script(STATE, pano, heading)
                if frame == shown["frame"]:
                    return Capture(view, "ok", "", base64.b64decode(shot["data"]))
            self._at_page = False
            return Capture(view, "failed", "the picture never came to rest", b"", temporary=True)
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


def outcome(view: View, error: str, status: int | None, wait: str | None) -> Capture:
    """What a page's error means: gone for good if the service knows the panorama no more, else worth another try."""
    if status in (404, 410):
        return Capture(view, "gone", error, b"")
    return Capture(
        view,
        "failed",
        error,
        b"",
        temporary=True,
        retry_after_s=retry_after(wait, time.time()),
        refused=status in REFUSAL,
    )


@dataclass
class _Worker:
    """A thread and the browser that it has now; ``busy_until`` is when its browser counts as hung."""

    browser: Browser | None = None
    busy_until: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Browsers:
    """Takes pictures by ``network.browsers`` browsers; they stay open between calls of `capture`.

    ``isolated``: see `arguments`.
    """

    def __init__(self, params: Params, viewer: str, client: Client, isolated: bool) -> None:
        if find_browser() is None and shutil.which("chromedriver") is not None:
            raise UserError(
                "there is a chromedriver but no Chromium or Chrome on PATH: install it (Debian: apt-get install "
                "chromium chromium-driver), or name it in STREETRECALL_CHROMIUM"
            )
        self._params, self._viewer, self._client, self._isolated = params, viewer, client, isolated
        self._host = urlsplit(viewer).netloc
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
            UserError: no browser can be started, or the service kept refusing.
        """
        todo: queue.SimpleQueue[list[View]] = queue.SimpleQueue()
        done: queue.SimpleQueue[Capture | BaseException] = queue.SimpleQueue()
        count = 0
        ordered = sorted(views, key=lambda v: (v.place, v.date_index, v.panorama.pano_id, v.slot))
        for _, group in groupby(ordered, key=lambda v: (v.place, v.panorama.pano_id)):
            together = list(group)
            count += len(together)
            todo.put(together)
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
        todo: queue.SimpleQueue[list[View]],
        done: queue.SimpleQueue[Capture | BaseException],
    ) -> None:
        try:
            while not self._stop.is_set():
                try:
                    views = todo.get_nowait()
                except queue.Empty:
                    return
                for view in views:
                    if self._stop.is_set():
                        return
                    self._client.pace(self._host)
                    done.put(self._judged(self._take(worker, view)))
        except BaseException as error:
            done.put(error)

    def _take(self, worker: _Worker, view: View) -> Capture:
        if worker.browser is not None and worker.browser.captures >= self._params.network.recycle_captures:
            self._replace(worker)
        if worker.browser is None:
            fresh = self._start()
            with worker.lock:
                worker.browser = fresh
        browser = worker.browser
        try:
            with worker.lock:
                worker.busy_until = time.monotonic() + 2 * self._params.network.ready_s + GRACE_S
            capture = browser.take(view)
        except TroubleWithBrowserError as trouble:
            capture = Capture(view, "failed", f"browser: {trouble}", b"", temporary=True)
            self._replace(worker)
        finally:
            with worker.lock:
                worker.busy_until = None
        if capture.temporary and browser.proxy is not None and not _reachable(browser.proxy):
            self._client.proxies.unreachable(browser.proxy)
            if worker.browser is not None:
                self._replace(worker)
        return capture

    def _judged(self, capture: Capture) -> Capture:
        if capture.refused:
            self._client.breaker.refused(capture.reason, capture.retry_after_s)
            self._client.hold(self._host, capture.retry_after_s)
        elif capture.status in ("ok", "gone"):
            self._client.breaker.accepted()
        else:
            self._client.breaker.undecided()
        return capture

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
