"""Provider `google` as it ships, only its endpoint pointed at the simulator: the page over the Maps JavaScript API."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from killable import hasty
from PIL import Image
from tinyservice import TinyService, serving

from streetrecall.errors import UserError
from streetrecall.params.schema import Params, load
from streetrecall.providers import open_provider
from streetrecall.providers.base import CaptureRequest, Panorama
from streetrecall.providers.browser.chromium import find_browser
from streetrecall.providers.google import provider as google
from streetrecall.providers.google.page import serving as serving_page
from streetrecall.providers.google.provider import GoogleProvider
from streetrecall.providers.http import Secret
from streetrecall.simulator.city.plan import City, open_city
from streetrecall.simulator.render import renderer
from streetrecall.simulator.service.server import running
from streetrecall.stages import scrape
from streetrecall.store.ledger import Ledger

ROOT = Path(__file__).parents[3]
KEY = "AIzaMyVeryOwnKey"
FOOT = 30  # rows at the bottom that hold the copyright line
Open = Callable[..., GoogleProvider]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def city() -> City:
    return open_city(load(ROOT / "params.yaml"), ROOT)


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with running(load(ROOT / "params.yaml"), root=ROOT) as url:
        yield url


@pytest.fixture
def pano(city: City) -> str:
    """A panorama with many dates whose picture is its own."""
    ids = max(city.spot_panos, key=lambda ids: (len(ids), ids[0]))
    return next(city.panos[i].pano_id for i in ids if not city.panos[i].dark and not city.panos[i].shown)


@pytest.fixture
def opened(params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Open]:
    """Opens the provider as the pipeline does, at another endpoint."""
    if find_browser() is None:
        pytest.skip("there is no Chromium on PATH")
    providers = []

    def open_at(endpoint: str, key: str = KEY, ready_s: float = 10.0, **limits: float) -> GoogleProvider:
        monkeypatch.setenv("STREETRECALL_GOOGLE_KEY", key)
        monkeypatch.setattr(google, "ENDPOINT", endpoint)
        quick = hasty(params)
        network = quick.network.model_copy(update={"browsers": 1, "ready_s": ready_s, "tries": 4, **limits})
        accepted = params.google.model_copy(update={"accept_terms": True})
        mine = {"provider": "google", "google": accepted, "network": network, "scrape": params.scrape}
        provider = open_provider(quick.model_copy(update=mine))
        assert type(provider) is GoogleProvider
        providers.append(provider)
        return provider

    yield open_at
    for provider in providers:
        provider.close()


def places(*panos: str) -> pd.DataFrame:
    return pd.DataFrame({"place": range(len(panos)), "pano_id": panos, "level": 0, "split": "train", "radius_m": 100.0})


def one(pano: str, heading: float = 0.0) -> CaptureRequest:
    return CaptureRequest(0, 0, heading, 0, Panorama(pano, 59.3, 18.0, "2020-01", "", ""), "train", "train_v1")


def differs(city: City, request: CaptureRequest, data: bytes) -> float:
    """Mean absolute difference of a capture to what the city's renderer draws, the bottom lines excepted."""
    got = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)
    assert got.shape == (810, 1512, 3)
    return float(np.abs(got - renderer.view(city, request.panorama.pano_id, request.heading_deg))[:-FOOT].mean())


def test_it_lists_dates_and_takes_the_pictures_that_the_city_draws(
    opened: Open, base: str, city: City, pano: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    profiles = Path(tempfile.mkdtemp(prefix="sr"))
    monkeypatch.setattr(tempfile, "tempdir", str(profiles))
    provider = opened(base)
    requests = list(provider.plan(places(pano)))
    found = city.pano(pano)
    assert found is not None
    assert [(r.panorama.pano_id, r.panorama.month) for r in requests[::4]] == [
        (p.pano_id, p.date) for p in city.dates(found)
    ]
    assert provider.unplanned == []
    assert requests[0].panorama.attribution == "© streetrecall simulated city"
    some = [requests[0], requests[1], requests[-1]]
    with Ledger() as ledger:
        scrape.fetch(provider._params, provider, ledger, "n", some)
        entries = ledger.entries("n")
        taken = {key: ledger.objects.read(entry.sha256) for key, entry in entries.items()}
        store = ledger.folder
    assert {e.status for e in entries.values()} == {"ok"}
    for request in some:
        data = taken[request.key]
        assert data is not None
        assert differs(city, request, data) < 4
    assert len(list(profiles.glob("streetrecall-browser-*"))) == 1
    provider.close()
    profiles.rmdir()  # fails if anything is left in it
    assert KEY not in caplog.text
    assert KEY not in f"{provider!r} {vars(provider)!r} {dict(provider.notes)!r}"
    kept = [p for folder in (store, tmp_path) for p in folder.rglob("*") if p.is_file()]
    assert kept
    assert not [p for p in kept if KEY.encode() in p.read_bytes()]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles"])
def test_a_month_is_the_same_in_every_time_zone(
    opened: Open, base: str, city: City, pano: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    months = [r.panorama.month for r in opened(base).plan(places(pano))][::4]
    found = city.pano(pano)
    assert found is not None
    assert months == [p.date for p in city.dates(found)]


def test_every_fault_costs_tries_and_no_picture(opened: Open, city: City, pano: str) -> None:
    kinds = ("429", "500", "reset", "truncated", "malformed", "content-type", "stalled-tile")
    plan: dict[str, Any] = {
        "probabilities": dict.fromkeys(kinds, 1 / len(kinds)), "times": 1, "seed": 5, "hang_s": 60.0,
        "paths": ["/tiles/", "/maps/api/js/"], "retry_after_s": 0.1,
    }  # fmt: skip
    with running(load(ROOT / "params.yaml"), faults=plan, root=ROOT) as faulty:
        provider = opened(faulty, ready_s=4.0)
        requests = list(provider.plan(places(pano)))
        assert provider.unplanned == []
        reasons = []
        for request in requests[:12:2]:
            for _ in range(8):  # of its two tiles and the panorama itself each fails once
                (capture,) = provider.capture([request])
                if not capture.temporary:
                    break
                reasons.append(capture.reason)
            assert (capture.status, capture.reason) == ("ok", "")
            assert differs(city, request, capture.data) < 4
        provider.close()
    assert len(set(reasons)) >= 3
    reported = ("a tile: ", "there was no answer in time: tiles did not come", "UNKNOWN_ERROR")
    assert all(reason.startswith(reported) for reason in reasons)


def test_a_tile_that_never_loads_is_never_a_picture(opened: Open, pano: str) -> None:
    plan: dict[str, Any] = {"probabilities": {"stalled-tile": 1.0}, "times": 99, "hang_s": 60.0, "paths": ["/tiles/"]}
    with running(load(ROOT / "params.yaml"), faults=plan, root=ROOT) as faulty:
        provider = opened(faulty, ready_s=2.0)
        (capture,) = provider.capture([one(pano)])
        provider.close()
    assert (capture.status, capture.temporary, capture.data) == ("failed", True, b"")
    assert capture.reason == "there was no answer in time: tiles did not come"


def test_an_unknown_panorama_is_gone(opened: Open, base: str, pano: str) -> None:
    provider = opened(base)
    captures = {c.request.panorama.pano_id: c for c in provider.capture([one("nowhere"), one(pano)])}
    assert (captures["nowhere"].status, captures["nowhere"].reason) == ("gone", "ZERO_RESULTS")
    assert captures[pano].status == "ok"
    assert list(provider.plan(places("nowhere"))) == []
    assert provider.unplanned == [("panorama nowhere", "its dates cannot be had: ZERO_RESULTS")]


def test_a_denied_key_ends_the_run_and_is_not_told(opened: Open, base: str, pano: str) -> None:
    for ask in (lambda p: p.plan(places(pano)), lambda p: p.capture([one(pano)])):
        with pytest.raises(UserError, match=r"denies the key \(InvalidKeyMapError\); check") as caught:
            list(ask(opened(base, key="NoSuchKey")))
        assert "NoSuchKey" not in f"{caught.value!r} {caught.value.__context__!r}"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("gm_authFailure()", r"denies the key \(gm_authFailure\)"),
        (
            "console.error('Google Maps JavaScript API error: ApiNotActivatedMapError\\nhttps://x')",
            "ApiNotActivatedMap",
        ),
        ("console.error('Google Maps JavaScript API error: OverQuotaMapError')", "keeps refusing .OverQuotaMapError"),
    ],
)
def test_the_services_own_words_stop_the_run(opened: Open, pano: str, script: str, says: str) -> None:
    with serving(TinyService()) as service:
        service.answer = lambda path, query: (200, "text/javascript", script.encode())  # type: ignore[method-assign]
        for ask in (lambda p: p.plan(places(pano)), lambda p: p.capture([one(pano, h) for h in (0.0, 90.0, 180.0)])):
            provider = opened(service.base, breaker_refusals=2, breaker_pause_s=0.01, breaker_pauses=0)
            with pytest.raises(UserError, match=says):
                list(ask(provider))


def test_an_api_that_cannot_be_had_is_worth_another_try(opened: Open, pano: str) -> None:
    with serving(TinyService(lambda path, query, n: "reset" if path == "/maps/api/js" else None)) as service:
        (capture,) = opened(service.base).capture([one(pano)])
    assert capture.temporary
    assert capture.reason == "the Maps JavaScript API could not be loaded"


def test_a_proxy_is_asked_for_the_api_and_not_for_the_page(
    opened: Open, pano: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(TinyService()) as proxy:
        monkeypatch.setenv("STREETRECALL_PROXIES", proxy.base)
        (capture,) = opened("http://maps.example").capture([one(pano)])
        asked = [q for q in proxy.queries if not q.startswith("CONNECT ")]
    assert capture.reason == "the Maps JavaScript API could not be loaded"
    assert any(q.startswith("http://maps.example/maps/api/js?v=quarterly") for q in asked)
    assert not any("127.0.0.1" in q for q in asked)


def test_the_page_is_there_for_whoever_knows_its_address() -> None:
    with serving_page(Secret("https://maps.example/maps/api/js?key=a&x=\"'<>")) as url:
        page = requests.get(url, timeout=5)
        assert page.status_code == 200
        assert 'data-api="https://maps.example/maps/api/js?key=a&amp;x=&quot;&#x27;&lt;&gt;"' in page.text
        assert page.headers["cache-control"] == "no-store"
        assert requests.get(f"{url}.js", timeout=5).headers["content-type"].startswith("text/javascript")
        port = url.split("/")[2]
        for other in ("", "viewer", "docs", "openapi.json"):
            assert requests.get(f"http://{port}/{other}", timeout=5).status_code == 404
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
