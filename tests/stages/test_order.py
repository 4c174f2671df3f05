"""The order of places: the original's exactly, a naive loop's in general."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.geo import check_start, in_disc, project, unproject
from streetrecall.params.schema import Level, Params
from streetrecall.stages import order

LEVELS = "data_collection_process/create_ordered_locations_based_on_buffers/buffer_csvs"
START = (674620.0, 6580255.0)


def levels_of(radii: list[float]) -> list[Level]:
    return [Level(radius_m=radius, split="train", apart_m=0.0) for radius in radii]


def naive(xy: NDArray[np.float64], levels: list[Level], segments: int) -> list[tuple[int, int]]:
    """(level, point) of each pick, by looking at every earlier pick."""
    picks: list[tuple[int, int]] = []
    for number, level in enumerate(levels):
        for i in range(len(xy)):
            outside = all(i != j and not in_disc(*(xy[i] - xy[j]), level.radius_m, segments) for _, j in picks)
            others = [j for other, j in picks if levels[other].split != level.split]
            if outside and all(np.hypot(*(xy[i] - xy[j])) >= level.apart_m for j in others):
                picks.append((number, i))
    return picks


def streets(n: int, seed: int = 3) -> NDArray[np.float64]:
    """About ``n`` panoramas some 10 m apart along the streets of blocks of 100 m, from the middle outwards, metres."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(n / 2 * 1000)
    along = np.arange(0, side, 10)
    across = np.repeat(np.arange(0, side, 100), len(along))
    along = np.tile(along, len(across) // len(along))
    xy = np.concatenate([np.column_stack([along, across]), np.column_stack([across, along])])
    xy += rng.normal(0, 2, xy.shape)
    return xy[np.argsort(np.hypot(*(xy - side / 2).T))][:n]


def panoramas(xy: NDArray[np.float64]) -> pd.DataFrame:
    lat, lon = unproject(xy[:, 0] + START[0], xy[:, 1] + START[1], "EPSG:3006")
    frame = pd.DataFrame({"pano_id": [f"p{i:07d}" for i in range(len(xy))], "lat": lat, "lon": lon})
    return frame.assign(
        month="2020-05", point_id=range(len(xy)), offset_m=1.0, beyond=False, provider="x", licence="", attribution=""
    )


@pytest.mark.archive
def test_the_six_original_files_exactly(params: Params, archive: Path) -> None:
    original = pd.concat([pd.read_csv(f) for f in sorted((archive / LEVELS).glob("*.csv"))]).sort_values(
        "new_order_idx"
    )
    found = original.rename(columns={"PanoID": "pano_id", "Latitude": "lat", "Longitude": "lon", "Date": "month"})
    found = found.assign(beyond=False)
    check_start(params.order.start, found["lat"], found["lon"])
    places = order.order(found.sample(frac=1, random_state=5), params)
    assert places["place"].tolist() == original["new_order_idx"].tolist() == list(range(6562))
    assert places["pano_id"].tolist() == original["PanoID"].tolist()
    assert places.groupby("radius_m").size().to_dict() == {100: 1832, 75: 353, 60: 934, 50: 1362, 45: 525, 35: 1556}
    np.testing.assert_allclose(places["start_distance_m"], original["dist_to_start_point"], atol=1e-6)
    assert (places["rank"].rank().to_numpy() == original["sorted_idx"].rank().to_numpy()).all()
    circle = params.model_copy(update={"order": params.order.model_copy(update={"quadrant_segments": 0})})
    other = order.order(found, circle)
    assert other["pano_id"].tolist() != places["pano_id"].tolist()


coordinate = st.one_of(st.integers(-200, 200).map(float), st.floats(-200, 200))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(coordinate, coordinate), max_size=60),
    st.lists(
        st.builds(
            Level,
            radius_m=st.sampled_from([100.0, 75.0, 60.0, 50.0, 35.0, 10.0]),
            split=st.sampled_from(["train", "test", "gallery"]),
            apart_m=st.sampled_from([0.0, 0.0, 40.0, 90.0]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([0, 1, 4, 16]),
)
def test_equals_the_naive_loop(points: list[tuple[float, float]], levels: list[Level], segments: int) -> None:
    levels = sorted(levels, key=lambda level: -level.radius_m)
    xy = np.array(points, float).reshape(-1, 2)
    picked, level = order.pick(xy, levels, segments)
    assert list(zip(level.tolist(), picked.tolist(), strict=True)) == naive(xy, levels, segments)


@pytest.mark.parametrize(("window", "at_once"), [(7, 3), (1, 1), (64, 1000)])
def test_how_many_are_queried_together_changes_nothing(
    window: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "WINDOW", window)
    monkeypatch.setattr(order, "AT_ONCE", at_once)
    xy = np.random.default_rng(3).uniform(0, 400, (300, 2))
    levels = levels_of([80.0, 40.0, 15.0])
    picked, level = order.pick(xy, levels, 16)
    assert list(zip(level.tolist(), picked.tolist(), strict=True)) == naive(xy, levels, 16)


def test_spacing_and_cover_of_many_street_points() -> None:
    xy, radii = streets(20_000), [100.0, 75.0, 60.0, 50.0, 45.0, 35.0]
    picks, level = order.pick(xy, levels_of(radii), 16)
    assert (np.diff(level) >= 0).all()
    for number, radius in enumerate(radii):
        upto = xy[picks[level <= number]]
        inner = radius * np.cos(np.pi / 64)
        nearest = order.cKDTree(upto).query(upto, k=2)[0][:, 1]
        assert nearest.min() >= inner  # no two picks within the disc
        assert order.cKDTree(upto).query(xy)[0].max() <= radius  # and no point left that could still be one


def test_near_linear_and_fast() -> None:
    """A million in well under a minute; the clock allows for a machine that is busy with other work."""
    radii = [100.0, 75.0, 60.0, 50.0, 45.0, 35.0]
    times = []
    for n in (47_697, 4 * 47_697):
        xy = streets(n)
        assert len(xy) == n
        begun = time.process_time()
        order.pick(xy, levels_of(radii), 16)
        times.append(time.process_time() - begun)
    assert times[0] < 3
    assert times[1] < 10 * times[0]


def test_table_and_counts(params: Params, tmp_path: Path) -> None:
    found = panoramas(streets(3000) - np.sqrt(3000 / 2 * 1000) / 2)
    tables.write(tables.PANORAMAS, found, tmp_path / "panoramas.parquet")
    for part in ("a", "b"):
        order.run(params, tmp_path / "panoramas.parquet", tmp_path / part / "l.parquet", tmp_path / part / "o.json")
    assert (tmp_path / "a/l.parquet").read_bytes() == (tmp_path / "b/l.parquet").read_bytes()
    places = tables.read(tables.LOCATIONS, tmp_path / "a/l.parquet")
    assert places["place"].tolist() == list(range(len(places)))
    assert places["pano_id"].is_unique
    for _, level in places.groupby("level"):
        assert level["start_distance_m"].is_monotonic_increasing and level["rank"].is_monotonic_increasing
    split = {i: level.split for i, level in enumerate(params.order.levels)}
    assert (places["split"] == places["level"].map(split)).all()
    assert places["level"].is_monotonic_increasing


def test_dense_levels_leave_the_earlier_picks_as_they_are(params: Params) -> None:
    found = panoramas(streets(3000) - np.sqrt(3000 / 2 * 1000) / 2)
    places = order.order(found, params)
    wide = [level for level in params.order.levels if level.radius_m >= 20]
    sparse = order.order(found, params.model_copy(update={"order": params.order.model_copy(update={"levels": wide})}))
    pd.testing.assert_frame_equal(places.head(len(sparse)), sparse)

    measured = places.loc[places["split"].isin(["validation", "test"]), ["x", "y"]].to_numpy()
    training = places.loc[(places["split"] == "train") & (places["radius_m"] == 10), ["x", "y"]].to_numpy()
    assert len(training) > len(measured)
    assert order.cKDTree(measured).query(training)[0].min() >= 40
    x, y = project(found["lat"], found["lon"], params.city.crs)
    assert order.cKDTree(places[["x", "y"]].to_numpy()).query(np.column_stack([x, y]))[0].max() <= 10
    assert (places["split"] == "gallery").any()


def test_panoramas_beyond_the_grid_are_only_in_the_gallery(params: Params) -> None:
    xy = streets(3000) - np.sqrt(3000 / 2 * 1000) / 2
    found = panoramas(xy)
    found["beyond"] = np.hypot(*xy.T) > 400
    assert 100 < found["beyond"].sum() < 2900
    places, without = order.order(found, params), order.order(found[~found["beyond"]], params)
    beyond = places["pano_id"].isin(set(found.loc[found["beyond"], "pano_id"]))
    assert beyond.any() and set(places.loc[beyond, "split"]) == {"gallery"}
    columns = ["pano_id", "level", "split", "place"]
    measured = places[places["split"] != "gallery"]
    pd.testing.assert_frame_equal(measured[columns], without.loc[without["split"] != "gallery", columns])


def test_equal_distances_go_by_id(params: Params) -> None:
    twins = panoramas(np.array([[0.0, 300.0], [0.0, 300.0]]))
    for frame in (twins, twins.iloc[::-1]):
        assert order.order(frame, params)["pano_id"].tolist() == ["p0000000"]


def test_the_start_of_another_city_is_refused(params: Params, tmp_path: Path) -> None:
    found = panoramas(streets(20))
    tables.write(tables.PANORAMAS, found.assign(lat=40.7 + found.index * 1e-4, lon=-74.0), tmp_path / "p.parquet")
    with pytest.raises(UserError, match=r"order\.start: \[59\.3249, 18\.0694\] is 6,3\d\d km from the city"):
        order.run(params, tmp_path / "p.parquet", tmp_path / "l.parquet", tmp_path / "o.json")
    assert not (tmp_path / "l.parquet").exists()


def test_no_panorama_or_one_without_a_position(params: Params, tmp_path: Path) -> None:
    found = panoramas(streets(20))
    tables.write(tables.PANORAMAS, found.iloc[:0], tmp_path / "p.parquet")
    with pytest.raises(UserError, match="has no panorama"):
        order.run(params, tmp_path / "p.parquet", tmp_path / "l.parquet", tmp_path / "o.json")
    found.loc[3, "lat"] = np.nan
    tables.write(tables.PANORAMAS, found, tmp_path / "p.parquet")
    with pytest.raises(UserError, match="'p0000003'"):
        order.run(params, tmp_path / "p.parquet", tmp_path / "l.parquet", tmp_path / "o.json")
    assert not (tmp_path / "l.parquet").exists()
