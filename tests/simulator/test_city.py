"""The city's plan: deterministic, metric, imperfect in the ways that real collections are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from streetrecall import geo
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.simulator import fingerprint
from streetrecall.simulator.city import styles
from streetrecall.simulator.city.plan import CRS, PARK, WATER, City, load_polygon, month_text, months, polygon_path
from streetrecall.simulator.render import textures

ROOT = Path(__file__).parents[2]


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
    polygon = load_polygon(polygon_path(city_params, ROOT))
    again = City(city_params.simulated, polygon)
    other = City(city_params.simulated.model_copy(update={"seed": city.seed + 1}), polygon)
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


def test_some_frames_are_dark_undated_or_another_places(city: City, city_params: Params) -> None:
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


def test_no_camera_stands_in_a_house_or_in_water(city: City) -> None:
    blocks = shapely.STRtree([shapely.Polygon(inner).buffer(-0.5) for inner, _ in city.block_shapes])
    at = shapely.points([(p.x, p.y) for p in city.panos])
    assert blocks.query(at, "within").size == 0
    assert blocks.query(shapely.buffer(at, 15.0), "intersects").size > 0


def test_streets_between_two_parks_or_waters_are_not_driven(city: City) -> None:
    n, m = city.kinds.shape
    seen = 0
    for (axis, i, j), index in city.street_at.items():
        a, b = ((i - 1, j), (i, j)) if axis == "u" else ((i, j - 1), (i, j))
        if not (0 <= a[0] < n and 0 <= a[1] < m and 0 <= b[0] < n and 0 <= b[1] < m):
            continue
        if city.kinds[a] in (PARK, WATER) and city.kinds[b] in (PARK, WATER):
            seen += 1
            assert not city.streets[index].driven
    assert seen


def test_the_nearest_panorama_is_the_newest_of_the_nearest_spot(city: City) -> None:
    for wanted in city.panos[::400]:
        lat, lon = city.position(wanted)
        found = city.nearest(lat, lon, 50.0)
        assert found is not None
        assert found.month == max(p.month for p in city.dates(found))
        x, y = geo.project(lat, lon, CRS)
        assert np.hypot(x - city.origin[0] - wanted.x, y - city.origin[1] - wanted.y) < 0.05
    assert city.nearest(59.40, 18.0694, 50.0) is None


def test_a_facade_that_is_repainted_changes_colour_that_month_and_no_window(city: City) -> None:
    plaster = city.buildings.ints[0, :, styles.I_MATERIAL] != textures.BRICK  # brick keeps its colour
    b = int(
        np.flatnonzero(
            plaster & (city.buildings.repainted[:, 0] < 24300) & (city.buildings.rebuilt > months("2024-12"))
        )[0]
    )
    month = int(city.buildings.repainted[b, 0])
    before, after = city.buildings.at(month - 1), city.buildings.at(month)
    wall = slice(styles.F_WALL, styles.F_WALL + 3)
    assert not np.allclose(before[0][b, wall], after[0][b, wall])
    columns = [styles.I_FLOORS, styles.I_FIRST, styles.I_MAIN, styles.I_TOP, styles.I_ACCENTS]
    assert np.array_equal(before[1][b, columns], after[1][b, columns])
    assert before[1][b, styles.I_SCAFFOLD] == 1


def test_later_cameras_see_more_and_stand_lower() -> None:
    eras = [styles.camera(year * 12) for year in (2008, 2011, 2015, 2020)]
    assert [e.scale for e in eras] == sorted(e.scale for e in eras)
    assert [e.height for e in eras] == sorted((e.height for e in eras), reverse=True)


@pytest.mark.parametrize(("month", "low", "high"), [(0, 6, 15), (5, 15, 55)])
def test_the_sun_stands_where_it_does_in_stockholm(month: int, low: float, high: float) -> None:
    for line in range(20):
        sky = styles.weather(1, line, 2020 * 12 + month)
        assert low <= sky.sun_elevation <= high
        assert 30 < sky.sun_azimuth < 330


def test_months_and_text() -> None:
    assert [month_text(months(t)) for t in ("2007-01", "2024-12")] == ["2007-01", "2024-12"]


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
    copy.write_text(copy.read_text().replace("59.32", "59.33"))
    assert fingerprint(city_params, tmp_path) != mark


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('{"type": "FeatureCollection", "features": [{"type": "Feature"}]}', "not GeoJSON"),
        ('{"type": "Point", "coordinates": [18, 59]}', "no polygon with an area"),
    ],
)
def test_a_bad_polygon_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "town.geojson"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        load_polygon(path)
    assert str(path) in str(error.value)


def test_a_polygon_too_large_is_refused(city_params: Params) -> None:
    with pytest.raises(UserError, match="at most 2500 m"):
        City(city_params.simulated, shapely.box(18.0, 59.3, 18.1, 59.35))


def test_the_city_lies_where_its_polygon_does(city: City, city_params: Params) -> None:
    document = json.loads(polygon_path(city_params, ROOT).read_text())
    ring = np.array(document["features"][0]["geometry"]["coordinates"][0])
    lat, lon = city.latlon
    assert ring[:, 0].min() - 0.002 < lon.min() and lon.max() < ring[:, 0].max() + 0.002
    assert ring[:, 1].min() - 0.001 < lat.min() and lat.max() < ring[:, 1].max() + 0.001


def test_nothing_stands_in_the_water(city: City) -> None:
    water = shapely.unary_union(
        [shapely.Polygon(inner).buffer(-0.5) for inner, kind in city.block_shapes if kind == WATER]
    )
    assert water.area > 1000
    for things in (city.car_bays, city.people_bays, city.lamps, city.trees):
        assert not shapely.contains_xy(water, things[:, 0], things[:, 1]).any()
