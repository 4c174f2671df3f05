"""A table with a single fault makes exactly one expectation fail; a right table makes none fail."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from streetrecall import geo
from streetrecall.expectations.common.custom import nearest_of_others, nearest_other
from streetrecall.expectations.common.look_alikes import near_hashes

from .conftest import MONTHS, NEEDS, City, picture

Report = Callable[[City, str], dict[str, Any]]
Breaks = Callable[[City], None]
CASES: dict[str, tuple[str, Breaks, tuple[str, str, str]]] = {}


def breaks(check: str, table: str, expectation: str, column: str) -> Callable[[Breaks], Breaks]:
    """Register a way to break a city, and the one expectation that must fail."""

    def register(function: Breaks) -> Breaks:
        CASES[f"{check}{function.__name__}"] = check, function, (table, expectation, column)
        return function

    return register


@pytest.mark.parametrize("check", NEEDS)
def test_a_right_city_passes(check: str, city: City, report: Report) -> None:
    found = report(city, check)
    assert found["success"] and found["failed"] == 0
    assert [r["sentence"] for r in found["results"] if not r["success"]] == []


def test_every_expectation_has_a_case_that_breaks_it(city: City, report: Report) -> None:
    """Levels of the places share one: their order by distance is the same expectation over different rows."""
    covered = {(check, *noticed) for check, _, noticed in CASES.values()}
    for check in NEEDS:
        for result in report(city, check)["results"]:
            assert (check, result["table"], result["expectation"], result["column"]) in covered, result["sentence"]


@pytest.mark.parametrize(("check", "breaking", "expected"), CASES.values(), ids=CASES)
def test_exactly_one_expectation_fails(
    check: str, breaking: Breaks, expected: tuple[str, str, str], city: City, report: Report
) -> None:
    breaking(city)
    found = report(city, check)
    failed = [r for r in found["results"] if not r["success"]]
    assert [(r["table"], r["expectation"], r["column"]) for r in failed] == [expected]
    assert "error" not in failed[0], "the expectation was evaluated"
    assert not found["success"]
    if failed[0].get("unexpected_count"):
        assert failed[0]["first_ids"], "the report names the rows"


def test_a_city_with_only_test_is_right_where_nothing_is_trained(city: City, report: Report) -> None:
    for name in ("locations", "captures", "images"):
        city.frames[name] = city[name][city[name]["split"] == "test"].reset_index(drop=True)
    for check in ("locations", "crops"):
        failed = {r["column"] for r in report(city, check)["results"] if not r["success"]}
        assert failed == {"split"} | ({"trainable"} if check == "crops" else set())
    city.set("train.start_from", "models/mine")
    city.set("train.phases", [])
    for check in ("locations", "crops"):
        assert report(city, check)["success"]


def test_a_file_twice_is_right_within_a_given_set_and_wrong_across_two(city: City, report: Report) -> None:
    """The same file as query of one place and in the database of another, and then at a training place too."""
    images = city["images"]
    given = images["split"] == "test"
    images.loc[given, "subset"] = [
        "test_queries" if date == 0 else "test_database" for date in images["date_index"][given]
    ]
    test = images[given].drop_duplicates("place").index[:2]
    train = images[(images["split"] == "train") & (images["quarantine"] == "")].index[:1]
    for rows, failed in ((test, []), ([*test, *train], ["sha256, place_or_set", "phash, place_or_set"])):
        for column in ("pictures", "offset", "size", "sha256", "phash"):
            images.loc[rows, column] = images[column][test[0]]
        assert [r["column"] for r in report(city, "crops")["results"] if not r["success"]] == failed


# grid ----------------------------------------------------------------------------------------------------------------


@breaks("grid", "grid", "expect_table_row_count_to_be_between", "")
def _a_few_points(city: City) -> None:
    city.frames["grid"] = city["grid"].head(80)


@breaks("grid", "grid", "expect_column_values_to_be_unique", "point_id")
def _an_id_twice(city: City) -> None:
    city["grid"].loc[1, "point_id"] = 0


@breaks("grid", "grid", "expect_compound_columns_to_be_unique", "lat, lon")
def _a_point_twice(city: City) -> None:
    again = city["grid"].head(1).assign(point_id=10**6)
    city.frames["grid"] = pd.concat([city["grid"], again], ignore_index=True)


@breaks("grid", "grid", "expect_column_values_to_be_in_set", "crs")
def _another_crs(city: City) -> None:
    city.geo_metadata["columns"]["geometry"]["crs"] = {"id": {"authority": "EPSG", "code": 3006}}


@breaks("grid", "grid", "expect_column_pair_values_to_be_equal", "lat, geometry_lat")
def _a_geometry_further_north(city: City) -> None:
    row = city["grid"].loc[7]
    city["grid"].loc[7, "geometry"] = shapely.to_wkb(shapely.Point(row["lon"], row["lat"] + 1e-6))


@breaks("grid", "grid", "expect_column_pair_values_to_be_equal", "lon, geometry_lon")
def _a_geometry_further_east(city: City) -> None:
    row = city["grid"].loc[7]
    city["grid"].loc[7, "geometry"] = shapely.to_wkb(shapely.Point(row["lon"] + 1e-6, row["lat"]))


@breaks("grid", "grid", "expect_column_values_to_be_in_set", "inside")
def _a_smaller_polygon(city: City) -> None:
    city.polygon = [(east, min(north, 185.0)) for east, north in city.polygon]


@breaks("grid", "grid", "expect_nearest_neighbour_to_be_between", "x, y")
def _a_narrower_grid(city: City) -> None:
    grid = city["grid"]
    for column in ("lat", "lon"):
        grid[column] = grid[column].mean() + 0.9 * (grid[column] - grid[column].mean())
    grid["geometry"] = shapely.to_wkb(shapely.points(grid["lon"], grid["lat"]))


# panoramas -----------------------------------------------------------------------------------------------------------


@breaks("panoramas", "panoramas", "expect_table_row_count_to_be_between", "")
def _a_few_panoramas(city: City) -> None:
    city.frames["panoramas"] = city["panoramas"].head(5)


@breaks("panoramas", "panoramas", "expect_column_values_to_be_unique", "pano_id")
def _a_panorama_twice(city: City) -> None:
    city["panoramas"].loc[1, "pano_id"] = city["panoramas"].loc[0, "pano_id"]


@breaks("panoramas", "panoramas", "expect_column_value_lengths_to_be_between", "pano_id")
def _a_panorama_without_an_id(city: City) -> None:
    city["panoramas"].loc[0, "pano_id"] = ""


@breaks("panoramas", "panoramas", "expect_column_values_to_match_regex", "month")
def _a_thirteenth_month(city: City) -> None:
    city["panoramas"].loc[3, "month"] = "2022-13"


@breaks("panoramas", "panoramas", "expect_column_values_to_be_months_between", "month")
def _a_month_before_there_was_any(city: City) -> None:
    city["panoramas"].loc[3, "month"] = "1999-05"


@breaks("panoramas", "panoramas", "expect_column_values_to_not_be_in_set", "month")
def _many_unknown_months(city: City) -> None:
    city["panoramas"].loc[:3, "month"] = ""


@breaks("panoramas", "panoramas", "expect_column_values_to_not_be_null", "grid_lat")
def _a_point_of_another_grid(city: City) -> None:
    city["panoramas"].loc[0, "point_id"] = 10**6


@breaks("panoramas", "panoramas", "expect_distance_to_agree_with_positions", "lat, lon, grid_lat, grid_lon, offset_m")
def _a_wrong_offset(city: City) -> None:
    city["panoramas"].loc[0, "offset_m"] += 2


def _found_from(city: City, rows: Any, metres: float) -> None:
    """Let panoramas be found from a grid point that far off (as near as the grid has one)."""
    panoramas, grid = city["panoramas"], city["grid"]
    for row in panoramas.index[rows]:
        distance = geo.distance_m(grid["lat"], grid["lon"], panoramas.loc[row, "lat"], panoramas.loc[row, "lon"])
        point = int(np.argmin(np.abs(distance - metres)))
        panoramas.loc[row, "point_id"], panoramas.loc[row, "offset_m"] = grid.loc[point, "point_id"], distance[point]
    missing = city["no_coverage"]
    city.frames["no_coverage"] = missing[~missing["point_id"].isin(panoramas["point_id"])]


@breaks("panoramas", "panoramas", "expect_column_median_to_be_between", "offset_m")
def _a_shifted_grid(city: City) -> None:
    _found_from(city, slice(None), 40)


@breaks("panoramas", "panoramas", "expect_column_values_to_be_between", "offset_m")
def _some_distant_panoramas(city: City) -> None:
    _found_from(city, slice(0, 5), 100)


@breaks("panoramas", "panoramas", "expect_column_max_to_be_between", "offset_m")
def _a_far_panorama(city: City) -> None:
    _found_from(city, slice(0, 1), 290)


@breaks("panoramas", "panoramas", "expect_column_values_to_be_between", "grid_distance_m")
def _a_panorama_outside_the_city(city: City) -> None:
    lat, lon = city.degrees(400, 0)
    city["panoramas"].loc[0, ["lat", "lon"]] = lat, lon
    _found_from(city, slice(0, 1), 155)


@breaks("panoramas", "panoramas", "expect_column_value_lengths_to_be_between", "licence")
def _no_licence(city: City) -> None:
    city["panoramas"].loc[0, "licence"] = ""


@breaks("panoramas", "panoramas", "expect_column_value_lengths_to_be_between", "attribution")
def _no_attribution(city: City) -> None:
    city["panoramas"].loc[0, "attribution"] = ""


@breaks("panoramas", "panoramas", "expect_column_unique_value_count_to_be_between", "provider")
def _two_providers(city: City) -> None:
    city["panoramas"].loc[0, "provider"] = "archive"


@breaks("panoramas", "no_coverage", "expect_column_values_to_be_unique", "point_id")
def _a_gap_twice(city: City) -> None:
    city["no_coverage"].iloc[1] = city["no_coverage"].iloc[0]


@breaks("panoramas", "no_coverage", "expect_column_values_to_be_in_set", "on_grid")
def _a_gap_of_another_grid(city: City) -> None:
    city["no_coverage"].iloc[0, 0] = 10**6


@breaks("panoramas", "no_coverage", "expect_column_values_to_be_in_set", "found_too")
def _both_found_and_not(city: City) -> None:
    city["no_coverage"].iloc[0, 0] = city["panoramas"].loc[0, "point_id"]


@breaks("panoramas", "grid", "expect_column_share_of_other_values_to_be_at_most", "coverage")
def _hardly_any_coverage(city: City) -> None:
    grid = city["grid"]
    without = grid[~grid["point_id"].isin(city["panoramas"]["point_id"])]
    city.frames["no_coverage"] = without[["point_id", "lat", "lon"]].head(1300).assign(status="ZERO_RESULTS")


# locations -----------------------------------------------------------------------------------------------------------


@breaks("locations", "locations", "expect_table_row_count_to_be_between", "")
def _a_few_places(city: City) -> None:
    city.frames["locations"] = city["locations"].groupby("split").head(1)


@breaks("locations", "locations", "expect_column_values_to_be_unique", "place")
def _a_number_twice(city: City) -> None:
    city["locations"].loc[1, "place"] = 0


@breaks("locations", "locations", "expect_column_values_to_be_unique", "pano_id")
def _a_panorama_picked_twice(city: City) -> None:
    city["locations"].loc[1, "pano_id"] = city["locations"].loc[0, "pano_id"]


@breaks("locations", "locations", "expect_column_pair_values_to_be_equal", "lat, panorama_lat")
def _a_place_beside_its_panorama(city: City) -> None:
    city["locations"].loc[0, "lat"] += 1e-8


@breaks("locations", "locations", "expect_column_pair_values_to_be_equal", "lon, panorama_lon")
def _a_place_east_of_its_panorama(city: City) -> None:
    city["locations"].loc[0, "lon"] += 1e-8


@breaks("locations", "locations", "expect_column_values_to_be_in_set", "beyond")
def _a_training_place_beyond_the_grid(city: City) -> None:
    city["panoramas"].loc[city["panoramas"]["pano_id"] == city["locations"].loc[0, "pano_id"], "beyond"] = True


@breaks("locations", "locations", "expect_positions_to_agree", "lat, lon, x, y")
def _metres_of_elsewhere(city: City) -> None:
    city["locations"].loc[0, "x"] += 0.5


@breaks(
    "locations",
    "locations",
    "expect_distance_to_agree_with_positions",
    "lat, lon, start_lat, start_lon, start_distance_m",
)
def _a_wrong_distance(city: City) -> None:
    city["locations"].loc[len(city["locations"]) - 1, "start_distance_m"] += 0.5


LAST_SPARSE = 5  # the level of 35 m, the last before the dense ones


def _one_more_place(city: City, east: float, north: float) -> None:
    """A place of the last level, and its panorama, so many metres from the first place of the test split."""
    places, level = city["locations"], LAST_SPARSE
    near = places[places["split"] == "test"].iloc[0]
    (lat,), (lon,) = geo.unproject([near["x"] + east], [near["y"] + north], city.params.city.crs)
    new = places.tail(1).assign(place=900, pano_id="new", lat=lat, lon=lon, level=level, split="validation")
    new["radius_m"] = city.params.order.levels[level].radius_m
    new["x"], new["y"] = geo.project(new["lat"], new["lon"], city.params.city.crs)
    new["start_distance_m"] = geo.distance_m(lat, lon, *city.params.order.start)
    city.frames["locations"] = pd.concat([places, new], ignore_index=True)
    panorama = city["panoramas"].tail(1).assign(pano_id="new", lat=lat, lon=lon)
    city.frames["panoramas"] = pd.concat([city["panoramas"], panorama], ignore_index=True)


@breaks("locations", "locations", "expect_picks_to_keep_their_radius", "x, y, radius_m")
def _a_pick_within_anothers_radius(city: City) -> None:
    _one_more_place(city, 32, 0)


@breaks("locations", "locations", "expect_groups_to_be_apart", "x, y, split")
def _splits_too_near(city: City) -> None:
    levels = [level.model_dump() for level in city.params.order.levels]
    levels[LAST_SPARSE]["radius_m"] = 10.0
    city.set("order.levels", levels)
    _one_more_place(city, 20, 0)


@breaks("locations", "locations", "expect_column_values_to_be_between", "other_split_m")
def _a_dense_training_place_near_the_test(city: City) -> None:
    _one_more_place(city, 20, 32)
    last = city["locations"].index[-1]
    city["locations"].loc[last, ["level", "radius_m", "split"]] = [6, 10.0, "train"]


@breaks("locations", "locations", "expect_column_values_to_be_increasing", "level")
def _levels_mixed(city: City) -> None:
    order = list(city["locations"].index)
    city.frames["locations"] = city["locations"].loc[order[-1:] + order[:-1]]
    first = city["locations"].index[0]
    city["locations"].loc[first, "start_distance_m"] = city["locations"].loc[first, "start_distance_m"]
    rest = city["locations"]["level"] != 3
    city.frames["locations"] = city["locations"][rest | (city["locations"].index == first)]


@breaks("locations", "locations", "expect_column_values_to_be_increasing", "start_distance_m")
def _a_level_from_far_to_near(city: City) -> None:
    order = list(city["locations"].index)
    city.frames["locations"] = city["locations"].loc[[*order[1::-1], *order[2:]]]


@breaks("locations", "locations", "expect_column_pair_values_to_be_one_of", "level, split")
def _a_split_of_another_level(city: City) -> None:
    city["locations"].loc[0, "split"] = "test"


@breaks("locations", "locations", "expect_column_pair_values_to_be_one_of", "level, radius_m")
def _a_radius_of_another_level(city: City) -> None:
    city["locations"].loc[len(city["locations"]) - 1, "radius_m"] = 35.0


@breaks("locations", "locations", "expect_column_distinct_values_to_contain_set", "split")
def _an_empty_split(city: City) -> None:
    city.frames["locations"] = city["locations"][city["locations"]["split"] != "validation"]


# captures ------------------------------------------------------------------------------------------------------------


@breaks("captures", "captures", "expect_table_row_count_to_be_between", "")
def _a_few_captures(city: City) -> None:
    city.keep([0, 1])
    city.frames["locations"] = city["locations"].head(2)


@breaks("captures", "captures", "expect_compound_columns_to_be_unique", "place, direction, month, pano_id")
def _a_capture_twice(city: City) -> None:
    city.frames["captures"] = pd.concat([city["captures"], city["captures"].head(1)], ignore_index=True)


@breaks("captures", "captures", "expect_column_values_to_not_be_null", "place_split")
def _an_unknown_place(city: City) -> None:
    city["captures"].loc[city["captures"]["place"] == 0, "place"] = 999


@breaks("captures", "captures", "expect_column_pair_values_to_be_equal", "split, place_split")
def _another_split(city: City) -> None:
    city["captures"].loc[0, "split"] = "test"


@breaks("captures", "captures", "expect_column_values_to_be_between", "place_distance_m")
def _a_capture_elsewhere(city: City) -> None:
    city["captures"].loc[0, "lat"] += 0.001


def _without_picture(city: City, rows: Any, status: str, reason: str) -> None:
    city["captures"].loc[rows, ["status", "reason", "shard", "sha256"]] = status, reason, "", ""
    city["captures"].loc[rows, "offset"] = -1


@breaks("captures", "captures", "expect_column_values_to_be_in_set", "status")
def _an_unknown_status(city: City) -> None:
    _without_picture(city, 0, "odd", "who knows")


@breaks("captures", "captures", "expect_column_value_lengths_to_be_between", "reason")
def _no_reason(city: City) -> None:
    _without_picture(city, 0, "gone", "")


@breaks("captures", "captures", "expect_column_values_to_be_in_set", "offset")
def _bytes_of_nothing(city: City) -> None:
    _without_picture(city, 0, "gone", "closed")
    city["captures"].loc[0, "offset"] = 512


@breaks("captures", "captures", "expect_groups_to_be_complete", "place, date_index, direction")
def _directions_that_are_not_listed(city: City) -> None:
    city.keep(list(range(27)), extra=lambda rows: (rows["direction"] < 3) | (rows["place"] > 2))


@breaks("captures", "captures", "expect_column_share_of_other_values_to_be_at_most", "status")
def _many_lost(city: City) -> None:
    _without_picture(city, slice(0, 29), "failed", "time-out")


@breaks("captures", "captures", "expect_column_share_of_other_values_to_be_at_most", "status")
def _many_blank(city: City) -> None:
    city["captures"].loc[:19, ["status", "reason"]] = "blank", "near-black"


def _cut_short(city: City, table: str) -> None:
    """The shard holds the first half of a picture, and the table says so."""
    city.pictures[0] = city.pictures[0][: len(city.pictures[0]) // 2]
    city.relay()


@breaks("captures", "captures", "expect_column_values_to_be_null", "read_error")
def _half_a_picture(city: City) -> None:
    _cut_short(city, "captures")


@breaks("captures", "captures", "expect_column_pair_values_to_be_equal", "sha256, read_sha256")
def _another_picture(city: City) -> None:
    city["captures"].loc[0, "sha256"] = "0" * 64


@breaks("captures", "captures", "expect_column_values_to_be_in_set", "projection")
def _an_unknown_projection(city: City) -> None:
    city["captures"].loc[0, "projection"] = "fisheye"


@breaks("captures", "captures", "expect_column_pair_values_to_be_equal", "read_width, read_height_twice")
def _half_a_sphere(city: City) -> None:
    city["captures"].loc[0, "projection"] = "equirectangular"


@breaks("captures", "captures", "expect_column_pair_values_to_be_one_of", "read_width, read_height")
def _many_frames_of_another_size(city: City) -> None:
    for row in range(len(city["captures"]) // 8):
        city.pictures[row] = picture(np.random.default_rng(row), size=100)
    city.relay()


@breaks("captures", "captures", "expect_column_value_lengths_to_be_between", "licence")
def _a_capture_without_licence(city: City) -> None:
    city["captures"].loc[0, "licence"] = ""


@breaks("captures", "captures", "expect_column_value_lengths_to_be_between", "attribution")
def _a_capture_without_attribution(city: City) -> None:
    city["captures"].loc[0, "attribution"] = ""


@breaks("captures", "locations", "expect_column_share_of_other_values_to_be_at_most", "collected")
def _places_without_captures(city: City) -> None:
    city.keep(list(range(3, 27)))


# crops ---------------------------------------------------------------------------------------------------------------


@breaks("crops", "images", "expect_table_row_count_to_be_between", "")
def _a_few_images(city: City) -> None:
    city.set("checks.crops.min_rows", 100)
    city.keep([0, 1, 13, 20])


@breaks("crops", "images", "expect_column_values_to_be_unique", "image_id")
def _an_image_id_twice(city: City) -> None:
    city["images"].loc[1, "image_id"] = 0


@breaks("crops", "images", "expect_column_values_to_be_null", "read_error")
def _half_an_image(city: City) -> None:
    _cut_short(city, "images")


@breaks("crops", "images", "expect_column_pair_values_to_be_equal", "sha256, read_sha256")
def _another_image(city: City) -> None:
    city["images"].loc[0, "sha256"] = "0" * 64


@breaks("crops", "images", "expect_column_pair_values_to_be_one_of", "read_width, read_height")
def _an_image_of_another_size(city: City) -> None:
    city.pictures[0] = picture(np.random.default_rng(1), size=100)
    city.relay()


@breaks("crops", "images", "expect_column_values_to_be_in_set", "read_format")
def _a_png(city: City) -> None:
    out = io.BytesIO()
    Image.open(io.BytesIO(city.pictures[0])).save(out, "PNG")
    city.pictures[0] = out.getvalue()
    city.relay()


@breaks("crops", "images", "expect_column_values_to_be_between", "luminance_std")
def _a_grey_image(city: City) -> None:
    city["images"].loc[0, "luminance_std"] = 0.5


@breaks("crops", "images", "expect_column_values_to_be_between", "luminance_mean")
def _a_black_image(city: City) -> None:
    city["images"].loc[0, "luminance_mean"] = 2.0


@breaks("crops", "images", "expect_column_a_values_not_to_be_shared_across_column_b", "sha256, place")
def _one_file_at_two_places(city: City) -> None:
    city.pictures[100] = city.pictures[0]
    city.relay()


@breaks("crops", "images", "expect_column_a_hashes_to_be_apart_across_column_b", "phash, place")
def _look_alikes(city: City) -> None:
    twins = city["images"].index[[0, 100, 150, 200]]
    city["images"].loc[twins, "phash"] = [
        "00000000000000f0",
        "00000000000000f1",
        "00000000000000f2",
        "00000000000000f8",
    ]


def _move(city: City, rows: pd.Series, east: float, north: float) -> None:
    images = city["images"]
    (lat,), (lon,) = geo.unproject(
        [images.loc[rows, "x"].iloc[0] + east], [images.loc[rows, "y"].iloc[0] + north], city.params.city.crs
    )
    (x,), (y,) = geo.project([lat], [lon], city.params.city.crs)
    images.loc[rows, ["lat", "lon", "x", "y"]] = lat, lon, x, y


def _rename(city: City, row: int, pano_id: str) -> None:
    for name in ("images", "captures"):
        city[name].loc[row, "pano_id"] = pano_id


@breaks("crops", "images", "expect_column_a_values_not_to_be_shared_across_column_b", "place, split")
def _a_place_of_two_splits(city: City) -> None:
    images = city["images"]
    west = images[images["split"] == "train"].sort_values(["x", "date_index"]).index[0]
    images.loc[west, "split"] = "test"
    _rename(city, west, "elsewhere")
    _move(city, images.index == west, -45, 0)


@breaks("crops", "images", "expect_column_a_values_not_to_be_shared_across_column_b", "pano_id, split")
def _a_panorama_of_two_splits(city: City) -> None:
    images = city["images"]
    _rename(city, images[images["split"] == "test"].index[0], images[images["split"] == "train"]["pano_id"].iloc[0])


@breaks("crops", "images", "expect_groups_to_be_apart", "x, y, split")
def _pictures_of_splits_too_near(city: City) -> None:
    images = city["images"]
    train, test = (images[images["split"] == split].iloc[0] for split in ("train", "test"))
    _move(city, images["place"] == test["place"], train["x"] + 20 - test["x"], train["y"] - test["y"])


@breaks("crops", "images", "expect_positions_to_agree", "lat, lon, x, y")
def _image_metres_of_elsewhere(city: City) -> None:
    city["images"].loc[0, "x"] += 1


@breaks("crops", "images", "expect_column_values_to_be_in_set", "quarantine")
def _an_unknown_reason(city: City) -> None:
    city["images"].loc[0, "quarantine"] = "ugly"


@breaks("crops", "images", "expect_column_share_of_other_values_to_be_at_most", "quarantine")
def _many_in_quarantine(city: City) -> None:
    rows = (city["images"]["direction"] == 0) & (city["images"]["date_index"] == 1)
    city["images"].loc[rows, "quarantine"] = "blank"


@breaks("crops", "images", "expect_column_value_lengths_to_be_between", "licence")
def _an_image_without_licence(city: City) -> None:
    city["images"].loc[0, "licence"] = ""


@breaks("crops", "images", "expect_column_value_lengths_to_be_between", "attribution")
def _an_image_without_attribution(city: City) -> None:
    city["images"].loc[0, "attribution"] = ""


@breaks("crops", "captures", "expect_column_values_to_be_in_set", "images")
def _an_image_dropped(city: City) -> None:
    city.frames["images"] = city["images"].drop(index=3)


@breaks("crops", "places", "expect_column_distinct_values_to_contain_set", "split")
def _no_images_of_a_split(city: City) -> None:
    city.keep(list(range(27)), extra=lambda rows: rows["split"] != "validation")


@breaks("crops", "places", "expect_column_values_to_be_in_set", "directions")
def _places_with_three_directions(city: City) -> None:
    city.keep(list(range(27)), extra=lambda rows: (rows["direction"] < 3) | (rows["place"] > 3))


@breaks("crops", "places", "expect_column_values_to_be_between", "dates")
def _places_with_one_date(city: City) -> None:
    city.keep(list(range(27)), extra=lambda rows: (rows["date_index"] == 0) | (rows["place"] > 3))


@breaks("crops", "places", "expect_column_sum_to_be_between", "trainable")
def _one_place_to_train_on(city: City) -> None:
    city.keep([0, *range(12, 27)])


# views ---------------------------------------------------------------------------------------------------------------


@breaks("views", "views", "expect_table_row_count_to_be_between", "")
def _a_few_views(city: City) -> None:
    city.frames["views"] = city["views"].head(40)


@breaks("views", "views", "expect_column_values_to_be_unique", "view_id")
def _a_view_twice(city: City) -> None:
    city["views"].loc[1, "view_id"] = 0


@breaks("views", "views", "expect_column_values_to_be_in_set", "use")
def _a_view_for_nothing(city: City) -> None:
    city["views"].loc[len(city["views"]) - 1, "use"] = "other"


@breaks("views", "views", "expect_column_values_to_be_in_set", "split")
def _a_test_place_to_train_on(city: City) -> None:
    city["views"].loc[len(city["views"]) - 1, "split"] = "test"


@breaks("views", "views", "expect_column_pair_values_to_be_equal", "for_training, in_training")
def _a_view_that_a_training_does_not_see(city: City) -> None:
    city.frames["training"] = city["training"].drop(index=city["training"].index[5])


@breaks("views", "views", "expect_column_a_values_not_to_be_shared_across_column_b", "sha256, place")
def _a_view_at_two_places(city: City) -> None:
    views = city["views"]
    for column in ("pictures", "offset", "size", "sha256"):
        views.loc[0, column] = views.loc[len(views) - 1, column]


@breaks("views", "views", "expect_positions_to_agree", "lat, lon, x, y")
def _a_view_from_elsewhere(city: City) -> None:
    city["views"].loc[0, "x"] += 0.5


@breaks("views", "views", "expect_groups_to_be_complete", "place, pano_id, direction")
def _directions_that_no_view_shows(city: City) -> None:
    views = city["views"]
    city.frames["views"] = views[(views["use"] != "gallery") | (views["place"] > 3) | (views["heading_deg"] != 90.0)]


@breaks("views", "views", "expect_column_values_to_be_in_set", "fov_deg")
def _another_lens_in_the_gallery(city: City) -> None:
    city["views"].loc[0, "fov_deg"] = 70.0


@breaks("views", "views", "expect_column_values_to_be_between", "fov_deg")
def _a_lens_that_no_phone_has(city: City) -> None:
    city["views"].loc[len(city["views"]) - 1, "fov_deg"] = 120.0


def _picture_cases(name: str) -> None:
    """What a table of pictures must say, for views and photos alike."""

    @breaks(name, name, "expect_column_values_to_be_null", "read_error")
    def _a_picture_cut_short(city: City) -> None:
        city[name].loc[0, "size"] -= 2

    @breaks(name, name, "expect_column_pair_values_to_be_equal", "sha256, read_sha256")
    def _another_picture(city: City) -> None:
        city[name].loc[0, "sha256"] = "0" * 64

    for side in ("width", "height"):

        def _another_size(city: City, side: str = side) -> None:
            city[name].loc[0, side] = 99

        _another_size.__name__ = f"_another_{side}"
        breaks(name, name, "expect_column_pair_values_to_be_equal", f"{side}, read_{side}")(_another_size)

    for column in ("licence", "attribution"):

        def _silent(city: City, column: str = column) -> None:
            city[name].loc[0, column] = ""

        _silent.__name__ = f"_no_{column}"
        breaks(name, name, "expect_column_value_lengths_to_be_between", column)(_silent)


_picture_cases("views")
_picture_cases("photos")


# photos --------------------------------------------------------------------------------------------------------------


@breaks("photos", "photos", "expect_table_row_count_to_be_between", "")
def _a_few_photos(city: City) -> None:
    city.frames["photos"] = city["photos"].head(6)


@breaks("photos", "photos", "expect_column_values_to_be_unique", "photo_id")
def _a_photo_twice(city: City) -> None:
    city["photos"].loc[1, "photo_id"] = 0


@breaks("photos", "photos", "expect_column_values_to_be_in_set", "split")
def _a_photo_to_train_on(city: City) -> None:
    city["photos"].loc[0, "split"] = "train"


@breaks("photos", "photos", "expect_column_pair_values_to_be_equal", "for_training, in_training")
def _a_test_photo_that_chooses_the_model(city: City) -> None:
    city.frames["validation"] = pd.concat([city["validation"], city["photos"].query("split == 'test'").head(3)])


@breaks("photos", "photos", "expect_groups_to_be_complete", "spot, of_spot")
def _a_photo_lost(city: City) -> None:
    city.frames["photos"] = city["photos"].drop(index=1)


@breaks("photos", "photos", "expect_positions_to_agree", "lat, lon, x, y")
def _a_photo_from_elsewhere(city: City) -> None:
    city["photos"].loc[0, "lat"] += 1e-6


@breaks("photos", "photos", "expect_column_values_to_be_between", "distance_error_m")
def _a_photo_said_to_be_nearer(city: City) -> None:
    city["photos"].loc[0, "distance_m"] = 5.0


@breaks("photos", "photos", "expect_column_pair_values_to_be_equal", "near, within_25m")
def _a_photo_said_to_have_no_answer(city: City) -> None:
    city["photos"].loc[0, "near"] = False


@breaks("photos", "photos", "expect_column_values_to_be_between", "training_m")
def _a_photo_near_a_training_place(city: City) -> None:
    """Another photo's nearest place turns out to be one that is trained on."""
    views = city["views"]
    city["views"].loc[views["place"] == city["photos"].loc[0, "place"], "split"] = "train"


@breaks("photos", "photos", "expect_column_values_to_be_between", "same_month_m")
def _a_photo_of_the_gallerys_month(city: City) -> None:
    city["photos"].loc[0, "month"] = MONTHS[1]


def test_a_place_that_only_answers_may_show_the_month_of_a_photo_near_its_own_split(city: City, report: Report) -> None:
    """Its views of that month never answer the photo."""
    photo = city["photos"].loc[0]
    own = city["views"]["place"] == photo["place"]
    moved = city["views"][own].assign(place=500, pano_id="other", split="gallery", month=photo["month"])
    moved["view_id"] += 10_000
    for column in ("pictures", "offset", "size", "sha256"):
        moved[column] = city["captures"].loc[city["captures"]["place"] == 0, column].to_numpy()[: len(moved)]
    city.frames["views"] = pd.concat([city["views"], moved], ignore_index=True)
    assert report(city, "photos")["success"]


def test_one_frame_of_another_size_stops_nothing(city: City, report: Report) -> None:
    """The stage crop puts it into quarantine."""
    city.pictures[0] = picture(np.random.default_rng(1), size=100)
    city.relay()
    assert report(city, "captures")["success"]


def test_captures_that_are_for_views_alone_have_no_picture(city: City, report: Report) -> None:
    captures = city["captures"]
    sphere = captures.head(1).assign(pano_id="sphere", projection="equirectangular")
    frame = captures.head(1).assign(pano_id="frame", split="gallery")
    city.frames["captures"] = pd.concat([captures, sphere, frame], ignore_index=True)
    assert report(city, "crops")["success"]


@pytest.mark.parametrize("check", ["views", "photos"])
def test_a_provider_without_views_and_photos_passes(check: str, city: City, report: Report) -> None:
    city.set("provider", "archive")
    for name in ("views", "photos"):
        city.frames[name] = city[name].head(0)
    assert [r["sentence"] for r in report(city, check)["results"] if not r["success"]] == []


# descriptors ---------------------------------------------------------------------------------------------------------


def _per_system(expectation: str, column: str, table: str = "{}") -> Callable[[Callable[[City, str], None]], None]:
    """Register a case for the baselines and for the index; ``table`` is the name of the batch."""

    def register(function: Callable[[City, str], None]) -> None:
        for name in ("baseline", "index", "sift_vlad"):

            def broken(city: City, name: str = name) -> None:
                function(city, name)

            broken.__name__ = f"{function.__name__}_of_the_{name}"
            breaks("descriptors", table.format(name), expectation, column)(broken)

    return register


@_per_system("expect_table_row_count_to_equal", "")
def _a_missing_row(city: City, name: str) -> None:
    city.frames[name] = city[name].iloc[:-1]
    city.vectors[name] = city.vectors[name][:-1]


@_per_system("expect_column_pair_values_to_be_equal", "image_id, wanted_image_id")
def _two_rows_swapped(city: City, name: str) -> None:
    first, second = city[name].index[city[name]["role"] == "gallery"][:2]
    ids = city[name]["image_id"].copy()
    city[name].loc[[first, second], "image_id"] = [ids[second], ids[first]]


@_per_system("expect_column_pair_values_to_be_equal", "role, wanted_role")
def _an_older_query(city: City, name: str) -> None:
    city[name].loc[city[name].index[city[name]["role"] == "gallery"][0], "role"] = "query"


@_per_system("expect_column_values_to_not_be_null", "non_finite")
def _a_missing_vector(city: City, name: str) -> None:
    city.vectors[name] = city.vectors[name][:-1]


@_per_system("expect_column_values_to_be_in_set", "non_finite")
def _an_infinite_number(city: City, name: str) -> None:
    city.vectors[name][0, 0] = np.inf


@_per_system("expect_column_values_to_be_between", "norm")
def _a_long_vector(city: City, name: str) -> None:
    city.vectors[name][0] *= 1.5


@_per_system("expect_column_stdev_to_be_between", "cosine", "{}_pairs")
def _all_equally_unlike(city: City, name: str) -> None:
    city.vectors[name] = np.eye(len(city[name]), dtype=np.float16)


@_per_system("expect_column_mean_to_be_between", "cosine", "{}_pairs")
def _nearly_parallel(city: City, name: str) -> None:
    count = len(city[name])
    drawn = np.random.default_rng(3).uniform(0, 0.3, (count, 1)) * np.eye(count)
    vectors = np.hstack([np.ones((count, 1)), drawn])
    city.vectors[name] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


# predictions ---------------------------------------------------------------------------------------------------------


def _some_answers(city: City, right: bool, protocol: str = "city") -> pd.Index:
    """Answers within, or beyond, 25 m."""
    rows = city["queries"]
    return rows.index[(rows["protocol"] == protocol) & ((rows["error_m"] < 25) == right)]


@breaks("predictions", "queries", "expect_table_row_count_to_be_between", "")
def _a_few_answers(city: City) -> None:
    city.frames["queries"] = city["queries"].head(6)  # of one query: three systems, two protocols
    city.frames["index"] = city["index"][
        city["index"]["image_id"].isin([*city["queries"]["image_id"], *city["queries"]["answer_id"]])
    ]


@breaks("predictions", "queries", "expect_compound_columns_to_be_unique", "system, scope, protocol, image_id")
def _an_answer_twice(city: City) -> None:
    row = _some_answers(city, right=True)[0]
    city.frames["queries"] = pd.concat([city["queries"], city["queries"].loc[[row]]], ignore_index=True)


@breaks("predictions", "queries", "expect_column_distinct_values_to_equal_set", "system")
def _an_unknown_system(city: City) -> None:
    city["queries"].loc[_some_answers(city, right=True)[0], "system"] = "oracle"


@breaks("predictions", "queries", "expect_column_pair_values_to_be_equal", "lat, query_lat")
def _a_query_north_of_itself(city: City) -> None:
    city["queries"].loc[0, "lat"] += 1e-9


@breaks("predictions", "queries", "expect_column_pair_values_to_be_equal", "lon, query_lon")
def _a_query_east_of_itself(city: City) -> None:
    city["queries"].loc[0, "lon"] += 1e-9


@breaks("predictions", "queries", "expect_column_values_to_be_in_set", "answered")
def _unanswered_queries(city: City) -> None:
    rows = city["queries"].index[:40]
    ranks = [f"rank_{r}m" for r in (25, 50, 100)]
    city["queries"].loc[rows, ["answer_id", "answer_place"]] = -1
    city["queries"].loc[rows, ranks] = 0
    city["queries"].loc[rows, ["error_m", "similarity"]] = np.nan


@breaks("predictions", "queries", "expect_column_values_to_not_be_null", "answer_lat")
def _an_answer_from_nowhere(city: City) -> None:
    city["queries"].loc[0, "answer_id"] = 10**6


@breaks("predictions", "queries", "expect_column_values_to_not_be_null", "error_m")
def _an_error_that_is_no_number(city: City) -> None:
    city["queries"].loc[0, "error_m"] = np.nan


@breaks("predictions", "queries", "expect_column_values_to_not_be_null", "similarity")
def _a_similarity_that_is_no_number(city: City) -> None:
    city["queries"].loc[0, "similarity"] = np.nan


@breaks("predictions", "queries", "expect_column_values_to_be_between", "similarity")
def _more_than_alike(city: City) -> None:
    city["queries"].loc[0, "similarity"] = 3.0


@breaks(
    "predictions",
    "queries",
    "expect_distance_to_agree_with_positions",
    "lat, lon, answer_lat, answer_lon, error_m",
)
def _a_flattering_error(city: City) -> None:
    city["queries"].loc[_some_answers(city, right=True)[0], "error_m"] += 5


@breaks("predictions", "queries", "expect_column_pair_values_to_be_equal", "first_is_right, error_within_25m")
def _right_but_not_counted(city: City) -> None:
    city["queries"].loc[_some_answers(city, right=True)[0], ["rank_25m", "rank_50m", "rank_100m"]] = 2


@breaks("predictions", "queries", "expect_column_pair_values_a_to_be_greater_than_b", "first_at_25m, first_at_50m")
def _found_near_before_far(city: City) -> None:
    city["queries"].loc[_some_answers(city, right=False)[0], ["rank_25m", "rank_50m", "rank_100m"]] = 3, 5, 3


@breaks("predictions", "queries", "expect_column_pair_values_a_to_be_greater_than_b", "first_at_50m, first_at_100m")
def _found_at_50_before_100(city: City) -> None:
    city["queries"].loc[_some_answers(city, right=False)[0], ["rank_25m", "rank_50m", "rank_100m"]] = 0, 3, 5


@breaks("predictions", "index", "expect_column_values_to_be_in_set", "answers_of_model")
def _a_query_the_model_never_saw(city: City) -> None:
    rows = city["queries"]
    city.frames["queries"] = rows.drop(index=rows.index[(rows["system"] == "model") & (rows["protocol"] != "city")][0])


@breaks("predictions", "index", "expect_column_values_to_be_in_set", "answers_of_baseline")
def _a_query_the_baseline_never_saw(city: City) -> None:
    rows = city["queries"]
    city.frames["queries"] = rows.drop(
        index=rows.index[(rows["system"] == "baseline") & (rows["protocol"] != "city")][0]
    )


@breaks("predictions", "index", "expect_column_values_to_be_in_set", "answers_of_sift_vlad")
def _a_query_that_sift_vlad_never_saw(city: City) -> None:
    rows = city["queries"]
    city.frames["queries"] = rows.drop(
        index=rows.index[(rows["system"] == "sift_vlad") & (rows["protocol"] != "city")][0]
    )


def test_nearest_places_are_those_of_a_naive_loop(pristine: City) -> None:
    """The k-d tree against all distances."""
    places = pristine["locations"]
    xy, split = places[["x", "y"]].to_numpy(), places["split"].to_numpy()
    distance = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_allclose(nearest_other(xy), distance.min(axis=1))
    other = np.where(split[:, None] != split[None], distance, np.inf)
    np.testing.assert_allclose(nearest_of_others(xy, split), other.min(axis=1))


@pytest.mark.parametrize("max_bits", [0, 1, 2, 5, 9, 63])
def test_near_hashes_are_those_of_a_naive_loop(max_bits: int) -> None:
    """Hashes with planted neighbours, some beyond the limit, some of the same place."""
    rng = np.random.default_rng(max_bits)
    seeds = rng.integers(0, 2**64, 60, dtype=np.uint64)
    hashes = [int(h) for h in seeds]
    for h in seeds[:40]:
        flipped = rng.choice(64, size=rng.integers(0, max_bits + 3) % 65, replace=False)
        hashes.append(int(h) ^ sum(1 << int(bit) for bit in flipped))
    place = rng.integers(0, 4, len(hashes))
    near = [
        any(place[i] != place[j] and (a ^ b).bit_count() <= max_bits for j, b in enumerate(hashes))
        for i, a in enumerate(hashes)
    ]
    assert near_hashes(np.array(hashes, np.uint64), place, max_bits).tolist() == near
    assert sum(near) > 0
