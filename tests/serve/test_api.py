"""The API: what it answers, what it refuses, and that nothing brings it down."""

from __future__ import annotations

import io
import json
import shutil
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from servedcity import GAINED, LOST, Served
from tinybundle import NEVER

from streetrecall import tables
from streetrecall.bundle.answer import Bundle
from streetrecall.serve.asking import open_bundle
from streetrecall.serve.uploads import Upload


@pytest.fixture(scope="module")
def client(served: Served):
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


def problem(response: httpx.Response, status: int) -> dict:
    """The problem details of an answer that must have this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content["status"] == status
    assert content["title"] and content["detail"]
    return content


def post(client: httpx.Client, *files: tuple[str, bytes]) -> httpx.Response:
    return client.post("/api/locate", files=[("photos", file) for file in files])


def test_health_says_what_can_be_answered(client):
    health = client.get("/healthz").json()
    assert (health["status"], health["locate"], health["results"]) == ("ok", True, True)


def test_every_answer_has_the_security_headers(client):
    for path in ("/", "/static/js/main.js", "/api/about", "/api/nothing", "/healthz"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_queries_agree_with_the_evaluation(client, served_project):
    measured = json.loads((served_project / "metrics/evaluate.json").read_text())
    for system in ("model", "baseline", "sift_vlad"):
        for scope, protocol in (("validation", "newest_vs_older"), ("test", "city"), ("test", "leave_one_date_out")):
            answer = client.get("/api/queries", params={"system": system, "scope": scope, "protocol": protocol}).json()
            frame = pd.DataFrame(answer["columns"])
            asked = frame[frame["answerable"]]
            expected = measured[system][scope][protocol]
            assert len(asked) == expected["queries"]
            assert (asked["rank"] == 1).mean() == pytest.approx(expected["recall_at_1_25m"], abs=1e-3)
            assert ((frame["outcome"] == "right") == (frame["rank"] == 1)).all()
            assert set(frame["season"]) <= {"spring", "summer", "autumn", "winter"}
            assert answer["credits"] == ["drawn for a test"]


def test_systems_are_asked_by_any_name_that_a_network_can_have(client):
    for system, status in (("mega-loc", 404), ("../model", 422)):
        asked = {"system": system, "scope": "test", "protocol": "city"}
        assert client.get("/api/queries", params=asked).status_code == status
        assert client.get("/api/compare", params=asked).status_code == status


def test_the_years_between_are_those_to_the_nearest_right_picture(client):
    for protocol, years in (("newest_vs_older", 2), ("newest_vs_oldest", 12), ("newest_vs_before_2015", 7)):
        columns = client.get("/api/queries", params={"scope": "test", "protocol": protocol}).json()["columns"]
        assert set(columns["gap_years"]) == {years}  # dates are 2022-05, 2019-09, 2014-07 and 2010-03


def test_a_query_comes_with_its_answers(client, served_project):
    table = tables.read(tables.NEIGHBOURS, served_project / "data/results/neighbours.parquet")
    first = table.query("scope == 'test' and protocol == 'city'").iloc[0]
    found = client.get(f"/api/queries/{first['image_id']}", params={"scope": "test", "protocol": "city"}).json()
    assert [a["rank"] for a in found["answers"]] == [1, 2, 3, 4, 5]
    assert found["answers"][0]["picture"]["id"] == f"crops-{first['neighbour_id']}"
    assert found["answers"][0]["distance_m"] == pytest.approx(first["distance_m"], abs=0.1)
    assert found["pictures"][0]["attribution"] == "drawn for a test"
    assert {p["protocol"] for p in found["protocols"]} >= {"city", "newest_vs_older"}
    problem(client.get("/api/queries/999999", params={"scope": "test", "protocol": "city"}), 404)


def test_photos_that_were_asked_are_shown_with_the_place_that_answered(client):
    columns = client.get("/api/queries", params={"scope": "test", "protocol": "photos"}).json()["columns"]
    assert columns["outcome"].count("withheld") == 1
    found = client.get("/api/queries/1", params={"scope": "test", "protocol": "photos"}).json()
    assert found["pictures"][0]["id"] == "photos-1"
    assert found["position"]["radius_m"] == 40.0
    assert all(a["picture"]["id"].startswith("views-") for a in found["answers"])


def test_a_place_has_its_dates_from_the_oldest(client):
    place = client.get("/api/places/3").json()
    assert [d["month"] for d in place["dates"]] == ["2010-03", "2014-07", "2019-09", "2022-05"]
    assert [d["heading_deg"] for d in place["directions"]] == [10.0, 100.0, 190.0, 280.0]
    assert all(None not in date["pictures"] for date in place["dates"])
    problem(client.get("/api/places/4711"), 404)


def test_places_of_a_box(client):
    every = client.get("/api/places", params={"limit": 5}).json()
    assert (every["total"], len(every["places"])) == (12, 5)
    one = every["places"][0]
    box = {"west": one["lon"] - 1e-5, "east": one["lon"] + 1e-5, "south": one["lat"] - 1e-5, "north": one["lat"] + 1e-5}
    assert client.get("/api/places", params=box).json() == {"total": 1, "places": [one]}


def test_pictures_are_sent_once(client):
    full = client.get("/api/pictures/crops-0")
    small = client.get("/api/pictures/crops-0?size=small")
    assert full.headers["content-type"] == small.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(full.content)).size == (224, 224)
    assert Image.open(io.BytesIO(small.content)).size == (128, 128)
    assert full.headers["etag"] != small.headers["etag"]
    again = client.get("/api/pictures/crops-0", headers={"if-none-match": full.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" in client.get("/api/pictures/crops-0?v=abc").headers["cache-control"]
    problem(client.get("/api/pictures/crops-99999"), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/api/pictures/..%2f..%2fparams.yaml",
        "/api/pictures/crops-0%00",
        "/static/../../../params.yaml",
        "/static/%2e%2e/%2e%2e/service.py",
        "/static//etc/passwd",
        "/static/js",
        "/params.yaml",
    ],
)
def test_no_path_reaches_the_file_system(served, path):
    answer = raw(served, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.split()[1] in (b"404", b"422")
    assert b"application/problem+json" in answer


def test_what_was_kept_out_is_told_with_its_reason(client):
    everything = client.get("/api/quarantine").json()
    assert everything["reasons"] == {"blank": 2, "wrong_shape": 1}
    assert client.get("/api/quarantine?reason=blank&limit=1").json()["total"] == 2


def test_revisions_are_compared_query_by_query(client):
    names = [r["name"] for r in client.get("/api/revisions").json()["revisions"]]
    assert names[:2] == ["workspace", "HEAD"]
    assert "main" in names
    found = client.get("/api/compare", params={"protocol": "newest_vs_older", "first": "main"}).json()
    assert (found["counts"]["gained"], found["counts"]["lost"]) == (GAINED, LOST)
    assert found["difference"]["queries"] == sum(found["counts"].values()) == len(found["columns"]["outcome"])
    back = client.get("/api/compare", params={"protocol": "newest_vs_older", "first": "workspace", "second": "HEAD"})
    assert (back.json()["counts"]["gained"], back.json()["counts"]["lost"]) == (LOST, GAINED)
    problem(client.get("/api/compare", params={"protocol": "newest_vs_older", "first": "nowhere"}), 404)
    problem(client.get("/api/compare", params={"protocol": "newest_vs_older", "first": "--output=x"}), 422)


def test_a_photo_is_answered_as_the_bundle_answers_it(client, tiny_bundle, photos):
    bundle, right = Bundle(tiny_bundle), 0
    for row in photos.itertuples():
        (expected,) = bundle.answer([row.jpeg])
        answer = post(client, ("a.jpg", row.jpeg)).json()
        assert answer["answered"]
        assert answer["position"] == {
            "lat": expected.lat, "lon": expected.lon, "radius_m": expected.radius_m, "coverage": 0.9,
        }  # fmt: skip
        assert [n["place"] for n in answer["neighbours"]] == [n.place for n in expected.neighbours]
        assert answer["photos"][0]["file"] == "a.jpg"
        picture = client.get(f"/api/pictures/{answer['neighbours'][0]['picture']['id']}")
        assert Image.open(io.BytesIO(picture.content)).format == "JPEG"
        right += answer["neighbours"][0]["place"] == row.spot
    assert right > len(photos) / 2


def test_a_withheld_answer_has_no_position(tiny_bundle, photos, tmp_path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "bundle.json").read_text())
    for calibration in manifest["calibration"]["full"].values():
        calibration["threshold"] = NEVER
    (folder / "bundle.json").write_text(json.dumps(manifest))
    answer = open_bundle(folder).locate([Upload("a.jpg", photos["jpeg"].iloc[0])])
    assert answer["answered"] is False
    assert answer["position"] is None
    assert "99" in answer["reason"]
    assert len(answer["neighbours"]) == 5


def test_photos_of_a_spot_are_answered_together(client, photos):
    spot = photos[photos["spot"] == photos["spot"].iloc[0]]
    answer = post(client, *[(f"{i}.jpg", data) for i, data in enumerate(spot["jpeg"])]).json()
    assert [p["file"] for p in answer["photos"]] == [f"{i}.jpg" for i in range(len(spot))]
    assert answer["neighbours"][0]["place"] == spot["spot"].iloc[0]


def jpeg(width: int = 320, height: int = 240) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "jpeg")
    return buffer.getvalue()


def png_bomb(side: int) -> bytes:
    """A PNG of one colour that unpacks to ``side`` x ``side`` pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side * 3)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("text.jpg", b"This is no photo.", 415),
        ("archive.jpg", b"PK\x03\x04" + bytes(100), 415),
        ("page.png", b"<html><script>alert(1)</script></html>", 415),
        ("empty.jpg", b"", 422),
        ("cut.jpg", jpeg()[:5000], 422),
        ("head.jpg", b"\xff\xd8\xff\xe0", 422),
        ("tiny.jpg", jpeg(8, 8), 422),
        ("bomb.png", png_bomb(9000), 422),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_no_photo_is_refused_by_its_content(client, name, data, status):
    assert problem(post(client, (name, data)), status)["file"] == name


def test_uploads_have_limits(client):
    small = jpeg(64, 64)
    problem(post(client, *[("a.jpg", small)] * 9), 400)
    problem(post(client, ("large.jpg", small + bytes(30_000_001))), 413)
    problem(client.post("/api/locate", files=[("other", ("a.jpg", small))]), 422)
    problem(client.post("/api/locate", json={"photos": []}), 415)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    problem(client.post("/api/locate", content=b"--x\r\nnonsense", headers=broken), 422)
    problem(client.post("/api/locate", content=b"nonsense", headers=broken), 400)
    problem(client.post("/api/locate", content=b"", headers={"content-type": "multipart/form-data"}), 400)


def raw(served: Served, request: bytes) -> bytes:
    """What the service sends back for bytes that no client would send."""
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), 20) as sock:
        sock.sendall(request)
        return sock.makefile("rb").read()


def test_a_body_that_says_it_is_too_large_is_not_read(served):
    head = b"POST /api/locate HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    answer = raw(served, head + b"Content-Length: 999999999999\r\n\r\n--x")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"application/problem+json" in answer


def test_only_the_own_page_may_send_from_a_browser(client):
    photo = [("photos", ("a.jpg", jpeg()))]
    for headers in ({"origin": "https://example.org"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        problem(client.post("/api/locate", files=photo, headers=headers), 403)
    problem(client.get("/api/about", headers={"host": "rebound.example.org"}), 421)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_upload_is_a_fault_of_the_service(client, data):
    """Random bytes, and photos with changed, missing and doubled parts, are answered or refused."""
    photo = bytearray(jpeg())
    kind = data.draw(st.sampled_from(["random", "changed", "cut", "doubled"]))
    if kind == "random":
        photo = bytearray(data.draw(st.binary(max_size=300)))
    elif kind == "changed":
        for at in data.draw(st.lists(st.integers(0, len(photo) - 1), min_size=1, max_size=20)):
            photo[at] = data.draw(st.integers(0, 255))
    elif kind == "cut":
        photo = photo[: data.draw(st.integers(0, len(photo)))]
    else:
        at = data.draw(st.integers(0, len(photo)))
        photo = photo[:at] + photo[at // 2 :]
    name = data.draw(st.text(st.characters(blacklist_categories=["Cs"]), max_size=20))
    response = post(client, (name or "x", bytes(photo)))
    assert response.status_code in (200, 415, 422), response.text


def test_a_hundred_uploads_at_once_are_answered_or_put_off(client, served, photos):
    data = photos["jpeg"].iloc[0] + bytes(1_000_000)  # what follows a JPEG's end is no part of it
    post(client, ("warm.jpg", data))
    before = served.memory_mb()

    def one(_: int) -> int:
        with httpx.Client(base_url=served.url, timeout=120) as other:
            return post(other, ("a.jpg", data)).status_code

    with ThreadPoolExecutor(100) as pool:
        statuses = list(pool.map(one, range(100)))
    assert set(statuses) == {200, 429}
    assert client.get("/healthz").status_code == 200
    assert served.memory_mb() - before < 150


def test_slow_clients_do_not_hold_up_others(client, served):
    port = int(served.url.rpartition(":")[2])
    head = b"POST /api/locate HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    slow = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(40)]
    try:
        for sock in slow[:8]:
            sock.sendall(head + b"Content-Length: 1000\r\n\r\n--x\r\n")
        for sock in slow[8:]:
            sock.sendall(b"GET / HT")
        began = time.perf_counter()
        assert post(client, ("a.jpg", jpeg())).status_code == 200
        assert time.perf_counter() - began < 5
    finally:
        for sock in slow:
            sock.close()


def test_results_of_a_new_run_are_shown_without_a_restart(client, served_project):
    before = client.get("/api/quarantine").json()["total"]
    path = served_project / "data/crops/images.parquet"
    kept = path.read_bytes()
    images = tables.read(tables.IMAGES, path)
    try:
        extra = images.tail(1).assign(image_id=len(images), quarantine="blank")
        tables.write(tables.IMAGES, pd.concat([images, extra]), path)
        assert client.get("/api/quarantine").json()["total"] == before + 1
    finally:
        Path(path).write_bytes(kept)
    assert client.get("/api/quarantine").json()["total"] == before
