"""One headless Chromium with one viewer page, driven by Selenium.

The page offers ``window.viewer``:

- ``show({pano, heading})`` changes the view without loading the page again;
- ``dates(pano)`` is a promise of ``{lat, lng, copyright, dates: [{pano, date}]}``;
- ``state`` is ``{pano, heading, ready, frame, error, status, retryAfter}``. ``ready`` is true once exactly that view is
  on the screen, ``frame`` counts the frames drawn, ``status`` and ``retryAfter`` are of the answer behind an error. A
  page that cannot see all its frames sets ``still``, in milliseconds. ``lacks`` names what the view waits for;
  ``denied`` says that the service accepts no request at all, and why.

A picture counts only if the page was ready with the requested view, and drew no frame until the picture was taken. With
``still``, all pictures taken in the last ``still`` milliseconds must also be equal.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service

from streetrecall.params.schema import Params
from streetrecall.providers.base import Capture, CaptureRequest
from streetrecall.providers.browser import reaper
from streetrecall.providers.browser.chromium import arguments, find_browser
from streetrecall.providers.browser.scripts import DATES, SHOW, STATE
from streetrecall.providers.http import REFUSED, DeniedError, retry_after
from streetrecall.tables import CaptureStatus

GRACE_S = 5.0  # added to the page's own limits


def longest_s(params: Params) -> float:
    """How long one request may take, in seconds; a browser that takes longer counts as hung."""
    return 2 * params.network.ready_s + GRACE_S


class BrowserError(Exception):
    """The browser cannot continue and must be replaced."""


@dataclass(frozen=True)
class Dates:
    """The result of asking for a place's dates: ``body`` is the page's answer, and the rest is as in `Capture`."""

    pano: str
    status: str  # ok, gone or failed
    reason: str
    body: Any = None
    temporary: bool = False
    retry_after_s: float = 0.0
    refused: bool = False


class Browser:
    """One Chromium with one page. Used by one thread; any thread may call `kill`.

    Args:
        folder: for the profile and all other files of the browser; it is made, and removed by `kill`.
        viewer: URL of the page.
        proxy, isolated: see `streetrecall.providers.browser.chromium.arguments`.

    Raises:
        BrowserError: it does not start.
    """

    def __init__(self, params: Params, folder: Path, viewer: str, proxy: str | None, isolated: bool) -> None:
        self._params, self._folder, self._viewer, self.proxy = params, folder, viewer, proxy
        self._at_page = False
        self.captures = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)  # by step
        self._picture = {"format": "jpeg", "quality": params.scrape.quality, "optimizeForSpeed": True}
        folder.mkdir(parents=True)
        options, service = self._options(isolated), _service(folder)
        try:
            self._driver = webdriver.Chrome(options=options, service=service)
            size = {"width": params.scrape.width, "height": params.scrape.height}
            self._driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride", {**size, "deviceScaleFactor": 1, "mobile": False}
            )
            self._driver.set_page_load_timeout(params.network.ready_s)  # not before: a start may take longer
            self._driver.set_script_timeout(params.network.ready_s + GRACE_S / 2)
        except Exception as error:
            self.kill()
            raise BrowserError(_first_line(error)) from None

    def _options(self, isolated: bool) -> webdriver.ChromeOptions:
        options = webdriver.ChromeOptions()
        options.page_load_strategy = "eager"
        options.ignore_local_proxy_environment_variables()
        path = find_browser()
        if path is not None:
            options.binary_location = path
        for flag in arguments(str(self._folder / "profile"), self._viewer, self.proxy, isolated):
            options.add_argument(flag)
        return options

    def take(self, request: CaptureRequest) -> Capture:
        """The picture that ``request`` asks for, or the reason why there is none.

        Raises:
            DeniedError: the service accepts no request at all.
            BrowserError: the browser crashed or hangs.
        """
        self.captures += 1
        pano, heading = request.panorama.pano_id, request.heading_deg
        before, since = "", 0.0
        with self._guarded():
            self._load()
            last = time.monotonic() + self._params.network.ready_s
            while not before or time.monotonic() < last:
                with self._timed("show"):
                    shown = self._ask(SHOW, pano, heading, not before)
                if "error" in shown:
                    return Capture(request, data=b"", **failure(shown))
                with self._timed("screenshot"):
                    shot = self._driver.execute_cdp_cmd("Page.captureScreenshot", self._picture)["data"]
                with self._timed("proof"):
                    frame = self._driver.execute_script(STATE, pano, heading)
                now = time.monotonic()
                if frame != shown["frame"] or shot != before:
                    since = now
                if frame == shown["frame"] and now - since >= shown["still"] / 1000:
                    return Capture(request, CaptureStatus.OK, "", base64.b64decode(shot))
                before = shot
            self._at_page = False
            return Capture(request, CaptureStatus.FAILED, "the picture kept changing", b"", temporary=True)

    def dates(self, pano: str) -> Dates:
        """All dates of the place of the panorama ``pano``, or the reason why they cannot be had.

        Raises:
            DeniedError, BrowserError: as `take`.
        """
        with self._guarded():
            self._load()
            answer = self._ask(DATES, pano)
            if "error" in answer:
                return Dates(pano, **failure(answer))
            return Dates(pano, CaptureStatus.OK, "", answer["dates"])

    def _load(self) -> None:
        """Load the page without street names and controls, unless it is loaded and had no error since."""
        if not self._at_page:
            with self._timed("page load"):
                self._driver.get(f"{self._viewer}?labels=0&ui=0")
            self._at_page = True

    def _ask(self, script: str, *values: object) -> dict[str, Any]:
        """The script's result. After an error the page is loaded again before the next script."""
        answer = self._driver.execute_async_script(script, *values, self._params.network.ready_s * 1000)
        self._at_page = "error" not in answer
        if "denied" in answer:
            raise DeniedError(answer["denied"])
        return dict(answer)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except DeniedError:
            raise
        except WebDriverException as error:
            raise BrowserError(_first_line(error)) from None
        except Exception as error:  # the driver's connection ended: urllib3 and http.client have many exceptions for it
            raise BrowserError(f"the browser is gone ({type(error).__name__})") from None

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start

    def kill(self) -> None:
        """End the browser and its driver at once, and remove its files."""
        reaper.kill(f"{self._folder}/")
        shutil.rmtree(self._folder, ignore_errors=True)


def failure(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Capture` or `Dates` for a page's error: gone if the service has no such panorama, or failed."""
    status = answer.get("status")
    if status in (404, 410):
        return {"status": CaptureStatus.GONE, "reason": str(answer["error"])}
    return {
        "status": CaptureStatus.FAILED,
        "reason": str(answer["error"]),
        "temporary": True,
        "retry_after_s": retry_after(answer.get("retryAfter"), time.time()),
        "refused": status in REFUSED,
    }


def _service(folder: Path) -> Service:
    """The driver's process, with all its files below ``folder``, so that none of them remains, not even crash reports.

    The path of the log on its command line is the mark by which `reaper` finds it.
    """
    environment = {
        **os.environ,
        **dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR"), str(folder)),
        "SE_AVOID_STATS": "true",
    }
    driver = shutil.which("chromedriver")
    if driver is not None:
        environment["SE_OFFLINE"] = os.environ["SE_OFFLINE"] = "true"
    os.environ["SE_AVOID_STATS"] = "true"
    return Service(
        driver,
        service_args=[f"--log-path={folder / 'driver.log'}", "--log-level=SEVERE"],
        env=environment,
        popen_kw={"start_new_session": True},
    )


def _first_line(error: BaseException) -> str:
    """The first line of a driver's error without URLs; the other lines are a stack of addresses."""
    text = str(getattr(error, "msg", None) or error).strip().splitlines()
    return re.sub(r"https?://\S+", "URL", text[0])[:200] if text else type(error).__name__
