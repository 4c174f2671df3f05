"""Any city: its outline by name, its streets, its CRS, and what collecting it would cost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
import shapely
import yaml
from scipy.spatial import cKDTree

from streetrecall import cli, tables
from streetrecall.collect import estimate
from streetrecall.errors import UserError
from streetrecall.geo import project
from streetrecall.params import schema
from streetrecall.params.schema import Params
from streetrecall.pictures.codec import encode_jpeg
from streetrecall.polygons import read_polygon
from streetrecall.stages import check, grid
from streetrecall.stages.metadata import points_beyond

ROOT = Path(__file__).parents[2]
UPPSALA = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[17.60, 59.84], [17.70, 59.84], [17.70, 59.88], [17.60, 59.88], [17.60, 59.84]],
         [[17.64, 59.85], [17.64, 59.86], [17.66, 59.86], [17.66, 59.85], [17.64, 59.85]]],
        [[[17.80, 59.84], [17.81, 59.84], [17.81, 59.85], [17.80, 59.84]]],
    ],
}  # fmt: skip


@contextmanager
def nominatim(answers: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """A stand-in of Nominatim's search: its address, and the queries that it got."""
    asked: list[dict[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            asked.append(query)
            found = answers.get(query["q"][0], [])
            body = b"<html>busy" if found == "busy" else json.dumps(found).encode()
            self.send_response(503 if found == "busy" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def result(geometry: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "place_id": 1, "osm_type": "relation", "osm_id": 1, "lat": "59.86", "lon": "17.64", "class": "boundary",
        "type": "administrative", "place_rank": 14, "importance": 0.6, "addresstype": "city", "name": name,
        "display_name": name, "boundingbox": ["59.84", "59.88", "17.60", "17.81"], "geojson": geometry,
    }  # fmt: skip


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/cities").mkdir(parents=True)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path


def test_a_polygon_by_name_is_written_once_and_can_be_used(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with nominatim({"Uppsala, Sweden": [result(UPPSALA, "Uppsala, Uppsala kommun, Sverige")]}) as (url, asked):
        monkeypatch.setenv("STREETRECALL_NOMINATIM", url)
        assert cli.main(["polygon", "Uppsala, Sweden"]) == 0
        said = capsys.readouterr().out
        path = project_folder / "data/cities/uppsala.geojson"
        polygon = read_polygon(path, "EPSG:32633")
        assert polygon.equals(shapely.geometry.shape(UPPSALA))  # both parts and the hole
        about = json.loads(path.read_text())["properties"]
        assert about["licence"] == "ODbL-1.0" and "OpenStreetMap" in about["attribution"]
        assert cli.main(["polygon", "Uppsala, Sweden"]) == 2
        assert len(asked) == 1 and "there is such a file already" in capsys.readouterr().err
    assert not (project_folder / "cache").exists()
    command = next(line for line in said.splitlines() if "streetrecall set" in line)
    settings = [part.strip("'") for part in command.split("streetrecall set ")[1].replace(", ", ",").split(" ")]
    assert cli.main(["set", *settings, "grid.spacing_m=200.0", "grid.features=all"]) == 0
    params = schema.load("params.yaml")
    assert (params.city.name, params.city.crs) == ("uppsala", "EPSG:32633")
    laid = grid.lay(params, path)
    assert 200 < len(laid.points) < 700
    in_hole = laid.points["lon"].between(17.641, 17.659) & laid.points["lat"].between(59.851, 59.859)
    assert not in_hole.any()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("Nowhere", "OpenStreetMap knows no area of this name"),
        ("A point", "OpenStreetMap knows no area of this name"),
        ("Busy", "Nominatim cannot be asked"),
    ],
)
def test_a_place_without_an_area_is_an_error(
    place: str, message: str, project_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = result({"type": "Point", "coordinates": [17.6, 59.8]}, "A point")
    with nominatim({"A point": [point], "Busy": "busy"}) as (url, _):
        monkeypatch.setenv("STREETRECALL_NOMINATIM", url)
        assert cli.main(["polygon", place]) == 2
    assert message in capsys.readouterr().err
    assert list((project_folder / "data/cities").iterdir()) == []


def test_nobody_listens(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREETRECALL_NOMINATIM", "http://127.0.0.1:9/")
    assert cli.main(["polygon", "Uppsala"]) == 2
    assert "Nominatim cannot be asked" in capsys.readouterr().err
    monkeypatch.setenv("STREETRECALL_NOMINATIM", "nominatim.example")
    assert cli.main(["polygon", "Uppsala"]) == 2
    assert "not the address of a server" in capsys.readouterr().err


def test_auto_is_the_utm_zone_of_the_start() -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["city"]["crs"] = "auto"
    for start, crs in (([59.325, 18.07], "EPSG:32634"), ([-33.9, 18.4], "EPSG:32734"), ([40.7, -74.0], "EPSG:32618")):
        raw["order"]["start"] = start
        assert schema.parse(raw).city.crs == crs


OSM = """<?xml version="1.0"?><osm version="0.6" generator="test">
<node id="1" lat="59.3240" lon="18.0690" version="1"/><node id="2" lat="59.3260" lon="18.0690" version="1"/>
<node id="3" lat="59.3250" lon="18.0690" version="1"/><node id="4" lat="59.3250" lon="18.0720" version="1"/>
<way id="1" version="1"><nd ref="1"/><nd ref="3"/><nd ref="2"/><tag k="highway" v="residential"/></way>
<way id="2" version="1"><nd ref="3"/><nd ref="4"/><tag k="highway" v="residential"/></way>
</osm>"""
SQUARE = '{"type": "Polygon", "coordinates": [[[18.068, 59.3235], [18.0715, 59.3235], [18.0715, 59.3265], '
SQUARE += "[18.068, 59.3265], [18.068, 59.3235]]]}"


def along_streets(params: Params) -> Params:
    return params.model_copy(
        update={
            "provider": "panoramax",
            "city": params.city.model_copy(update={"name": "square"}),
            "grid": params.grid.model_copy(update={"kind": "streets"}),
            "order": params.order.model_copy(update={"start": [59.325, 18.07]}),
        }
    )


def test_points_along_the_streets_of_an_extract(
    project_folder: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    (project_folder / "data/cities/square.geojson").write_text(SQUARE)
    (project_folder / "city.osm").write_text(OSM)
    assert cli.main(["set", "provider=panoramax", "city.name=square", "order.start=[59.325, 18.07]"]) == 0
    assert cli.main(["streets", "--osm", "city.osm"]) == 0
    path = project_folder / "data/cities/streets/square.geojson"
    first = path.read_bytes()
    assert cli.main(["streets", "--osm", "city.osm"]) == 0 and path.read_bytes() == first
    mine = along_streets(params)
    assert cli.main(["set", "grid.kind=streets"]) == 0
    data = project_folder / "data"
    grid.run(mine, data / "cities", data / "grid.parquet", data / "g.png", data / "g.json")
    points = tables.read(tables.GRID, data / "grid.parquet")
    x, y = project(points["lat"], points["lon"], mine.city.crs)
    nearest = cKDTree(np.column_stack([x, y])).query(np.column_stack([x, y]), 2)[0][:, 1]
    assert nearest.min() >= 6.0 and np.median(nearest) == pytest.approx(10.0, abs=0.1)
    on_street = np.isclose(points["lon"], 18.069, atol=1e-6) | np.isclose(points["lat"], 59.325, atol=1e-5)
    assert on_street.all()
    assert len(points) == pytest.approx((223 + 142) / 10, abs=4)  # metres of street inside the square
    enough = mine.model_copy(update={"checks": mine.checks.model_copy(
        update={"grid": mine.checks.grid.model_copy(update={"min_points": 10})})})  # fmt: skip
    inputs = {"grid": data / "grid.parquet", "cities": data / "cities"}
    assert check.run(enough, "grid", inputs, data / "r.json", data / "ok") == 0


def test_the_simulated_city_has_streets_of_its_own(project_folder: Path, params: Params) -> None:
    polygon = project_folder / "data/cities/stockholm-district.geojson"
    polygon.write_bytes((ROOT / "data/cities/stockholm-district.geojson").read_bytes())
    assert cli.main(["streets"]) == 0
    mine = params.model_copy(update={"grid": params.grid.model_copy(update={"kind": "streets"})})
    points = grid.lay(mine, polygon).points
    assert 300 < len(points) < 1520 / 2 and (polygon.parent / "streets/simulated-stockholm-district.geojson").is_file()


def test_streets_that_are_not_there_are_an_error(project_folder: Path, params: Params) -> None:
    cities = project_folder / "data/cities"
    (cities / "square.geojson").write_text(SQUARE)
    mine = along_streets(params)
    with pytest.raises(UserError, match="`streetrecall streets` writes it"):
        grid.lay(mine, cities / "square.geojson")
    (cities / "streets").mkdir()
    for content, message in (("[]", "not a FeatureCollection of streets"), ('{"features": []}', "holds no street")):
        (cities / "streets/square.geojson").write_text(content)
        with pytest.raises(UserError, match=message):
            grid.lay(mine, cities / "square.geojson")
    line = '{"features": [{"geometry": {"type": "LineString", "coordinates": [[0, 0], [0, 0.01]]}}]}'
    (cities / "streets/square.geojson").write_text(line)
    with pytest.raises(UserError, match="no street lies inside"):
        grid.lay(mine, cities / "square.geojson")


@pytest.mark.parametrize("content", ["", "<osm>", "<html></html>", "\0"])
def test_a_damaged_extract_is_an_error(content: str, project_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project_folder / "data/cities/square.geojson").write_text(SQUARE)
    (project_folder / "bad.osm").write_text(content)
    assert cli.main(["set", "provider=panoramax", "city.name=square", "order.start=[59.325, 18.07]"]) == 0
    assert cli.main(["streets", "--osm", "bad.osm"]) == 2
    assert "no streets could be read" in capsys.readouterr().err
    assert cli.main(["streets", "--osm", "none.osm"]) == 2


def test_the_estimate_counts_points_and_boxes(params: Params) -> None:
    cities = ROOT / "data/cities"
    counts = estimate.count(params, cities, Path("nowhere"))
    assert counts.points == 1520 and counts.known == ()
    lines = {line.stage: line for line in estimate.estimate(params, counts)}
    assert lines["metadata"].requests == 1520 + counts.beyond and counts.beyond > 0
    assert lines["scrape"].disk > lines["crop"].disk > 0
    # The default city has 293 places, 606 MB of captures and 226 MB of views.
    assert 293 / 2 < sum(counts.places.values()) < 293 * 2
    assert 606e6 / 2 < lines["scrape"].loaded < 606e6 * 2 and 226e6 / 2 < lines["views"].disk < 226e6 * 2
    boxed = params.model_copy(update={"provider": "panoramax"})
    by_boxes = list(estimate.estimate(boxed, estimate.count(boxed, cities, Path("nowhere"))))
    assert by_boxes[0].requests <= 6
    google = params.model_copy(update={"provider": "google"})
    cost = {line.stage: line for line in estimate.estimate(google, counts, dates=5.0, price=10.0)}
    assert cost["scrape"].dollars > 0 == cost["metadata"].dollars
    double = {line.stage: line for line in estimate.estimate(google, counts, dates=5.0, price=20.0)}
    assert double["scrape"].dollars == pytest.approx(2 * cost["scrape"].dollars)


def test_the_estimate_takes_what_is_known(params: Params, tmp_path: Path) -> None:
    found = pd.DataFrame(
        {"pano_id": ["a", "b"], "lat": 59.325, "lon": 18.07, "month": "", "point_id": 0, "offset_m": 0.0,
         "beyond": False, "provider": "simulated", "licence": "x", "attribution": "x"}
    )  # fmt: skip
    tables.write(tables.PANORAMAS, found, tmp_path / "panoramas.parquet")
    counts = estimate.count(params, ROOT / "data/cities", tmp_path)
    assert counts.known == ("panoramas of the last run",) and counts.panoramas == 2 and sum(counts.places.values()) <= 2


def test_the_estimate_counts_the_pictures_of_a_folder(params: Params, tmp_path: Path) -> None:
    picture = encode_jpeg(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8), 90)
    rows = ["path,lat,lon,captured_at,heading_deg"]
    for place in range(4):
        for year in (2019, 2023):
            name = f"{place}-{year}.jpg"
            (tmp_path / name).write_bytes(picture + bytes([place, year % 100]))
            rows.append(f"{name},{59.325 + place * 1e-3},18.07,{year}-05-01,90")
    (tmp_path / "pictures.csv").write_text("\n".join(rows), encoding="utf-8")
    folder = params.folder.model_copy(update={"path": str(tmp_path)})
    params = params.model_copy(update={"provider": "folder", "folder": folder})
    counts = estimate.count(params, ROOT / "data/cities", Path("nowhere"))
    assert (counts.panoramas, counts.dates) == (4, 2)
    assert sum(counts.places.values()) <= 4
    lines = {line.stage: line for line in estimate.estimate(params, counts)}
    assert lines["scrape"].requests == 0 and lines["scrape"].disk <= 8 * (len(picture) + 2)


def test_the_command_prints_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["estimate", "--data", "nowhere"]) == 0
    said = capsys.readouterr().out
    assert "1,520 grid points" in said and "total" in said and "US dollars" in said


def test_a_grid_along_streets_asks_nothing_beyond_it(params: Params) -> None:
    points = pd.DataFrame({"point_id": [0, 1], "lat": [59.325, 59.3251], "lon": 18.07})
    assert len(points_beyond(points, params)) > 0
    streets = params.model_copy(update={"grid": params.grid.model_copy(update={"kind": "streets"})})
    assert points_beyond(points, streets).empty
