"""Benchmark `scrape`: pictures per second by browsers, beside a plain Selenium loop."""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from streetrecall.benchmarks.rows import Row
from streetrecall.params.schema import Params, load
from streetrecall.printing import plain_table

if TYPE_CHECKING:
    from streetrecall.providers.base import CaptureRequest

OPTIONS = [("views", 96, "number of captures"), ("browsers", 2, "largest number of browsers")]


def run(args: argparse.Namespace) -> list[Row]:
    """Print pictures per second of the scrape stage's code and of a plain loop over the same pages.

    All take the same captures of the simulated city. The service has rendered each of them before, so the time of
    rendering is left out; it is the same for all. Browsers are warm. The figures of the stage include decoding, the
    store and the ledger; those of the plain loop only the picture.
    """
    from streetrecall.providers.simulated import SimulatedProvider
    from streetrecall.simulator.service.server import running
    from streetrecall.stages import scrape
    from streetrecall.store.ledger import Ledger

    params = load(args.params)
    rows: list[tuple[str, float, str]] = []
    with running(params) as base, tempfile.TemporaryDirectory() as folder:
        views = _some_views(params, base, args.views)
        for view in views:
            with urlopen(f"{base}/tiles/view?pano={view.panorama.pano_id}&heading={view.heading_deg:g}") as answer:
                answer.read()
        rows.append(("plain: get, wait until ready, get_screenshot_as_png", _plain_loop(params, base, views), ""))
        for count in sorted({1, args.browsers}):
            network = params.network.model_copy(update={"browsers": count})
            of_count = params.model_copy(update={"network": network})
            provider = SimulatedProvider(of_count, service=base)
            try:
                list(provider.capture(views[: 4 * count]))  # starts the browsers
                before = provider.seconds()
                with Ledger(Path(folder) / str(count)) as ledger:
                    start = time.perf_counter()
                    scrape.fetch(of_count, provider, ledger, "bench", views)
                    took = time.perf_counter() - start
                spent = {step: s - before.get(step, 0.0) for step, s in provider.seconds().items()}
                steps = ", ".join(f"{step} {1000 * s / len(views):.0f} ms" for step, s in spent.items())
                rows.append((f"scrape stage, {count} browser{'s' * (count > 1)}", len(views) / took, steps))
            finally:
                provider.close()
    print(f"{len(views)} captures of {params.scrape.width} x {params.scrape.height} pixels\n")
    table = [(name, f"{rate:.2f}", f"{rate / rows[0][1]:.2f}", note) for name, rate, note in rows]
    print(plain_table(("", "pictures per second", "ratio", "time per picture"), table, ruled=True))
    task = f"scrape of {len(views)} captures of {params.scrape.width} x {params.scrape.height}"
    return [Row(task, "picture", rate, "plain Selenium loop", rows[0][1], name) for name, rate, _ in rows[1:]]


def _some_views(params: Params, base: str, count: int) -> list[CaptureRequest]:
    """The first dates x headings around the city's middle."""
    import pandas as pd

    from streetrecall.providers.simulated import SimulatedProvider

    provider = SimulatedProvider(params, service=base)
    try:
        lat, lon = params.order.start
        side = math.ceil(math.sqrt(count)) + 1
        points = pd.DataFrame(
            [(i, lat + (i // side - side / 2) * 4e-4, lon + (i % side - side / 2) * 8e-4) for i in range(side * side)],
            columns=["point_id", "lat", "lon"],
        )
        found = {c.panorama.pano_id for c in provider.coverage(points, params.metadata.radius_m) if c.panorama}
        places = pd.DataFrame({"pano_id": sorted(found)}).assign(level=0, split="train", radius_m=100.0)
        views = list(provider.plan(places.reset_index(names="place")))
    finally:
        provider.close()
    if len(views) < count:
        raise SystemExit(f"the simulated city has only {len(views)} views around order.start; ask for fewer --views")
    return views[:count]


def _plain_loop(params: Params, base: str, views: Sequence[CaptureRequest]) -> float:
    """What a user would write with Selenium alone; a picture of the same size, taken when the page says ready."""
    import shutil

    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    from streetrecall.providers.browser.chromium import arguments, find_browser

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = find_browser() or ""
        for flag in arguments(profile, base, None, isolated=True):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            size = {
                "width": params.scrape.width,
                "height": params.scrape.height,
                "deviceScaleFactor": 1,
                "mobile": False,
            }
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

            def take(view: CaptureRequest) -> bytes:
                where = f"pano={view.panorama.pano_id}&heading={view.heading_deg:g}"
                driver.get(f"{base}/viewer?{where}&labels=0&ui=0")
                WebDriverWait(driver, 60, poll_frequency=0.02).until(
                    lambda d: d.execute_script("return window.viewer.state.ready")
                )
                return driver.get_screenshot_as_png()

            for view in views[:4]:
                take(view)
            start = time.perf_counter()
            for view in views:
                take(view)
            return len(views) / (time.perf_counter() - start)
        finally:
            driver.quit()
