"""The simulated provider's dense places: dates and 360-degree panoramas over HTTP, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from killable import hasty

from streetrecall import tables
from streetrecall.params.schema import Params, load
from streetrecall.pictures.codec import decode
from streetrecall.providers.base import CaptureRequest, Panorama
from streetrecall.providers.http import Client
from streetrecall.providers.panoramax import PanoramaxProvider
from streetrecall.providers.simulated import SimulatedProvider
from streetrecall.simulator.city.plan import City, open_city
from streetrecall.simulator.render.develop import jpeg
from streetrecall.simulator.render.renderer import FOV, HORIZON, renderer
from streetrecall.simulator.service.server import running
from streetrecall.stages import scrape
from streetrecall.store.ledger import Ledger

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def city() -> City:
    return open_city(load(ROOT / "params.yaml"), ROOT)


@pytest.fixture(scope="module")
def faulty() -> Iterator[str]:
    """The service; most pictures and lists of dates have one fault at the first request, and none after it."""
    kinds = ("429", "500", "reset", "truncated", "malformed", "content-type", "black")
    plan = {"probabilities": dict.fromkeys(kinds, 0.12), "seed": 3, "times": 1, "retry_after_s": 0}
    with running(load(ROOT / "params.yaml"), faults=plan, root=ROOT) as base:
        yield base


def patient(params: Params) -> Params:
    """Short waits between tries, but time enough for a busy machine to draw."""
    quick = hasty(params)
    network = quick.network.model_copy(update={"timeout_s": 60.0})
    return quick.model_copy(update={"network": network, "scrape": params.scrape})


@pytest.fixture
def provider(params: Params, faulty: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedProvider]:
    monkeypatch.chdir(ROOT)
    provider = SimulatedProvider(patient(params), service=faulty)
    yield provider
    assert provider._browsers is None  # none was started
    provider.close()


def places(city: City, *levels: tuple[str, float]) -> pd.DataFrame:
    """A place with many dates for each split and radius."""
    spots = [ids for ids in city.spot_panos if len(ids) >= 5 and not any(city.panos[i].shown for i in ids)]
    rows = [(place, city.panos[spots[place][0]].pano_id, place, *level) for place, level in enumerate(levels)]
    return pd.DataFrame(rows, columns=["place", "pano_id", "level", "split", "radius_m"])


def test_dense_places_are_planned_as_spheres(provider: SimulatedProvider, city: City) -> None:
    dense = places(city, ("train", 10.0), ("gallery", 5.0), ("gallery", 30.0))
    plan = pd.DataFrame([vars(request) for request in provider.plan(dense)])
    assert provider.unplanned == []
    assert set(plan["projection"]) == {"equirectangular"} and set(plan["fov_deg"]) == {360.0}
    dates = [len(city.dates(city.pano(pano))) for pano in dense["pano_id"]]  # type: ignore[arg-type]
    assert plan[plan["place"] == 0]["date_index"].tolist() == list(range(dates[0]))
    for place in (1, 2):
        assert plan[plan["place"] == place]["date_index"].tolist() == [1, 2]
        newest = city.dates(city.pano(dense["pano_id"][place]))  # type: ignore[arg-type]
        taken = [panorama.pano_id for panorama in plan[plan["place"] == place]["panorama"]]
        assert taken == [pano.pano_id for pano in newest[1:3]]


def test_frames_say_how_they_show_the_world(provider: SimulatedProvider, params: Params) -> None:
    frames = list(provider._pictures(0, 0, Panorama("p", 59.3, 18.0, "2020-05", "", ""), "train", "train_v1", False))
    assert [frame.heading_deg for frame in frames] == params.scrape.headings_deg
    assert {(frame.projection, frame.fov_deg, frame.horizon) for frame in frames} == {("perspective", FOV, HORIZON)}


def test_all_spheres_are_captured_under_faults_and_as_drawn(
    provider: SimulatedProvider, params: Params, city: City, tmp_path: Path
) -> None:
    plan = list(provider.plan(places(city, *[("gallery", 5.0)] * 10)))
    with Ledger(tmp_path) as ledger:
        scrape.fetch(patient(params), provider, ledger, "n", plan)
        entries = ledger.entries("n")
        assert {request.key for request in plan} == set(entries) and len(entries) == 20
        for request in plan:
            entry, pano = entries[request.key], city.pano(request.panorama.pano_id)
            assert pano is not None and request.key == (pano.pano_id, "equirectangular")
            assert (entry.status, entry.width, entry.height) == (("blank" if pano.dark else "ok"), 2048, 1024)
        first = ledger.objects.read(entries[plan[0].key].sha256)
        pano = city.pano(plan[0].panorama.pano_id)
        assert pano is not None and first == jpeg(renderer(city).panorama(pano, 2048))


def test_a_sphere_that_the_city_does_not_have_is_gone(provider: SimulatedProvider) -> None:
    panorama = Panorama("nope", 59.3, 18.0, "2020-05", "", "")
    request = CaptureRequest(
        0, 0, 0.0, 0, panorama, "gallery", "gallery_v1", projection=tables.Projection.EQUIRECTANGULAR
    )
    captures = list(provider.capture([request]))
    assert [(c.status, c.reason, c.temporary) for c in captures] == [("gone", "HTTP 404", False)]
    table = pd.DataFrame([{"place": 0, "pano_id": "nope", "level": 0, "split": "gallery", "radius_m": 5.0}])
    assert list(provider.plan(table)) == []
    assert [source for source, _ in provider.unplanned] == ["panorama nope"]


def test_the_service_bounds_the_width(faulty: str, city: City) -> None:
    import requests

    some = city.panos[0].pano_id
    no_fault = {"pano": some, "fault": "none"}
    answers = [
        requests.get(f"{faulty}/tiles/panorama", {**no_fault, "w": width}, timeout=60) for width in (256, 5000, "wide")
    ]
    assert [answer.status_code for answer in answers] == [200, 400, 400]
    picture = decode(answers[0].content)
    assert picture is not None and picture.shape == (128, 256, 3)


def test_the_provider_panoramax_collects_the_same_city(faulty: str, params: Params, city: City) -> None:
    """The service speaks Panoramax's contract too: the same spheres, by boxes, without a browser, under faults."""
    mine = patient(params)
    provider = PanoramaxProvider(mine, faulty, Client(mine.network, environment=False))
    spot = next(ids for ids in city.spot_panos if len(ids) >= 5 and not any(city.panos[i].shown for i in ids))
    newest = max((city.panos[i] for i in spot), key=lambda p: p.month)
    lat, lon = city.position(newest)
    point = pd.DataFrame({"point_id": [7], "lat": [lat], "lon": [lon]})
    (answer,) = provider.coverage(point, 50.0)
    assert answer.panorama is not None and answer.panorama.licence == "CC0-1.0"
    place = pd.DataFrame(
        [{"place": 0, "pano_id": answer.panorama.pano_id, "level": 0, "split": "gallery", "radius_m": 5.0,
          "lat": answer.panorama.lat, "lon": answer.panorama.lon}]
    )  # fmt: skip
    plan = list(provider.plan(place))
    assert len(plan) == params.scrape.gallery_dates and provider.unplanned == []
    captures = list(provider.capture(plan))
    provider.close()
    by_position = {
        (round(float(a), 6), round(float(o), 6), p.date): p for a, o, p in zip(*city.latlon, city.panos, strict=True)
    }
    for capture in captures:
        shown = capture.request.panorama
        pano = by_position[round(shown.lat, 6), round(shown.lon, 6), shown.month]
        assert capture.status == "ok" and capture.data == jpeg(renderer(city).panorama(pano, 2048))
