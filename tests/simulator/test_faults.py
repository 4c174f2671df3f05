"""Faults on request: each kind does what it says, a plan is seeded, and an item works again when its plan says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.service import faults
from streetrecall.simulator.service.server import running

ROOT = Path(__file__).parents[2]

KEY = "AIzaSimulator"


def view(base: str, pano: str, timeout: float = 10.0, **query: str) -> requests.Response:
    return requests.get(f"{base}/tiles/view", params={"pano": pano, "heading": "0", **query}, timeout=timeout)


def test_refusals_look_like_real_ones(base: str, pano: str) -> None:
    busy = view(base, pano, fault="429")
    assert busy.status_code == 429 and int(busy.headers["retry-after"]) >= 0
    assert view(base, pano, fault="500").status_code == 500
    by_header = requests.get(f"{base}/viewer/panos", params={"pano": pano}, headers={"X-Fault": "500"}, timeout=10)
    assert by_header.status_code == 500
    assert view(base, pano).status_code == 200


def test_a_reset_and_a_truncated_body(base: str, pano: str) -> None:
    with pytest.raises(requests.ConnectionError):
        view(base, pano, fault="reset")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        view(base, pano, fault="truncated")


@pytest.mark.parametrize("kind", ["timeout", "stalled-tile"])
def test_a_hanging_answer_hangs(base: str, pano: str, kind: str) -> None:
    start = time.monotonic()
    with pytest.raises((requests.ReadTimeout, requests.ConnectionError)):
        view(base, pano, timeout=0.7, fault=kind)
    assert time.monotonic() - start >= 0.6


def test_malformed_and_mistyped_answers(base: str, pano: str) -> None:
    url, query = f"{base}/maps/api/streetview/metadata", {"pano": pano, "key": KEY}
    damaged = requests.get(url, params={**query, "fault": "malformed"}, timeout=10)
    assert damaged.status_code == 200 and damaged.headers["content-type"].startswith("application/json")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        damaged.json()
    mistyped = requests.get(url, params={**query, "fault": "content-type"}, timeout=10)
    assert mistyped.status_code == 200 and mistyped.headers["content-type"] == "text/html"
    quota = requests.get(url, params={**query, "fault": "quota"}, timeout=10).json()
    assert quota["status"] == "OVER_QUERY_LIMIT"


def test_a_black_frame_is_a_picture_that_is_black(base: str, pano: str) -> None:
    import cv2
    import numpy as np

    picture = cv2.imdecode(np.frombuffer(view(base, pano, fault="black").content, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (810, 1512, 3) and picture.mean() < 8


PLAN = {"seed": 5, "times": 2, "permanent": 0.25, "probabilities": {"429": 0.3, "500": 0.3}, "paths": ["/viewer/panos"]}


@pytest.fixture(scope="module")
def faulty(city_params: Params) -> Iterator[str]:
    with running(city_params, faults=PLAN, root=ROOT) as url:
        yield url


def test_an_item_works_after_so_many_tries_or_never(faulty: str, city: City) -> None:
    outcomes = []
    with requests.Session() as session:
        for pano in city.panos[:300:3]:
            url = f"{faulty}/viewer/panos"
            codes = tuple(session.get(url, params={"pano": pano.pano_id}, timeout=10).status_code for _ in range(4))
            outcomes.append(codes)
    kinds = set(outcomes)
    assert kinds == {(200,) * 4, (429, 429, 200, 200), (500, 500, 200, 200), (429,) * 4, (500,) * 4}
    assert 40 <= sum(o[0] != 200 for o in outcomes) <= 80  # 60 expected
    assert 5 <= sum(o[3] != 200 for o in outcomes) <= 28  # 15 expected
    assert view(faulty, city.panos[0].pano_id).status_code == 200  # not one of the plan's paths


def test_which_item_fails_depends_on_the_seed_alone() -> None:
    def draws(seed: int) -> list[str | None]:
        scopes = [
            {"path": "/tiles/view", "query_string": f"pano={i}&heading=0".encode(), "headers": []} for i in range(200)
        ]
        app = faults.Faults(
            None,
            faults.plan({"seed": seed, "probabilities": {"500": 0.2, "black": 0.2}}),
            None,  # type: ignore[arg-type]
            b"",
        )
        return [app._kind(scope) for scope in scopes]  # type: ignore[arg-type]

    assert draws(1) == draws(1) != draws(2)
    assert 50 <= sum(d is not None for d in draws(1)) <= 110
    assert {"500", "black", None} == set(draws(1))


def test_the_order_of_the_query_and_the_key_do_not_make_another_item() -> None:
    plan = faults.plan({"probabilities": {"500": 1.0}, "times": 1})
    app = faults.Faults(None, plan, None, b"")  # type: ignore[arg-type]
    first = {"path": "/tiles/view", "query_string": b"pano=a&heading=0&key=AIza1", "headers": []}
    again = {"path": "/tiles/view", "query_string": b"heading=0&pano=a&key=AIza2", "headers": []}
    assert app._kind(first) == "500"
    assert app._kind(again) is None


@pytest.mark.parametrize(
    "values",
    [{"probabilities": {"fire": 0.1}}, {"probabilities": {"500": 1.5}}, {"often": 1}, {"times": 0}, {"hang_s": 0}],
)
def test_a_bad_plan_is_refused(values: dict[str, object], city_params: Params) -> None:
    with pytest.raises(UserError, match="faults: "), running(city_params, faults=values):  # type: ignore[arg-type]
        pass
