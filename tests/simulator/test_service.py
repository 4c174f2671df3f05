"""The service over HTTP: Google's and Panoramax's contracts, other projects' clients, the viewer's requests."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.service.google import signature
from streetrecall.simulator.service.server import running

ROOT = Path(__file__).parents[2]

KEY = "AIzaSimulator"


def metadata(base: str, **query: Any) -> dict[str, Any]:
    answer = requests.get(f"{base}/maps/api/streetview/metadata", params={"key": KEY, **query}, timeout=20)
    assert answer.status_code == 200
    assert answer.headers["content-type"].lower() == "application/json; charset=utf-8"
    return answer.json()


def at(city: City, pano: str) -> tuple[float, float]:
    found = city.pano(pano)
    assert found is not None
    return city.position(found)


# -- Google's metadata -------------------------------------------------------------------------------------------------


def test_metadata_names_the_panorama_near_a_point(base: str, city: City) -> None:
    lat, lon = at(city, city.panos[city.spot_panos[100][0]].pano_id)
    answer = metadata(base, location=f"{lat},{lon}")
    assert list(answer) == sorted(answer)
    assert answer["status"] == "OK"
    found = city.pano(answer["pano_id"])
    assert found is not None
    assert answer["location"] == {"lat": city.position(found)[0], "lng": city.position(found)[1]}
    assert answer["date"] == found.date
    assert answer["copyright"]


def test_metadata_by_panorama_and_without_a_date(base: str, city: City) -> None:
    undated = next(p for p in city.panos if not p.dated)
    answer = metadata(base, pano=undated.pano_id)
    assert answer["status"] == "OK" and answer["pano_id"] == undated.pano_id
    assert "date" not in answer


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"location": "59.5,18.07"}, "ZERO_RESULTS"),
        ({"pano": "nowhere"}, "ZERO_RESULTS"),
        ({"location": "no such street"}, "NOT_FOUND"),
        ({}, "INVALID_REQUEST"),
        ({"location": "59.3249,18.0694", "radius": "wide"}, "INVALID_REQUEST"),
        ({"location": "59.3249,18.0694", "source": "indoor"}, "INVALID_REQUEST"),
        ({"location": "59.3249,18.0694", "key": ""}, "REQUEST_DENIED"),
        ({"location": "59.3249,18.0694", "key": "secret"}, "REQUEST_DENIED"),
        ({"location": "59.3249,18.0694", "signature": "AAAA"}, "REQUEST_DENIED"),
    ],
)
def test_metadata_statuses(base: str, query: dict[str, str], status: str) -> None:
    answer = metadata(base, **query)
    assert answer["status"] == status
    assert ("error_message" in answer) == (status in ("INVALID_REQUEST", "REQUEST_DENIED"))
    assert "pano_id" not in answer


def test_metadata_respects_the_radius(base: str, city: City) -> None:
    x0 = min(p.x for p in city.panos)
    west = next(p for p in city.panos if p.x == x0)
    lat, lon = city.position(west)
    beside = f"{lat},{lon - 0.0008}"  # some 45 m further west
    assert metadata(base, location=beside, radius=20)["status"] == "ZERO_RESULTS"
    assert metadata(base, location=beside, radius=90)["status"] == "OK"


def test_a_correct_signature_is_accepted(base: str) -> None:
    path = f"/maps/api/streetview/metadata?location=59.3249,18.0694&key={KEY}"
    answer = requests.get(f"{base}{path}&signature={signature(path)}", timeout=20).json()
    assert answer["status"] == "OK"
    published = "/maps/api/geocode/json?address=New+York&client=clientID"
    assert signature(published, "vNIXE0xscrmjlyV-12Nj_BvUPaw=") == "chaRF2hTJKOScPr-RQCEhZbSzIE="


# -- Google's pictures -------------------------------------------------------------------------------------------------


def picture(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def test_a_static_image(base: str, pano: str) -> None:
    query = {"pano": pano, "size": "320x240", "heading": 90, "fov": 80, "pitch": 10, "key": KEY}
    answer = requests.get(f"{base}/maps/api/streetview", params=query, timeout=20)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    assert picture(answer.content).size == (320, 240)
    large = requests.get(f"{base}/maps/api/streetview", params={**query, "size": "2000x2000"}, timeout=20)
    assert picture(large.content).size == (640, 640)


def test_without_imagery_the_static_image_is_grey_or_an_error(base: str) -> None:
    query: dict[str, Any] = {"location": "59.5,18.07", "size": "64x48", "key": KEY}
    grey = requests.get(f"{base}/maps/api/streetview", params=query, timeout=20)
    assert grey.status_code == 200
    assert np.asarray(picture(grey.content)).std() < 2
    query["return_error_code"] = "true"
    assert requests.get(f"{base}/maps/api/streetview", params=query, timeout=20).status_code == 404
    assert requests.get(f"{base}/maps/api/streetview", params={**query, "key": "no"}, timeout=20).status_code == 403
    assert requests.get(f"{base}/maps/api/streetview", params={**query, "size": "big"}, timeout=20).status_code == 400


# -- Google's JavaScript API; tests/providers/test_google_page.py has a browser use it ---------------------------------


def test_the_script_reports_a_refused_key_in_the_page(base: str) -> None:
    for query, denial in (
        ({"key": KEY}, "null"),
        ({"key": "no"}, '"InvalidKeyMapError"'),
        ({}, '"MissingKeyMapError"'),
    ):
        answer = requests.get(f"{base}/maps/api/js", params=query, timeout=20)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/javascript")
        assert answer.text.rstrip().endswith(f"({denial});")


def test_the_script_gets_a_panorama_and_its_dates_on_any_page(base: str, city: City, pano: str) -> None:
    url = f"{base}/maps/api/js/GeoPhotoService.GetMetadata"
    answer = requests.get(url, params={"key": KEY, "pano": pano}, timeout=20)
    assert answer.headers["access-control-allow-origin"] == "*"
    found = city.pano(pano)
    assert found is not None
    body = answer.json()
    assert body["location"] == {"pano": pano, "lat": city.position(found)[0], "lng": city.position(found)[1]}
    assert [entry["date"] for entry in body["time"]] == sorted(p.date for p in city.dates(found))
    undated = next(p for p in city.panos if not p.dated)
    assert "imageDate" not in requests.get(url, params={"key": KEY, "pano": undated.pano_id}, timeout=20).json()
    for query, status in (({"pano": "nowhere"}, "ZERO_RESULTS"), ({"pano": pano, "key": "no"}, "REQUEST_DENIED")):
        assert requests.get(url, params={"key": KEY, **query}, timeout=20).json() == {"status": status}


# -- other projects' clients, unmodified except for their base URL -----------------------------------------------------


def test_google_streetview_downloads(base: str, pano: str, tmp_path: Path) -> None:
    from google_streetview.api import results

    found = results(
        [{"size": "160x120", "pano": pano, "heading": "10", "key": KEY}, {"location": "59.5,18.07", "key": KEY}],
        site_api=f"{base}/maps/api/streetview",
        site_metadata=f"{base}/maps/api/streetview/metadata",
    )
    assert [m["status"] for m in found.metadata] == ["OK", "ZERO_RESULTS"]
    found.download_links(str(tmp_path))
    assert picture((tmp_path / "gsv_0.jpg").read_bytes()).size == (160, 120)
    assert not (tmp_path / "gsv_1.jpg").exists()
    assert json.loads((tmp_path / "metadata.json").read_text())[0]["pano_id"] == pano


def test_googlemaps_requests_and_signs(base: str, pano: str) -> None:
    import googlemaps

    path = "/maps/api/streetview/metadata"
    plain = googlemaps.Client(key=KEY, base_url=base)
    assert plain._request(path, {"pano": pano})["pano_id"] == pano
    with pytest.raises(googlemaps.exceptions.ApiError) as error:
        plain._request(path, {"location": "no such street"})
    assert error.value.status == "NOT_FOUND"
    signing = {"client_id": "clientID", "client_secret": "vNIXE0xscrmjlyV-12Nj_BvUPaw="}
    assert googlemaps.Client(**signing, base_url=base)._request(path, {"pano": pano})["pano_id"] == pano
    other = {**signing, "client_secret": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}
    with pytest.raises(googlemaps.exceptions.ApiError) as error:
        googlemaps.Client(**other, base_url=base)._request(path, {"pano": pano})
    assert error.value.status == "REQUEST_DENIED"


def test_pystac_client_searches(base: str, city: City) -> None:
    from pystac_client import Client

    client = Client.open(f"{base}/api")
    client_items = list(client.search(bbox=[18.068, 59.324, 18.071, 59.326], max_items=25).items())
    assert len(client_items) == 10  # the contract's default limit, and no page to follow
    more = list(client.search(bbox=[18.068, 59.324, 18.071, 59.326], limit=500).items())
    inside = (
        (city.latlon[0] >= 59.324) & (city.latlon[0] <= 59.326)
        & (city.latlon[1] >= 18.068) & (city.latlon[1] <= 18.071)
    ).sum()  # fmt: skip
    assert len(more) == min(500, inside)
    old = list(client.search(datetime="2007-01-01/2010-12-31", limit=50).items())
    assert old and all(item.datetime.year <= 2010 for item in old)
    collection = more[0].get_collection()
    assert collection is not None
    assert more[0].id in {item.id for item in collection.get_items()}
    thumb = requests.get(more[0].assets["thumb"].href, timeout=30)
    assert picture(thumb.content).size == (500, 250)


# -- Panoramax ---------------------------------------------------------------------------------------------------------


def test_items_have_the_keys_that_a_real_servers_have(base: str) -> None:
    answer = requests.get(f"{base}/api/search", params={"limit": 3}, timeout=20)
    assert answer.headers["content-type"] == "application/geo+json"
    mine = answer.json()["features"][0]
    assert set(mine) >= {
        "assets", "bbox", "collection", "geometry", "id", "links", "properties", "providers", "stac_extensions",
        "stac_version", "type",
    }  # fmt: skip
    assert set(mine["properties"]) >= {
        "datetime", "license", "geovisio:image", "geovisio:producer", "geovisio:thumbnail", "view:azimuth",
        "pers:interior_orientation", "original_file:name",
    }  # fmt: skip
    assert {a["type"] for a in mine["assets"].values()} == {"image/jpeg"}
    assert set(mine["assets"]) == {"hd", "sd", "thumb"}
    assert {"root", "parent", "self", "collection", "license"} <= {link["rel"] for link in mine["links"]}


def test_an_item_links_to_the_same_place_in_other_years(base: str, city: City) -> None:
    items = requests.get(f"{base}/api/search", params={"limit": 40}, timeout=20).json()["features"]
    links = []
    for item in items:
        url = next(link["href"] for link in item["links"] if link["rel"] == "self")
        links = [k for k in requests.get(url, timeout=20).json()["links"] if k["rel"] == "related"]
        if links:
            break
    assert links
    for link in links:
        other = requests.get(link["href"], timeout=20).json()
        assert other["properties"]["datetime"] == link["datetime"] != item["properties"]["datetime"]
        a, b = (np.array(i["geometry"]["coordinates"]) for i in (item, other))
        assert np.hypot(*((a - b) * [56_800, 111_400])) < 25


def test_get_and_post_agree(base: str) -> None:
    box = [18.067, 59.323, 18.072, 59.327]
    got = requests.get(f"{base}/api/search", params={"bbox": ",".join(map(str, box)), "limit": 7}, timeout=20).json()
    posted = requests.post(f"{base}/api/search", json={"bbox": box, "limit": 7}, timeout=20).json()
    assert [f["id"] for f in got["features"]] == [f["id"] for f in posted["features"]]
    area = {
        "type": "Polygon",
        "coordinates": [[[18.067, 59.323], [18.072, 59.323], [18.072, 59.327], [18.067, 59.323]]],
    }
    part = requests.post(f"{base}/api/search", json={"intersects": area, "limit": 9000}, timeout=20).json()["features"]
    whole = requests.post(f"{base}/api/search", json={"bbox": box, "limit": 9000}, timeout=20).json()["features"]
    assert 0 < len(part) < len(whole)
    oldest = requests.get(f"{base}/api/search", params={"limit": 2, "sortby": "+ts"}, timeout=20).json()["features"]
    assert oldest[0]["properties"]["datetime"] <= oldest[1]["properties"]["datetime"]
    place = requests.get(
        f"{base}/api/search", params={"place_position": "18.0694,59.3249", "place_distance": "0-30"}, timeout=20
    ).json()["features"]
    for feature in place:
        d = (np.array(feature["geometry"]["coordinates"]) - [18.0694, 59.3249]) * [56_800, 111_400]
        assert np.hypot(*d) < 31
    wanted = [f["id"] for f in whole[:3]]
    by_id = requests.get(f"{base}/api/search", params={"ids": ",".join(wanted)}, timeout=20).json()["features"]
    assert {f["id"] for f in by_id} == set(wanted)


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "10001"}, {"limit": "many"}, {"bbox": "1,2,3"}, {"bbox": "1,2,3,x"},
     {"datetime": "yesterday"}, {"intersects": "{}"}, {"sortby": "+colour"}],
)  # fmt: skip
def test_a_bad_search_is_refused_as_by_the_real_server(base: str, query: dict[str, str]) -> None:
    answer = requests.get(f"{base}/api/search", params=query, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["status_code"] == 400 and answer.json()["message"]


def test_collections_page(base: str, city: City) -> None:
    url, names = f"{base}/api/collections?limit=400", []
    while url:
        answer = requests.get(url, timeout=20).json()
        names += [c["id"] for c in answer["collections"]]
        url = next((k["href"] for k in answer["links"] if k["rel"] == "next"), "")
    assert len(names) == len(set(names)) == len({(p.street, p.month) for p in city.panos})
    items, url = [], f"{base}/api/collections/{names[0]}/items?limit=2"
    while url:
        answer = requests.get(url, timeout=20).json()
        items += [f["id"] for f in answer["features"]]
        url = next((k["href"] for k in answer["links"] if k["rel"] == "next"), "")
    collection = requests.get(f"{base}/api/collections/{names[0]}", timeout=20).json()
    assert len(set(items)) == collection["stats:items"]["count"]
    assert requests.get(f"{base}/api/collections/nothing", timeout=20).status_code == 404


# -- the viewer's own requests -----------------------------------------------------------------------------------------


def test_dates_newest_first(base: str, city: City, pano: str) -> None:
    answer = requests.get(f"{base}/viewer/panos", params={"pano": pano}, timeout=20).json()
    found = city.pano(pano)
    assert found is not None
    assert answer["dates"] == [{"pano": p.pano_id, "date": p.date} for p in city.dates(found)]
    assert answer["pano"] == pano and answer["copyright"]
    assert (answer["lat"], answer["lng"]) == city.position(found)
    assert requests.get(f"{base}/viewer/panos", params={"pano": "nowhere"}, timeout=20).status_code == 404


def test_a_view_is_one_jpeg_and_the_same_twice(base: str, pano: str) -> None:
    url = f"{base}/tiles/view"
    a, b = (requests.get(url, params={"pano": pano, "heading": 45}, timeout=20) for _ in range(2))
    assert a.content == b.content and picture(a.content).size == (1512, 810)
    assert picture(requests.get(url, params={"pano": pano, "w": 148, "h": 96, "fov": 90}, timeout=20).content).size == (
        148,
        96,
    )
    for bad in ({"pano": pano, "heading": "north"}, {"pano": pano, "w": 1e9}, {"pano": pano, "fov": 400}):
        assert requests.get(url, params=bad, timeout=20).status_code == 400
    assert requests.get(url, params={"pano": "nowhere"}, timeout=20).status_code == 404


def test_the_page_names_no_other_host(base: str) -> None:
    for path in ("/viewer", "/viewer.js", "/viewer.css"):
        answer = requests.get(base + path, timeout=20)
        assert answer.status_code == 200
        assert "http://" not in answer.text and "https://" not in answer.text and "url(//" not in answer.text


# -- starting and stopping ---------------------------------------------------------------------------------------------


def refused(base: str) -> bool:
    port = int(base.rsplit(":", 1)[1])
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_it_stops_when_the_block_ends_even_by_an_error(city_params: Params) -> None:
    with pytest.raises(ZeroDivisionError), running(city_params, root=ROOT) as url:
        assert not refused(url)
        raise ZeroDivisionError
    assert refused(url)


def test_it_ends_with_a_killed_parent() -> None:
    code = (
        "import sys, time; from pathlib import Path; from streetrecall.params.schema import load;"
        "from streetrecall.simulator.service.server import running; root = Path(sys.argv[1]);\n"
        "with running(load(root / 'params.yaml'), root=root) as url:\n"
        "    print(url, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert not refused(url)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while not refused(url):
        assert time.monotonic() < deadline, "the service outlived its parent"
        time.sleep(0.05)


def test_it_runs_by_itself_until_it_is_interrupted() -> None:
    command = [sys.executable, "-m", "streetrecall.cli", "serve-city", "--port", "0", "--params", "params.yaml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as service:
        assert service.stdout is not None
        url = next(word for word in service.stdout.readline().split() if word.startswith("http://"))
        assert "Street viewer" in requests.get(url, timeout=20).text
        service.send_signal(signal.SIGINT)
        _, said = service.communicate(timeout=20)
    assert "Traceback" not in said
    assert service.returncode in (0, 130)  # 0 where this process was started with interrupts ignored


def test_a_service_that_cannot_start_says_why(city_params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no polygon at"), running(city_params, root=tmp_path):
        pass
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(UserError, match="cannot listen"),
            running(city_params, port=taken.getsockname()[1], root=ROOT),
        ):
            pass
