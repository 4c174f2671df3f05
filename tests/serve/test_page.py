"""The page in a real browser. Each test fails on an error in the console and on a request that leaves this machine."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait
from servedcity import GAINED, LOST, Served

from streetrecall.benchmarks.page import browsing
from streetrecall.providers.browser import chromium

pytestmark = pytest.mark.browser
AXE = Path(__file__).parent / "axe/axe.min.js"
VIEWS = ("ask", "results", "time", "compare", "quarantine")


class Page:
    """The page in a browser, as a person uses it."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, view: str = "ask") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/#/{view}")
        self.until(lambda: self.driver.execute_script("return document.documentElement.dataset.page") == "ready")
        self.until(lambda: self.driver.execute_script("return document.documentElement.dataset.map") == "ready")

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for ``condition``; what the page has replaced meanwhile is looked for again."""
        waiting = WebDriverWait(self.driver, 30, 0.05, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(lambda _: condition())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.until(lambda: next((e for e in self.all(selector) if e.is_displayed()), None))

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def choose(self, label: str, value: str) -> None:
        """Choose an option of the shown select with a label."""
        boxes = self.all("label.field")
        box = next(b for b in boxes if b.is_displayed() and b.find_element(By.TAG_NAME, "span").text == label)
        Select(box.find_element(By.TAG_NAME, "select")).select_by_visible_text(value)

    def counts(self, view: str) -> dict[str, int]:
        """The numbers on the toggles of a view."""
        toggles = self.all(f"{view} .toggle")
        return {t.get_attribute("data-kind") or "": int(t.find_element(By.TAG_NAME, "b").text) for t in toggles}

    def size(self, width: int, height: int) -> None:
        values = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", values)

    def colours(self, scheme: str) -> None:
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        listed = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def check(self) -> None:
        """No error in the console, and no request to another host."""
        errors = [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]
        assert not errors, errors
        asked = set()
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.add(message["params"]["request"]["url"])
        inner = ("blob:", "data:", "about:", "chrome:", "chrome-untrusted:")  # of the browser itself
        assert not [url for url in asked if not url.startswith((f"{self.url}/", *inner))]

    def flaws(self, rules: str) -> list[str]:
        """What axe finds wrong by ``rules``."""
        if not self.driver.execute_script("return Boolean(window.axe)"):
            self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[1];"
            "const options = { resultTypes: ['violations'], ...JSON.parse(arguments[0]) };"
            "axe.run(document, options).then((found) => done(found.violations))",
            rules,
        )
        return [f"{v['id']}: {v['help']}: {n['target']}: {n['failureSummary']}" for v in found for n in v["nodes"]]


@pytest.fixture(scope="module")
def driver(served: Served) -> Iterator[webdriver.Chrome]:
    if chromium.find_browser() is None or shutil.which("chromedriver") is None:
        pytest.skip("there is no Chromium on PATH")
    with browsing(served.url, browser="ALL", performance="ALL") as found:
        yield found


@pytest.fixture
def page(driver: webdriver.Chrome, served: Served) -> Iterator[Page]:
    page = Page(driver, served.url)
    page.size(1280, 800)
    page.colours("light")
    yield page
    page.check()


@pytest.fixture(scope="module")
def photo_files(photos: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The photos of the first spot."""
    folder = tmp_path_factory.mktemp("photos")
    spot = photos[photos["spot"] == photos["spot"].iloc[0]]
    for number, data in enumerate(spot["jpeg"]):
        (folder / f"{number}.jpg").write_bytes(data)
    return sorted(folder.iterdir())


FILLED = {"results": ".row", "time": "#time figure", "compare": "#compare .verdict", "quarantine": ".kept-out"}
TOO_WIDE = """
return [...document.querySelectorAll("body *")]
  .filter((e) => !e.closest(".scroll, nav, .maplibregl-map, .away") && e.getClientRects().length)
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 120));
"""
DROP = """
const [bytes, name] = arguments;
const files = new DataTransfer();
files.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type: "image/jpeg" }));
const target = document.querySelector(".drop");
const paste = new ClipboardEvent("paste", { clipboardData: files, bubbles: true });
if (name.startsWith("pasted")) target.dispatchEvent(paste);
else for (const kind of ["dragenter", "dragover", "drop"])
  target.dispatchEvent(new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }));
"""


def send(page: Page, data: bytes, name: str) -> None:
    """Drop a photo, or paste it if it is called so."""
    page.driver.execute_script(DROP, base64.b64encode(data).decode(), name)


def test_a_dropped_photo_is_answered_on_the_map_and_beside_it(page, photo_files, photos):
    page.open()
    send(page, photo_files[0].read_bytes(), "dropped.jpg")
    assert "of this point" in page.text("#ask .verdict.good h2")
    assert f"Place {photos['spot'].iloc[0]}" in page.text("#ask .neighbours li b")
    assert len(page.all("#ask .neighbours figure")) == 5
    assert "the tiny town · CC0-1.0" in page.text("#ask .neighbours .credit")
    drawn = "return [...document.querySelectorAll('#ask .neighbours img')].filter((i) => i.naturalWidth > 0).length"
    page.until(lambda: page.driver.execute_script(drawn) == 5)
    send(page, photo_files[1].read_bytes(), "pasted.jpg")
    page.until(
        lambda: (
            "1" in page.one("#ask .own img").get_attribute("alt")
            and "pasted" in page.one("#ask .own img").get_attribute("alt")
        )
    )
    page.one("#ask .verdict.good")


def test_several_photos_of_one_spot_are_chosen_and_removed(page, photo_files):
    page.open()
    page.driver.find_element(By.CSS_SELECTOR, "#ask input[type=file]").send_keys("\n".join(map(str, photo_files)))
    page.until(lambda: len(page.all("#ask .own")) == len(photo_files))
    page.one("#ask .verdict")
    page.one("#ask .remove").click()
    page.until(lambda: len(page.all("#ask .own")) == len(photo_files) - 1)
    page.one("#ask .verdict")


def test_a_file_that_is_no_photo_is_named(page, tmp_path):
    (tmp_path / "letter.jpg").write_text("Dear reader")
    page.open()
    page.driver.find_element(By.CSS_SELECTOR, "#ask input[type=file]").send_keys(str(tmp_path / "letter.jpg"))
    assert "letter.jpg: This is no photo" in page.text("#ask .notice.error")
    refused = [line for line in page.driver.get_log("browser") if line["level"] == "SEVERE"]
    assert ["415" in line["message"] for line in refused] == [True]  # the browser notes the answer itself


def test_results_are_filtered_and_opened(page):
    page.open("results?scope=test&protocol=leave_one_date_out")
    page.until(lambda: len(page.all("#results .row")) == 40)
    assert "recall at 1" in page.text("#results .summary")
    counts = page.counts("#results")
    assert sum(counts.values()) == 64
    assert counts.keys() == {"right", "wrong"}
    page.one("#results .toggle[data-kind=right]").click()
    page.until(lambda: len(page.all("#results .row")) == counts["wrong"])
    assert {row.get_attribute("data-kind") for row in page.all("#results .row")} == {"wrong"}
    page.choose("Direction", "north")
    page.until(lambda: len(page.all("#results .row")) < counts["wrong"])
    page.choose("Error", "over 1 km")
    page.until(lambda: not page.all("#results .row"))
    assert "No query fits" in page.text("#results .note")
    page.choose("Error", "any")
    page.one("#results .row").click()
    assert page.text("#results .detail .badge") == "Wrong"
    assert "drawn for a test" in page.text("#results .detail .credit")
    assert "query=" in page.driver.current_url
    page.one("#results .back").send_keys(Keys.ENTER)
    assert page.one("#results .row").is_displayed()
    page.choose("Protocol", "photos")
    page.until(lambda: "Photo 0" in page.text("#results .row b"))
    page.one("#results .toggle[data-kind=withheld]")


def test_results_are_on_the_map(page):
    """Points are drawn where the queries are, and a click on one opens it."""
    page.open("results?scope=test&protocol=newest_vs_older")
    page.one("#results .row")
    at = "const box = document.querySelector('#map canvas').getBoundingClientRect(); return [box.width, box.height]"
    width, height = page.driver.execute_script(at)
    assert width > 500 and height > 500
    assert page.text("#legend") == "right\nwrong"


def test_the_time_machine_goes_through_the_years(page):
    page.open("time?place=3")
    assert page.text("#when") == "May 2022"
    assert len(page.all("#time .directions figure")) == 4
    slider = page.one("#date")
    slider.send_keys(Keys.ARROW_LEFT)
    assert page.text("#when") == "September 2019"
    assert slider.get_attribute("aria-valuetext") == "September 2019"
    slider.send_keys(Keys.HOME)
    assert page.text("#when") == "March 2010"
    page.choose("Lay over it", "July 2014")
    assert len(page.all("#time .over")) == 4
    page.one("#time .wipe").send_keys(Keys.END)
    assert "date=2010-03" in page.driver.current_url
    assert len(page.all("#time .matrix tbody tr")) == 4
    assert len(page.all("#time .matrix figure")) == 16
    page.one("#time .pick button:last-of-type").click()
    page.until(lambda: page.text("#time h2") == "Place 4")


def test_two_revisions_are_compared(page):
    page.open("compare?first=main")
    page.one("#compare .verdict")
    counts = page.counts("#compare")
    assert (counts["gained"], counts["lost"]) == (GAINED, LOST)
    for kind in ("both-wrong", "gained"):
        page.one(f"#compare .toggle[data-kind={kind}]").click()
    page.until(lambda: len(page.all("#compare .row")) == LOST)
    page.one("#compare .row").click()
    assert "lost" in page.text("#compare .picked h3")
    page.until(lambda: len(page.all("#compare .picked figure")) == 2)


def test_what_was_kept_out_is_shown_with_its_reason(page):
    page.open("quarantine")
    page.until(lambda: len(page.all("#quarantine .kept-out")) == 3)
    page.one("#quarantine .toggle[data-kind=blank]").click()
    page.until(lambda: len(page.all("#quarantine .kept-out")) == 2)
    assert "nothing can be recognised" in page.text("#quarantine .why")


def test_a_picture_is_shown_large_and_closed_by_a_key(page):
    page.open("time?place=3")
    page.one("#time .zoom").send_keys(Keys.ENTER)
    assert "drawn for a test" in page.text("#viewer .credit")
    page.one("#viewer").send_keys(Keys.ESCAPE)
    page.until(lambda: not page.driver.find_element(By.ID, "viewer").is_displayed())


@pytest.mark.parametrize(("scheme", "rules"), [("light", "{}"), ("dark", '{"runOnly": ["color-contrast"]}')])
def test_axe_finds_nothing(page, scheme, rules, photo_files):
    page.colours(scheme)
    page.open()
    send(page, photo_files[0].read_bytes(), "dropped.jpg")
    page.one("#ask .verdict")
    flaws = page.flaws(rules)
    for view in VIEWS[1:]:
        page.driver.execute_script(f"location.hash = '#/{view}'")
        page.one(FILLED[view])
        flaws += page.flaws(rules)
    assert not flaws, "\n".join(flaws)


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wider_than_a_phone(page, view):
    page.size(390, 844)
    page.open(view)
    page.one(f"#{view} h1")
    assert page.driver.execute_script(TOO_WIDE) == []
    assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_the_theme_can_be_chosen_and_is_kept(page):
    page.open()
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.driver.execute_script(background)
    page.one("#theme").click()
    dark = page.driver.execute_script(background)
    assert dark != light
    page.open("results")
    assert page.driver.execute_script(background) == dark
    page.one("#theme").click()
    assert page.driver.execute_script(background) == light
    page.driver.execute_script("localStorage.clear()")


def test_the_views_are_reached_by_the_keyboard(page):
    page.open()
    page.driver.execute_script("document.body.focus()")
    active = page.driver.switch_to
    seen = []
    for _ in range(8):
        active.active_element.send_keys(Keys.TAB)
        seen.append(active.active_element.text or active.active_element.get_attribute("id"))
    assert seen[0] == "Skip to the content"
    assert seen[2:7] == ["Ask", "Results", "Time machine", "Compare", "Quarantine"]
