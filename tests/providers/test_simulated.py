"""The provider over the real simulator service: metadata, dates and pictures, under every fault that it can show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from killable import hasty

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.pictures.inspect import inspect
from streetrecall.providers.base import CaptureRequest
from streetrecall.providers.browser.chromium import find_browser
from streetrecall.providers.simulated import SimulatedProvider
from streetrecall.simulator.service.faults import KINDS
from streetrecall.simulator.service.server import running
from streetrecall.stages import scrape
from streetrecall.store.ledger import Ledger

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def quick(params: Params, monkeypatch: pytest.MonkeyPatch) -> Params:
    if find_browser() is None:
        pytest.skip("there is no Chromium on PATH")
    monkeypatch.chdir(ROOT)
    params = hasty(params)
    frame = params.scrape.model_copy(update={"width": 1512, "height": 810})
    network = params.network.model_copy(update={"ready_s": 6.0, "timeout_s": 4.0})
    return params.model_copy(update={"scrape": frame, "network": network})


@pytest.fixture(scope="module")
def faulty(request: pytest.FixtureRequest) -> Iterator[str]:
    """The service; every second item has one of all its faults at the first request, and none after it."""
    from streetrecall.params.schema import load

    plan: dict[str, Any] = {"probabilities": dict.fromkeys(KINDS, 0.05), "seed": 3, "times": 1, "hang_s": 60.0}
    with running(load(ROOT / "params.yaml"), faults=plan, root=ROOT) as base:
        yield base


def collect(params: Params, base: str, count: int) -> tuple[SimulatedProvider, list[CaptureRequest]]:
    provider = SimulatedProvider(params, service=base)
    lat, lon = params.order.start
    points = pd.DataFrame({"point_id": range(40)})
    points["lat"], points["lon"] = lat, lon + (points["point_id"] - 20) * 2e-4
    answers = list(provider.coverage(points, params.metadata.radius_m))
    assert sorted(a.point_id for a in answers) == list(range(40))
    assert {a.status for a in answers} <= {"OK", "ZERO_RESULTS"}
    found = sorted({a.panorama.pano_id for a in answers if a.panorama})
    places = pd.DataFrame(
        {"place": range(len(found)), "pano_id": found, "level": 0, "split": "train", "radius_m": 100.0}
    )
    requests = list(provider.plan(places.head(3)))
    assert provider.unplanned == []
    return provider, requests[:count]


def test_all_is_captured_under_every_fault_and_alike(quick: Params, faulty: str, tmp_path: Path) -> None:
    pictures = []
    for attempt in range(2):  # the second time the service has no faults left
        provider, requests = collect(quick, faulty, 16)
        try:
            with Ledger(tmp_path / str(attempt)) as ledger:
                scrape.fetch(quick, provider, ledger, "n", requests)
                entries = ledger.entries("n")
                assert {r.key for r in requests} == set(entries)
                assert all(e.next_try is None for e in entries.values())
                assert {e.status for e in entries.values()} == {"ok"}
                pictures.append({key: e.sha256 for key, e in entries.items()})
                first = next(iter(entries.values()))
                assert (first.width, first.height, first.format) == (1512, 810, "JPEG")
                assert inspect(ledger.objects.read(first.sha256) or b"").luminance > 20
                tries = [e.tries for e in entries.values()]
        finally:
            provider.close()
    assert pictures[0] == pictures[1]
    assert set(tries) == {1}


def test_a_panorama_that_the_city_does_not_have_is_gone(quick: Params, faulty: str) -> None:
    provider, requests = collect(quick, faulty, 1)
    try:
        unknown = CaptureRequest(
            **{**vars(requests[0]), "panorama": type(requests[0].panorama)("nope", 59.0, 18.0, "", "", "")}
        )
        captures = list(provider.capture([unknown]))
        for _ in range(2):  # unless this very request was to show a fault first
            if captures[0].temporary:
                captures = list(provider.capture([unknown]))
        assert [(c.status, c.reason) for c in captures] == [("gone", "http 404")]
    finally:
        provider.close()


def test_a_proxy_elsewhere_is_left_alone(quick: Params, faulty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREETRECALL_PROXIES", "http://proxy.example:3128")
    provider = SimulatedProvider(quick, service=faulty)
    assert len(provider.client.proxies) == 0
    provider.close()
    monkeypatch.setenv("STREETRECALL_PROXIES", "http://127.0.0.1:3128")
    provider = SimulatedProvider(quick, service=faulty)
    assert len(provider.client.proxies) == 1
    provider.close()
    monkeypatch.setenv("STREETRECALL_PROXIES", "nonsense")
    with pytest.raises(UserError):
        SimulatedProvider(quick, service=faulty)
