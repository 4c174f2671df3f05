"""Benchmark `page`: how soon the page of `serve` is painted, and how its map moves, in headless Chromium."""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from streetrecall import tables
from streetrecall.benchmarks.rows import Row
from streetrecall.errors import UserError
from streetrecall.printing import plain_table
from streetrecall.providers.browser import chromium

if TYPE_CHECKING:
    from selenium import webdriver

OPTIONS = [
    ("places", 718, "places on the map"),
    ("pictures", 28_720, "pictures of these places; each is a query of the view results"),
    ("loads", 3, "how often the page is loaded; the median counts"),
]
VIEWS = ("results", "time")
SHARD = "shared/test/all.tar"
DATES, DIRECTIONS = 10, 4  # of a place, as far as there are pictures for them
SPACING_DEG = 0.0002  # between neighbouring places, some 20 m
FIRST_PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
DRAWN = """
const done = arguments[0];
const { dataset } = document.documentElement;
const ready = () => dataset.map === "ready" && dataset.page === "ready";
const look = () => (ready() ? requestAnimationFrame(() => done(performance.now())) : requestAnimationFrame(look));
look();
"""
# Drags the map by 6 pixels a frame for 90 frames, and gives the milliseconds between frames.
PAN = """
const done = arguments[0];
const canvas = document.querySelector(".maplibregl-canvas");
const box = canvas.getBoundingClientRect();
const middle = [box.left + box.width / 2, box.top + box.height / 2];
const send = (type, target, x) => target.dispatchEvent(new MouseEvent(type, {
  bubbles: true, cancelable: true, view: window, button: 0, buttons: type === "mouseup" ? 0 : 1,
  clientX: x, clientY: middle[1],
}));
const times = [];
const step = (now) => {
  times.push(now);
  const number = times.length;
  if (number > 90) {
    send("mouseup", document, middle[0]);
    done(times.slice(1).map((time, i) => time - times[i]));
    return;
  }
  send("mousemove", document, middle[0] - 6 * number);
  requestAnimationFrame(step);
};
send("mousedown", canvas, middle[0]);
requestAnimationFrame(step);
"""


def run(args: argparse.Namespace) -> list[Row]:
    """Print and return the times, milliseconds, of each of `VIEWS`, and the memory of the service.

    The project is made: ``pictures`` pictures at ``places`` places of a square city, all of them queries. Chromium
    draws without a graphics card, and service and browser share the processor.
    """
    with tempfile.TemporaryDirectory(dir=os.environ.get("STREETRECALL_BENCH_FOLDER")) as home:
        folder = make_project(Path(home) / "project", args.places, args.pictures)
        with serving("--project", str(folder)) as (url, pid), browsing(url) as driver:
            measured = {view: measure(driver, f"{url}/#/{view}", args.loads) for view in VIEWS}
            memory = resident_mb(pid)
    size = f"{args.places:,} places, {args.pictures:,} pictures"
    head = ("view", "first paint, ms", "map drawn, ms", "a frame while panning: p50, ms", "p95", "longest")
    rows = [(view, *(f"{value:.0f}" for value in values)) for view, values in measured.items()]
    print(size if memory is None else f"{size}; the service takes {memory:.0f} MB", end="\n\n")
    print(plain_table(head, rows, ruled=True))
    return [
        Row(
            f"page, {view}, {size}", "frame", 1000 / values[2], note=f"first paint {values[0]:.0f} ms, map drawn "
            f"{values[1]:.0f} ms; a frame while panning: p50 {values[2]:.0f} ms, p95 {values[3]:.0f} ms",
        )
        for view, values in measured.items()
    ]  # fmt: skip


def measure(driver: webdriver.Chrome, url: str, loads: int) -> tuple[float, ...]:
    """Milliseconds: first paint and the map drawn, medians of ``loads``; median, 95% and longest frame of a pan.

    Raises:
        UserError: the map did not move.
    """
    seen = []
    for _ in range(loads):
        driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        driver.get("about:blank")
        driver.get(url)
        drawn = float(driver.execute_async_script(DRAWN))
        seen.append((float(driver.execute_script(FIRST_PAINT)), drawn))
    before = driver.get_screenshot_as_png()
    frames = np.asarray(driver.execute_async_script(PAN), float)
    if driver.get_screenshot_as_png() == before:
        raise UserError(f"{url}: the map did not move when it was dragged, so its frames say nothing")
    paint, drawn = np.median(seen, axis=0)
    return float(paint), float(drawn), *np.percentile(frames, [50, 95]).tolist(), float(frames.max())


def make_project(folder: Path, places: int, pictures: int) -> Path:
    """A project's tables of ``pictures`` pictures at ``places`` places, every one a query with a result.

    Raises:
        UserError: there are fewer pictures than places.
    """
    if not 0 < places <= pictures:
        raise UserError(f"--pictures {pictures:,}: take at least one for each of the {places:,} places")
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    Image.fromarray(noise).resize((224, 224), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    shard = folder / "data/crops" / SHARD
    shard.parent.mkdir(parents=True)
    shard.write_bytes(file.getvalue())
    number = np.arange(pictures)
    place = number % places
    turn = number // places
    date, side = turn // DIRECTIONS, int(np.ceil(np.sqrt(places)))
    facts: dict[str, Any] = {
        "image_id": number, "place": place, "direction": turn % DIRECTIONS, "heading_deg": 90.0 * (turn % DIRECTIONS),
        "date_index": date, "month": [f"{2024 - d % DATES}-06" for d in date.tolist()],
        "pano_id": [f"p{p}-{d}" for p, d in zip(place.tolist(), date.tolist(), strict=True)],
        "split": "test", "subset": "", "lat": 59.2 + SPACING_DEG * (place // side),
        "lon": 17.8 + 2 * SPACING_DEG * (place % side), "x": 0.0, "y": 0.0, "shard": SHARD, "offset": 0,
        "size": len(file.getvalue()), "sha256": "", "phash": "", "luminance_mean": 100.0, "luminance_std": 40.0,
        "width": 224, "height": 224, "quarantine": "", "provider": "simulated", "licence": "CC0-1.0",
        "attribution": "made for a measurement", "source": "",
    }  # fmt: skip
    images = pd.DataFrame(facts)
    right = (number % 10 > 0).astype(int)
    ranks = [f"rank_{radius}m" for radius in tables.RADII_M]
    queries = images.assign(
        system="model", scope="test", protocol="newest_vs_older", right_images=5, right_place_direction=5,
        rank_place_direction=right, answer_id=number, answer_place=place, similarity=0.7, error_m=300.0 * (1 - right),
        **dict.fromkeys(ranks, right),
    )  # fmt: skip
    tables.write(tables.IMAGES, images, folder / "data/crops/images.parquet")
    tables.write(tables.PREDICTIONS, queries, folder / "data/results/queries.parquet")
    return folder


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process, 10^6 bytes; None on a system without /proc, such as macOS."""
    facts = Path(f"/proc/{pid}/statm")
    return int(facts.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if facts.is_file() else None


@contextmanager
def serving(*options: str, **env: str) -> Iterator[tuple[str, int]]:
    """`streetrecall serve` with ``options`` in a process of its own, on a free port of loopback: its address and
    process number.

    Raises:
        UserError: it did not start, or it ended by itself.
    """
    command = [sys.executable, "-m", "streetrecall.cli", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | env, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.match(r"streetrecall is served at (http://\S+)", line)
            if found is None:
                raise UserError(f"streetrecall serve did not start; it said {line!r}")
            yield found[1].rstrip("/"), process.pid
            if process.poll() is not None:
                raise UserError(f"streetrecall serve ended by itself, with status {process.returncode}")
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def browsing(url: str, **logs: str) -> Iterator[webdriver.Chrome]:
    """Headless Chromium of 1280 x 800 that can draw maps without a graphics card and reach only ``url``.

    ``logs``: which logs the driver keeps, and from which level on.

    Raises:
        UserError: there is no Chromium.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    browser, chromedriver = chromium.find_browser(), shutil.which("chromedriver")
    if browser is None or chromedriver is None:
        raise UserError(
            "there is no Chromium with its chromedriver on PATH; install both (`make setup` does on Debian)"
        )
    with tempfile.TemporaryDirectory(prefix="sr", ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = browser
        for argument in chromium.arguments(profile, url, None, isolated=True):
            if argument != "--disable-frame-rate-limit":
                options.add_argument(argument)
        options.add_argument("--enable-unsafe-swiftshader")
        options.add_argument("--window-size=1280,800")
        if logs:
            options.set_capability("goog:loggingPrefs", logs)
        driver = webdriver.Chrome(options=options, service=Service(chromedriver))
        try:
            driver.set_script_timeout(120)
            yield driver
        finally:
            driver.quit()
