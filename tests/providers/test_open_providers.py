"""Providers panoramax and mapillary against a stand-in of both services: boxes, dates, pictures, faults, resumption."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from anyjson import ANY_JSON
from hypothesis import given
from hypothesis import strategies as st
from tinyopen import START, STEP_DEG, TOKEN, Taken, TinyOpen, open_box_provider, street
from tinyservice import Fault, serving

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.pictures.codec import decode
from streetrecall.providers import open_provider
from streetrecall.providers.base import Capture, CaptureRequest
from streetrecall.providers.boxes import Box, BoxProvider, Page, box_of, dump_page, load_page, tile_of
from streetrecall.providers.http import Answer, RequestError
from streetrecall.providers.mapillary import read_ids, read_image, read_object
from streetrecall.providers.panoramax import read_item, read_items, read_related
from streetrecall.providers.shots import Shot
from streetrecall.stages import scrape
from streetrecall.store.ledger import Ledger

HERE = Path(__file__).parent
NAMES = ("panoramax", "mapillary")


def quick(params: Params, **change: Any) -> Params:
    """Short waits, and sections of both providers with the values ``change``."""
    update = {"backoff_s": 0.001, "timeout_s": 3.0, "tries": 3, "breaker_refusals": 1000, "breaker_pause_s": 0.01}
    sections = {n: getattr(params, n).model_copy(update={"limit": 500, **change}) for n in NAMES}
    small = params.scrape.model_copy(update={"width": 320, "height": 180})
    return params.model_copy(update={"network": params.network.model_copy(update=update), "scrape": small, **sections})


@contextmanager
def opened(
    name: str, params: Params, taken: list[Taken] | None = None, fault: Fault | None = None
) -> Iterator[tuple[BoxProvider, TinyOpen]]:
    with serving(TinyOpen(street(6) if taken is None else taken, fault)) as service:
        assert isinstance(service, TinyOpen)
        provider = open_box_provider(name, params, service.base)
        try:
            yield provider, service
        finally:
            provider.close()


def points(count: int, step: float = STEP_DEG) -> pd.DataFrame:
    frame = pd.DataFrame({"point_id": range(count)})
    return frame.assign(lat=START[0] + step * frame["point_id"], lon=START[1])


def locations(provider: BoxProvider, count: int, splits: tuple[str, ...] = ("train", "test")) -> pd.DataFrame:
    found = {a.point_id: a.panorama for a in provider.coverage(points(count), 50.0)}
    rows = [
        {"place": i, "pano_id": p.pano_id, "lat": p.lat, "lon": p.lon, "level": i % len(splits),
         "split": splits[i % len(splits)], "radius_m": 50.0}
        for i, p in sorted(found.items()) if p is not None
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", NAMES)
def test_each_point_gets_the_nearest_place_by_its_newest_picture(name: str, params: Params) -> None:
    with opened(name, quick(params)) as (provider, service):
        answers = {a.point_id: a for a in provider.coverage(points(8), 50.0)}
        assert [answers[i].status for i in range(8)] == ["OK"] * 6 + ["NONE"] * 2
        first = answers[0].panorama
        assert first is not None and (first.pano_id, first.month[:4]) == ("s0-2023", "2023")
        assert first.licence == {"panoramax": "etalab-2.0", "mapillary": "CC-BY-SA-4.0"}[name]
        assert first.attribution == {"panoramax": "Ann", "mapillary": "Mapillary, ann"}[name]
        searches = [q for q in service.queries if "bbox" in q]
        assert len(searches) <= 2 < 8
        assert sorted(a.point_id for a in provider.coverage(points(8), 50.0)) == list(range(8))
        assert len([q for q in service.queries if "bbox" in q]) == len(searches)  # answered from the notes


@pytest.mark.parametrize("name", NAMES)
def test_a_box_with_too_many_pictures_is_divided(name: str, params: Params) -> None:
    with opened(name, quick(params), street(12)) as (whole, _):
        wanted = {s.shot_id for s in whole._around(locations(whole, 12))}
    with opened(name, quick(params, limit=13), street(12)) as (provider, service):
        found = {s.shot_id for s in provider._around(locations(provider, 12))}
        assert found == wanted and len(wanted) == 6 * 3 + 6 * 12
        asked = [q for q in service.queries if "bbox" in q]
        assert 8 < len(asked) == len(set(asked))


def test_links_to_the_next_page_are_followed(params: Params) -> None:
    with opened("panoramax", quick(params)) as (provider, service):
        service.paged = 4
        found = provider._around(locations(provider, 6))
        assert len(found) == 3 * 3 + 3 * 12
        assert any("token=4" in q for q in service.queries)


@pytest.mark.parametrize("href", ["http://other.example/api/search?token=1", "same", "http://[bad"])
def test_links_that_lead_elsewhere_or_in_a_circle_are_not_followed(href: str, params: Params) -> None:
    class Circling(TinyOpen):
        def _search(self, query: dict[str, str]) -> tuple[Any, ...]:
            status, kind, body = super()._search(query)
            content = json.loads(body)
            target = f"{self.base}/api/search?bbox={query['bbox']}&limit={query['limit']}" if href == "same" else href
            if len(content["features"]) > 10:
                content["links"] = [{"rel": "next", "href": target}]
            return status, kind, json.dumps(content).encode()

    with serving(Circling(street(6))) as service:
        provider = open_box_provider("panoramax", quick(params), service.base)
        found = provider._around(locations(provider, 6))
        provider.close()
        assert len(found) == 3 * 3 + 3 * 12
        assert all("other.example" not in q for q in service.queries)


@pytest.mark.parametrize("name", NAMES)
def test_a_place_has_its_dates_and_directions(name: str, params: Params) -> None:
    with opened(name, quick(params)) as (provider, _):
        plan = pd.DataFrame([vars(r) | {"month": r.panorama.month} for r in provider.plan(locations(provider, 6))])
        assert provider.unplanned == []
    assert (plan.groupby("place").size() == 12).all()  # three dates in four directions, of spheres and of flat pictures
    for _, rows in plan.groupby("place"):
        dates = rows.drop_duplicates("date_index").sort_values("date_index")
        assert [month[:4] for month in dates["month"]] == ["2023", "2019", "2014"]
    spheres = plan[plan["place"] % 2 == 0]
    assert set(spheres["heading_deg"]) == set(params.scrape.headings_deg) and spheres["fov_deg"].eq(120.0).all()
    flat = plan[plan["place"] % 2 == 1]
    assert sorted(set(flat["heading_deg"])) == [5.0, 95.0, 185.0, 275.0] and flat["fov_deg"].isna().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_flat_picture_that_faces_no_direction_is_not_used(name: str, params: Params) -> None:
    with opened(name, quick(params, heading_deg=4.0)) as (provider, _):
        plan = list(provider.plan(locations(provider, 6)))
    assert {request.place for request in plan} == {0, 2, 4}


@pytest.mark.parametrize("name", NAMES)
def test_dense_places_get_whole_spheres_and_gallery_places_no_flat_pictures(name: str, params: Params) -> None:
    with opened(name, quick(params)) as (provider, _):
        plan = list(provider.plan(locations(provider, 6, ("gallery",))))
        captures = list(provider.capture(plan))
    assert {(r.place, r.date_index) for r in plan} == {(p, d) for p in (0, 2, 4) for d in (1, 2)}
    assert {str(r.projection) for r in plan} == {"equirectangular"}
    for capture in captures:
        picture = decode(capture.data)
        assert picture is not None and picture.shape == (128, 256, 3)


def test_the_servers_own_links_can_decide_the_dates(params: Params) -> None:
    with opened("panoramax", quick(params, dates="related")) as (provider, service):
        places = locations(provider, 6)
        plan = list(provider.plan(places))
        assert {(r.place, r.panorama.month[:4]) for r in plan} >= {(0, "2023"), (0, "2019"), (0, "2014")}
        asked = len([q for q in service.queries if "/items/" in q])
        assert asked == len(places)
        assert list(provider.plan(places)) == plan
        assert len([q for q in service.queries if "/items/" in q]) == asked


FAULTS = ["429", "500", "reset", "stall", "truncated", "malformed", "html"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_pass_cost_nothing(name: str, fault: str, params: Params) -> None:
    limits = quick(params)
    limits = limits.model_copy(update={"network": limits.network.model_copy(update={"timeout_s": 0.5})})
    with opened(name, limits, street(4), lambda path, query, n: fault if n == 1 else None) as (provider, service):
        service.retry_after = "0"
        plan = list(provider.plan(locations(provider, 4)))
        captures = list(provider.capture(plan))
        assert len(captures) == len(plan) == 48
        assert {(c.status, c.reason) for c in captures} == {("ok", "")}
        assert set(service.asked.values()) == {2}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["500", "truncated", "malformed", "html"])
def test_one_picture_that_cannot_be_had_is_named_and_the_rest_goes_on(name: str, fault: str, params: Params) -> None:
    bad = "/pictures/s0-2019.jpg"
    with opened(name, quick(params), street(4), lambda path, q, n: fault if path == bad else None) as (provider, _):
        captures = list(provider.capture(list(provider.plan(locations(provider, 4)))))
    lost = [c for c in captures if c.status != "ok"]
    assert {c.request.panorama.pano_id for c in lost} == {"s0-2019"} and len(lost) == 4
    assert {c.status for c in lost} == {"failed"} and all(c.reason for c in lost)


@pytest.mark.parametrize("name", NAMES)
def test_missing_pictures_are_gone_expired_links_are_renewed_and_redirects_followed(name: str, params: Params) -> None:
    with opened(name, quick(params), street(4)) as (provider, service):
        service.missing, service.expired, service.redirects = {"s0-2019"}, {"s0-2023", "f1-2014-0"}, True
        captures = list(provider.capture(list(provider.plan(locations(provider, 4)))))
        gone = [c for c in captures if c.status != "ok"]
        assert {(c.request.panorama.pano_id, c.status, c.reason) for c in gone} == {("s0-2019", "gone", "HTTP 404")}
        assert sum("renewed=1" in q for q in service.queries) == 2
        secret = [h for q, h in zip(service.queries, service.headers, strict=True) if q.startswith(("/pict", "/store"))]
        assert secret and all("Authorization" not in h for h in secret)


@pytest.mark.parametrize("name", NAMES)
def test_a_rejected_search_or_token_stops_with_a_sentence(name: str, params: Params) -> None:
    with serving(TinyOpen(street(2))) as service:
        provider = open_box_provider(name, quick(params), service.base, token="MLY|wrong")
        if name == "panoramax":
            provider._limit = 20_000
        with pytest.raises(
            UserError, match=r"provider '\w+': the (server rejects the search|service rejects the token)"
        ):
            list(provider.coverage(points(2), 50.0))
        provider.close()
        assert service.asked.total() == 1


def test_a_list_of_ids_replaces_the_search(params: Params, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id,name\ns0-2023,x\ns0-2014\n\nf1-2019-2\nlost\ns0-2023\n")
    listed = quick(params)
    listed = listed.model_copy(
        update={"mapillary": listed.mapillary.model_copy(update={"ids": str(tmp_path / "ids.csv")})}
    )
    with opened("mapillary", listed) as (provider, service):
        places = locations(provider, 6)
        assert set(places["pano_id"]) <= {"s0-2023", "s0-2014", "f1-2019-2"} and len(places) == 2
        plan = list(provider.plan(places))
        assert {r.panorama.pano_id for r in plan} == {"s0-2023", "s0-2014", "f1-2019-2"}
        assert not any("bbox" in q for q in service.queries)
        assert sorted(service.asked.values()) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("content", "message"), [(b"a/b\n", "line 1 is no id"), (b"\xff\xfe", "not UTF-8"), (None, "No such file")]
)
def test_a_bad_list_of_ids_is_an_error(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ids").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_ids(tmp_path / "ids")


def test_a_device_is_no_list_of_ids() -> None:
    with pytest.raises(UserError, match=r"mapillary\.ids: /dev/zero: a device, not a file"):
        read_ids(Path("/dev/zero"))


def test_the_token_and_the_endpoint_come_from_the_environment(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREETRECALL_MAPILLARY_TOKEN", raising=False)
    with pytest.raises(UserError, match="set STREETRECALL_MAPILLARY_TOKEN"):
        open_provider(params.model_copy(update={"provider": "mapillary"}))
    monkeypatch.setenv("STREETRECALL_MAPILLARY_TOKEN", TOKEN)
    provider = open_provider(params.model_copy(update={"provider": "mapillary"}))
    assert "graph.mapillary.com" in provider.namespace and TOKEN not in provider.namespace
    monkeypatch.setenv("STREETRECALL_PANORAMAX", "http://127.0.0.1:8700/api")
    assert "http://127.0.0.1:8700/api " in open_provider(params.model_copy(update={"provider": "panoramax"})).namespace
    monkeypatch.setenv("STREETRECALL_PANORAMAX", "panoramax.example")
    with pytest.raises(UserError, match="STREETRECALL_PANORAMAX: give the address"):
        open_provider(params.model_copy(update={"provider": "panoramax"}))


ITEMS = st.fixed_dictionaries(
    {},
    optional={
        key: ANY_JSON | st.just(value)
        for key, value in {
            "id": "a", "collection": "c", "geometry": {"coordinates": [18.0, 59.0]}, "camera_type": "spherical",
            "assets": {"sd": {"href": "https://a.example/b.jpg"}}, "thumb_2048_url": "https://a.example/b.jpg",
            "properties": {"datetime": "2021-05-01T00:00:00Z", "view:azimuth": 30}, "captured_at": 1620036900000,
            "links": [{"rel": "related", "href": "https://a.example/x", "id": "x"}], "providers": [{"name": "Ann"}],
        }.items()
    },
)  # fmt: skip


@given(ITEMS | ANY_JSON)
def test_any_json_gives_a_record_or_nothing(item: Any) -> None:
    for shot in (read_item(item, "sd"), read_image(item, "thumb_2048_url")):
        if shot is not None:
            assert isinstance(shot, Shot) and shot.shot_id and shot.source.startswith("http")
            assert abs(shot.lat) <= 90 and abs(shot.lon) <= 180 and (shot.lat, shot.lon) != (0, 0)
            assert shot.month == "" or len(shot.month) == 7
            assert math.isnan(shot.heading_deg) or 0 <= shot.heading_deg < 360
            assert shot.licence and shot.attribution
            page = load_page(dump_page(Page([shot])))
            assert repr(page.shots) == repr([shot])
    assert isinstance(read_related(item), set)


@given(ANY_JSON | st.fixed_dictionaries({"features": ANY_JSON, "links": ANY_JSON}))
def test_any_answer_is_read_or_a_clear_error(body: Any) -> None:
    answer = Answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())
    for read in (read_items, read_object):
        try:
            read(answer)
        except RequestError as error:
            assert str(error)


@given(st.floats(-89, 89), st.floats(-179.9, 179.9), st.floats(0.001, 0.05))
def test_a_position_lies_in_its_box(lat: float, lon: float, box_deg: float) -> None:
    box = box_of(tile_of(lat, lon, box_deg), box_deg, 1.0)
    assert box.west <= lon <= box.east and box.south <= lat <= box.north
    parts = box.quarters()
    assert {p.west for p in parts} | {p.east for p in parts} >= {box.west, box.east}
    assert sum((p.east - p.west) * (p.north - p.south) for p in parts) == pytest.approx(
        (box.east - box.west) * (box.north - box.south)
    )
    assert Box(0, 0, 1e-5, 1e-5).divisible is False


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["metadata", "scrape"])
@pytest.mark.parametrize("name", NAMES)
def test_killed_at_random_moments_it_repeats_no_answered_request_and_ends_with_the_same_hashes(
    name: str, stage: str, params: Params, tmp_path: Path
) -> None:
    """Only what was under way at a kill, one request of each thread, may be asked again."""
    chance = random.Random(f"{name} {stage}")
    places = 160 if stage == "metadata" else 24
    with serving(TinyOpen(street(places, flat=stage == "scrape"))) as service:
        source = input_of(stage, name, params, service.base, places, tmp_path)
        service.asked.clear()
        subprocess.run(
            killable(stage, source, tmp_path / "whole", service.base, name), check=True, **quiet(tmp_path, "w")
        )
        whole = service.asked.copy()
        assert whole.total() >= 15 and set(whole.values()) == {1}

        service.asked.clear()
        command, kills = killable(stage, source, tmp_path / "killed", service.base, name), 3
        for _ in range(kills):
            enough = service.asked.total() + chance.randrange(1, max(2, whole.total() // (kills + 1)))
            child = subprocess.Popen(command, **quiet(tmp_path, "k"))
            while service.asked.total() < enough and child.poll() is None:
                service.release.wait(0.002)
            service.release.wait(chance.uniform(0, 0.02))
            assert child.poll() is None, "it ended before it could be killed"
            child.send_signal(signal.SIGKILL)
            child.wait()
        subprocess.run(command, check=True, **quiet(tmp_path, "k"))
        assert set(service.asked) == set(whole)
        assert service.asked.total() <= whole.total() + kills * params.network.threads
        assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")
        total = service.asked.total()
        subprocess.run(command, check=True, **quiet(tmp_path, "k"))
        assert service.asked.total() == total and hashes(tmp_path / "killed") == hashes(tmp_path / "whole")


def input_of(stage: str, name: str, params: Params, base: str, places: int, folder: Path) -> Path:
    """The table that the stage reads: a grid, or places of the street of `TinyOpen`."""
    if stage == "metadata":
        return tables.write(tables.GRID, points(places // 4, STEP_DEG * 4), folder / "grid.parquet")
    provider = open_box_provider(name, quick(params), base)
    rows = locations(provider, places)
    provider.close()
    rows = rows.assign(rank=rows.index, x=0.0, y=60.0 * rows.index, month="2023-06", start_distance_m=60.0 * rows.index)
    return tables.write(tables.LOCATIONS, rows, folder / "locations.parquet")


def killable(stage: str, source: Path, out: Path, base: str, name: str) -> list[str]:
    out.mkdir()
    return [sys.executable, str(HERE.parent / "killable.py"), stage, str(source), str(out), base, name]


def quiet(folder: Path, store: str) -> dict[str, Any]:
    """How a process is started that keeps its answers in a store of its own."""
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "STREETRECALL_STORE": str(folder / f"store_{store}")}
    return {"env": environment, "stderr": subprocess.DEVNULL}


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    }


@given(st.binary(max_size=60) | st.text(alphabet='id,key\n\r"a1-_/é\x00 ', max_size=40).map(str.encode))
def test_any_file_is_a_list_of_ids_or_a_clear_error(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            ids = read_ids(Path(file.name))
        except UserError as error:
            assert str(error).startswith("mapillary.ids: ")
            return
    assert len(set(ids)) == len(ids)
    assert all(name and name.isascii() and name.replace("-", "").replace("_", "").isalnum() for name in ids)


@pytest.mark.parametrize("name", NAMES)
def test_a_capture_run_that_is_stopped_goes_on_with_what_is_missing(name: str, params: Params, tmp_path: Path) -> None:
    mine = quick(params)
    with opened(name, mine) as (provider, service):
        plan = list(provider.plan(locations(provider, 6)))
        with Ledger(tmp_path) as ledger:
            scrape.fetch(mine, First(provider, 10), ledger, "n", plan[:10])  # type: ignore[arg-type]
            asked = service.asked.copy()
            scrape.fetch(mine, provider, ledger, "n", plan)  # type: ignore[arg-type]
            assert {r.key for r in plan} == set(ledger.entries("n"))
        again = service.asked - asked
        done = {f"/pictures/{r.panorama.pano_id}.jpg" for r in plan[:10]}
        half = {f"/pictures/{plan[10].panorama.pano_id}.jpg"}  # of which only some frames were cut
        assert not (set(again) & (done - half))


class First:
    """A provider that is stopped after so many captures."""

    def __init__(self, provider: BoxProvider, count: int) -> None:
        self.provider, self.count = provider, count
        self.name, self.network, self.namespace = provider.name, True, provider.namespace

    def capture(self, requests: list[CaptureRequest]) -> Iterator[Capture]:
        for number, capture in enumerate(self.provider.capture(requests)):
            if number < self.count:
                yield capture
