"""The city's plan: deterministic, metric, and imperfect in the ways that real collections are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely

from streetrecall import geo, simulator
from streetrecall.errors import UserError
from streetrecall.months import month_numbers
from streetrecall.params.schema import Params
from streetrecall.polygons import read_polygon
from streetrecall.simulator import fingerprint, source_hash
from streetrecall.simulator.city import buildings, cameras
from streetrecall.simulator.city.kinds import BRICK, PARK, WATER
from streetrecall.simulator.city.panoramas import month_text
from streetrecall.simulator.city.plan import City, open_city, polygon_path
from streetrecall.simulator.city.weather import weather

ROOT = Path(__file__).parents[2]


def placed(params: Params, name: str, crs: str = "EPSG:3006") -> Params:
    """The params with another city."""
    return params.model_copy(update={"city": params.city.model_copy(update={"name": name, "crs": crs})})


def survey(city: City, radius_m: float = 50.0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Distance from each point of a 10 m grid to the nearest spot's newest panorama, whether found, which ones."""
    x0, y0, x1, y1 = city.polygon.bounds
    x, y = (v.ravel() for v in np.meshgrid(np.arange(x0, x1, 10), np.arange(y0, y1, 10)))
    inside = shapely.contains_xy(city.polygon, x, y)
    newest = [city.panos[ids[0]] for ids in city.spot_panos]
    at = np.array([(p.x, p.y) for p in newest])
    d = np.hypot(x[inside][:, None] - at[:, 0], y[inside][:, None] - at[:, 1])
    return d.min(axis=1), d.min(axis=1) <= radius_m, d.argmin(axis=1).tolist()


def test_the_same_seed_is_the_same_city_and_another_is_not(city: City, city_params: Params) -> None:
    crs = city_params.city.crs
    polygon = read_polygon(polygon_path(city_params, ROOT), crs)
    again = City(city_params.simulated, polygon, crs)
    other = City(city_params.simulated.model_copy(update={"seed": city.seed + 1}), polygon, crs)
    assert again.panos == city.panos
    assert np.array_equal(again.walls.x0, city.walls.x0)
    assert np.array_equal(again.buildings.floats, city.buildings.floats)
    assert {p.pano_id for p in other.panos}.isdisjoint(p.pano_id for p in city.panos)


def test_the_survey_is_imperfect_as_the_real_one_is(city: City) -> None:
    distance, found, _ = survey(city)
    assert 10 < np.median(distance[found]) < 17  # the original collection: 12.9
    assert 32 < np.percentile(distance[found], 95) < 46  # 42.8
    assert 0.9 < found.mean() < 0.99  # 0.946


def test_a_place_has_one_to_sixteen_dates_newest_first(city: City) -> None:
    counts = np.array([len(ids) for ids in city.spot_panos])
    assert counts.min() >= 1 and counts.max() <= 16
    assert 6 <= np.median(counts) <= 10
    for ids in city.spot_panos:
        dates = [city.panos[i].month for i in ids]
        assert dates == sorted(set(dates), reverse=True)
    assert min(p.date for p in city.panos) >= "2007-01"
    assert max(p.date for p in city.panos) <= "2024-12"


def test_some_frames_are_dark_or_undated_or_of_another_place(city: City, city_params: Params) -> None:
    p = city_params.simulated
    share = np.mean([q.dark for q in city.panos])
    assert 0 < share < 4 * p.dark_share
    assert 0 < np.mean([not q.dated for q in city.panos]) < 3 * p.undated_share
    shown = [q for q in city.panos if q.shown]
    assert 0 < len(shown) < 5 * p.stuck_share * len(city.panos)
    for q in shown:
        source = city.pano(q.shown)
        assert source is not None and source.spot != q.spot and not source.shown
        assert (source.street, source.month) == (q.street, q.month)


def test_no_camera_is_in_a_house_or_in_water(city: City) -> None:
    blocks = shapely.STRtree([shapely.Polygon(inner).buffer(-0.5) for inner, _ in city.block_shapes])
    at = shapely.points([(p.x, p.y) for p in city.panos])
    assert blocks.query(at, "within").size == 0
    assert blocks.query(shapely.buffer(at, 15.0), "intersects").size > 0


def test_streets_between_two_parks_or_waters_are_not_driven(city: City) -> None:
    kinds = city.street_grid.kinds
    n, m = kinds.shape
    seen = 0
    for (axis, i, j), index in city.street_grid.street_at.items():
        a, b = ((i - 1, j), (i, j)) if axis == "u" else ((i, j - 1), (i, j))
        if not (0 <= a[0] < n and 0 <= a[1] < m and 0 <= b[0] < n and 0 <= b[1] < m):
            continue
        if kinds[a] in (PARK, WATER) and kinds[b] in (PARK, WATER):
            seen += 1
            assert not city.streets[index].driven
    assert seen


def test_the_nearest_panorama_is_the_newest_of_the_nearest_spot(city: City) -> None:
    for wanted in city.panos[::400]:
        lat, lon = city.position(wanted)
        found = city.nearest(lat, lon, 50.0)
        assert found is not None
        assert found.month == max(p.month for p in city.dates(found))
        x, y = geo.project(lat, lon, city.crs)
        assert np.hypot(x - city.origin[0] - wanted.x, y - city.origin[1] - wanted.y) < 0.05
    assert city.nearest(59.40, 18.0694, 50.0) is None


def test_a_facade_that_is_repainted_changes_colour_that_month_and_no_window(city: City) -> None:
    plaster = city.buildings.ints[0, :, buildings.I_MATERIAL] != BRICK  # brick keeps its colour
    b = int(
        np.flatnonzero(plaster & (city.buildings.repainted[:, 0] < 24300) & (city.buildings.rebuilt > 2024 * 12 + 11))[
            0
        ]
    )
    month = int(city.buildings.repainted[b, 0])
    before, after = city.buildings.at(month - 1), city.buildings.at(month)
    wall = slice(buildings.F_WALL, buildings.F_WALL + 3)
    assert not np.allclose(before[0][b, wall], after[0][b, wall])
    columns = [buildings.I_FLOORS, buildings.I_FIRST, buildings.I_MAIN, buildings.I_TOP, buildings.I_ACCENTS]
    assert np.array_equal(before[1][b, columns], after[1][b, columns])
    assert before[1][b, buildings.I_SCAFFOLD] == 1


def test_later_cameras_resolve_more_and_are_lower() -> None:
    eras = [cameras.camera(year * 12) for year in (2008, 2011, 2015, 2020)]
    assert [e.scale for e in eras] == sorted(e.scale for e in eras)
    assert [e.height for e in eras] == sorted((e.height for e in eras), reverse=True)


@pytest.mark.parametrize(("month", "low", "high"), [(0, 6, 15), (5, 15, 55)])
def test_the_sun_is_where_it_is_in_stockholm(month: int, low: float, high: float) -> None:
    for line in range(20):
        sky = weather(1, line, 2020 * 12 + month)
        assert low <= sky.sun_elevation <= high
        assert 30 < sky.sun_azimuth < 330


def test_months_and_text() -> None:
    texts = ["2007-01", "2024-12"]
    assert [month_text(number) for number in month_numbers(pd.Series(texts))] == texts


def test_the_fingerprint_follows_the_params_and_the_polygon_and_nothing_else(
    city_params: Params, tmp_path: Path
) -> None:
    (tmp_path / "data/cities").mkdir(parents=True)
    source = polygon_path(city_params, ROOT)
    copy = tmp_path / "data/cities" / source.name
    copy.write_bytes(source.read_bytes())
    mark = fingerprint(city_params, tmp_path)
    assert mark == fingerprint(city_params, ROOT)
    seeded = city_params.model_copy(update={"simulated": city_params.simulated.model_copy(update={"seed": 3})})
    assert fingerprint(seeded, tmp_path) != mark
    other = city_params.model_copy(update={"crop": city_params.crop.model_copy(update={"size": 96})})
    assert fingerprint(other, tmp_path) == mark
    assert fingerprint(placed(city_params, source.stem, "EPSG:32633"), tmp_path) != mark
    copy.write_text(copy.read_text().replace("59.32", "59.33"))
    assert fingerprint(city_params, tmp_path) != mark


@pytest.mark.parametrize(
    "edited", ["__init__.py", "city/weather.py", "render/kernels/facade.py", "service/viewer.js", "service/viewer.html"]
)
def test_the_fingerprint_follows_every_source_file(tmp_path: Path, edited: str) -> None:
    package = shutil.copytree(Path(simulator.__file__).parent, tmp_path / "simulator")
    before = source_hash(package)
    with (package / edited).open("a") as file:
        file.write("\n")
    assert source_hash(package) != before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not readable as JSON"),
        ('{"type": "FeatureCollection", "features": [{"type": "Feature"}]}', "without a geometry"),
        ('{"type": "Point", "coordinates": [18, 59]}', "is Point; a city is a Polygon"),
    ],
)
def test_a_bad_polygon_is_refused(city_params: Params, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "data/cities/town.geojson"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        open_city(placed(city_params, "town"), tmp_path)
    assert str(path) in str(error.value)


def test_a_city_lies_in_the_crs_of_the_params(city_params: Params, tmp_path: Path) -> None:
    """A small polygon in Hamburg, UTM zone 32N."""
    square = shapely.box(9.990, 53.550, 9.994, 53.552)
    path = tmp_path / "data/cities/hamburg.geojson"
    path.parent.mkdir(parents=True)
    path.write_text(shapely.to_geojson(square))
    crs = "EPSG:32632"
    city = open_city(placed(city_params, "hamburg", crs), tmp_path)
    assert city.origin == pytest.approx([float(v) for v in geo.project(53.551, 9.992, crs)], abs=1)
    east, north = geo.project(*city.latlon, crs)
    assert east - city.origin[0] == pytest.approx([p.x for p in city.panos], abs=0.05)
    assert north - city.origin[1] == pytest.approx([p.y for p in city.panos], abs=0.05)
    found = city.nearest(53.551, 9.992, 50.0)
    assert found is not None and geo.distance_m(53.551, 9.992, *city.position(found)) < 50.1
    with pytest.raises(UserError, match=r"city\.crs"):
        open_city(placed(city_params, "hamburg", "EPSG:32618"), tmp_path)  # a zone of America


def test_a_city_of_few_years_has_few_dates(city: City, city_params: Params) -> None:
    def of_years(first: int, last: int) -> City:
        years = city_params.simulated.model_copy(update={"years": [first, last]})
        return City(years, read_polygon(polygon_path(city_params, ROOT), city.crs), city.crs)

    assert {p.date[:4] for p in of_years(2018, 2020).panos} == {"2018", "2019", "2020"}
    assert {p.date[:4] for p in of_years(2020, 2020).panos} == {"2020"}
    with pytest.raises(UserError, match=r"simulated\.years"):
        of_years(2020, 2018)


def test_a_polygon_too_large_is_refused(city_params: Params) -> None:
    with pytest.raises(UserError, match="at most 2500 m"):
        City(city_params.simulated, shapely.box(18.0, 59.3, 18.1, 59.35), "EPSG:3006")


def test_the_city_lies_where_its_polygon_does(city: City, city_params: Params) -> None:
    document = json.loads(polygon_path(city_params, ROOT).read_text())
    ring = np.array(document["features"][0]["geometry"]["coordinates"][0])
    lat, lon = city.latlon
    assert ring[:, 0].min() - 0.002 < lon.min() and lon.max() < ring[:, 0].max() + 0.002
    assert ring[:, 1].min() - 0.001 < lat.min() and lat.max() < ring[:, 1].max() + 0.001


def test_nothing_is_in_the_water(city: City) -> None:
    water = shapely.unary_union(
        [shapely.Polygon(inner).buffer(-0.5) for inner, kind in city.block_shapes if kind == WATER]
    )
    assert water.area > 1000
    for things in (city.car_bays, city.people_bays, city.lamps, city.trees):
        assert not shapely.contains_xy(water, things[:, 0], things[:, 1]).any()
