"""The viewer page in a real browser: readiness, labels, controls, mouse, keyboard, and no request to another host."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from streetrecall.simulator.city.plan import City
from streetrecall.simulator.render.renderer import view

pytestmark = pytest.mark.browser
Browser = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from selenium import webdriver

    driver_path = shutil.which("chromedriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if not driver_path or not binary:
        pytest.skip("no Chromium with its driver on PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-background-networking",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    driver.set_script_timeout(30)
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1512, "height": 810, "deviceScaleFactor": 1, "mobile": False}
    )
    yield driver
    driver.quit()


def state(browser: Browser) -> dict[str, Any]:
    return dict(browser.execute_script("return window.viewer ? {...window.viewer.state} : {}"))


def until(browser: Browser, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20, 0.02).until(lambda b: (s := state(b)) and holds(s) and s)


def shot(browser: Browser) -> np.ndarray:
    data = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), dtype=int)


def show(browser: Browser, pano: str, heading: float) -> dict[str, Any]:
    return dict(
        browser.execute_async_script(
            "const done = arguments[2]; viewer.show({pano: arguments[0], heading: arguments[1]})"
            ".then(() => done({...viewer.state}))",
            pano,
            heading,
        )
    )


def bare(base: str, pano: str, heading: float = 0.0, more: str = "") -> str:
    return f"{base}/viewer?pano={pano}&heading={heading}&labels=0&ui=0{more}"


def test_when_ready_the_screen_shows_exactly_that_view(browser: Browser, base: str, city: City, pano: str) -> None:
    browser.get(bare(base, pano, 30.0))
    first = until(browser, lambda s: s["ready"])
    assert (first["pano"], first["heading"], first["frame"], first["error"]) == (pano, 30, 1, None)
    found = city.pano(pano)
    assert found is not None
    views = [(found.pano_id, 30.0), (found.pano_id, 120.0), (city.dates(found)[-1].pano_id, 210.0)]
    for number, (shown, heading) in enumerate(views[1:], 2):
        now = show(browser, shown, heading)
        assert now["ready"] and now["frame"] == number and now["pano"] == shown
        assert np.abs(shot(browser) - view(city, shown, heading)).mean() < 4
    assert browser.execute_script("return performance.getEntriesByType('navigation').length") == 1


def test_an_overtaken_request_never_becomes_ready(browser: Browser, base: str, city: City, pano: str) -> None:
    browser.get(bare(base, pano))
    until(browser, lambda s: s["ready"])
    browser.execute_script("viewer.show({pano: arguments[0], heading: 90}); viewer.show({heading: 180})", pano)
    last = until(browser, lambda s: s["ready"])
    assert last["heading"] == 180
    assert np.abs(shot(browser) - view(city, pano, 180.0)).mean() < 4


@pytest.mark.parametrize(
    ("fault", "says"),
    [("429", "http 429"), ("500", "http 500"), ("reset", "connection failed"), ("truncated", "picture cut short"),
     ("malformed", "broken picture"), ("content-type", "not a picture")],
)  # fmt: skip
def test_a_failure_is_reported_and_never_ready(browser: Browser, base: str, pano: str, fault: str, says: str) -> None:
    browser.get(bare(base, pano, more=f"&fault={fault}"))
    now = until(browser, lambda s: s["error"])
    assert says in now["error"] and not now["ready"] and now["frame"] == 0
    if fault == "429":
        assert now["status"] == 429 and now["retryAfter"] == "1"


def test_a_tile_that_never_loads_is_never_ready(browser: Browser, base: str, pano: str) -> None:
    browser.get(bare(base, pano, more="&fault=stalled-tile"))
    until(browser, lambda s: s["pano"] == pano)
    frames = browser.execute_async_script(
        "const done = arguments[0]; let n = 0; const f = () => ++n < 30 ? requestAnimationFrame(f) : done(n); f()"
    )
    assert frames == 30
    now = state(browser)
    assert not now["ready"] and now["error"] is None and now["frame"] == 0


def test_labels_are_drawn_unless_switched_off(browser: Browser, base: str, city: City, pano: str) -> None:
    found = city.pano(pano)
    assert found is not None
    url = f"{base}/viewer?pano={pano}&heading={found.heading}&ui=0"
    browser.get(url + "&labels=0")
    until(browser, lambda s: s["ready"])
    without = shot(browser)
    browser.get(url)
    until(browser, lambda s: s["ready"])
    changed = np.abs(shot(browser) - without).max(axis=2) > 40
    assert 200 < changed.sum() < changed.size / 10
    assert changed[:330].sum() == 0  # on the road, not in the sky


def test_a_person_can_look_around(browser: Browser, base: str, city: City, pano: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    found = city.pano(pano)
    assert found is not None
    browser.get(f"{base}/viewer?pano={pano}&heading=100&zoom=1")
    until(browser, lambda s: s["ready"])
    buttons = browser.find_elements(By.CSS_SELECTOR, "#dates button")
    assert len(buttons) == len(city.dates(found))
    assert "streetrecall" in browser.find_element(By.ID, "copyright").text
    view = browser.find_element(By.ID, "view")
    ActionChains(browser).drag_and_drop_by_offset(view, -100, 20).perform()
    dragged = until(browser, lambda s: s["ready"] and s["heading"] != 100)
    assert 105 < dragged["heading"] < 125
    ActionChains(browser).send_keys(Keys.ARROW_LEFT).perform()
    turned = until(browser, lambda s: s["ready"] and abs(s["heading"] - dragged["heading"]) > 10)
    assert turned["heading"] == pytest.approx(dragged["heading"] - 15, abs=0.01)
    before = shot(browser)
    ActionChains(browser).send_keys("+").perform()
    until(browser, lambda s: s["ready"] and s["frame"] > turned["frame"] + 1)  # one while moving, one at rest
    assert np.abs(shot(browser) - before).mean() > 3
    browser.find_elements(By.CSS_SELECTOR, "#dates button")[-1].click()
    old = until(browser, lambda s: s["ready"] and s["pano"] != pano)
    assert old["pano"] == city.dates(found)[-1].pano_id
    chosen = browser.find_elements(By.CSS_SELECTOR, "#dates button")[1]
    chosen.send_keys(Keys.ENTER)
    until(browser, lambda s: s["ready"] and s["pano"] == city.dates(found)[1].pano_id)
    until(browser, lambda _: browser.switch_to.active_element.get_attribute("aria-current") == "true")
    ActionChains(browser).send_keys(Keys.TAB, Keys.TAB, Keys.ENTER).perform()  # the strip keeps its focus
    old = until(browser, lambda s: s["ready"] and s["pano"] == city.dates(found)[3].pano_id)
    browser.find_element(By.ID, "compass").click()
    until(browser, lambda s: s["ready"] and s["heading"] == 0)
    ActionChains(browser).send_keys("]").perform()
    newer = until(browser, lambda s: s["ready"] and s["pano"] != old["pano"])
    assert newer["pano"] == city.dates(found)[2].pano_id
    assert f"pano={newer['pano']}" in browser.current_url


def test_the_page_requests_no_other_host(browser: Browser, base: str, pano: str) -> None:
    import json

    browser.get_log("performance")
    browser.get(f"{base}/viewer?pano={pano}")
    until(browser, lambda s: s["ready"])
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert len(urls) > 4
    assert all(url.startswith((base, "data:", "blob:")) for url in urls)


def test_an_unknown_panorama_is_reported(browser: Browser, base: str) -> None:
    browser.get(f"{base}/viewer?pano=nowhere")
    assert "no panorama nowhere" in until(browser, lambda s: s["error"])["error"]
