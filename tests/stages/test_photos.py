"""The stage `photos`, over photos of an invented provider."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from capturing import write_captures
from fakeprovider import picture

from streetrecall import tables
from streetrecall.geo import project
from streetrecall.params.schema import Params
from streetrecall.pictures import shards
from streetrecall.pictures.codec import encode_jpeg
from streetrecall.providers.base import Capture, CaptureRequest, Panorama, Photo
from streetrecall.stages import photos, views
from streetrecall.tables import Projection

LAT, LON = 59.32, 18.06
METRE = 1 / 111_412  # degrees of latitude here


def gallery() -> pd.DataFrame:
    """VIEWS of two places, 100 m apart, each with two dates of four headings; and a view for training."""
    rows = [
        {"use": "gallery", "place": place, "pano_id": f"p{place}-{date}", "month": f"20{20 - date}-05",
         "lat": LAT + place * 100 * METRE, "heading_deg": heading}
        for place in range(2) for date in range(2) for heading in (0.0, 90.0, 180.0, 270.0)
    ]  # fmt: skip
    rows.append({**rows[0], "use": "train", "lat": LAT + 50 * METRE})
    table = pd.DataFrame(rows).assign(lon=LON, split="validation", subset="validation_v1", fov_deg=60.0, width=224)
    table["x"], table["y"] = project(table["lat"], table["lon"], "EPSG:3006")
    table = table.assign(
        height=224, shard="shared/validation/gallery/a.tar", offset=0, size=1, provider="x", licence="CC0"
    )
    return table.assign(view_id=range(len(table)), sha256="", attribution="nobody")


def photo(spot: int, split: str, north_m: float, heading: float, shareable: bool = True) -> Photo:
    data = picture(f"{spot} {north_m} {heading}")
    return Photo(
        spot, split, "2024-06", LAT + north_m * METRE, LON, heading, 60.0, 1.0, -1.0, 1.6, data, "CC0", "nobody",
        shareable,
    )  # fmt: skip


class Taken:
    def __init__(
        self, folder: Path, params: Params, monkeypatch: pytest.MonkeyPatch, taken: list[Photo], views: pd.DataFrame
    ) -> None:
        class Fake:
            @classmethod
            def photos(cls, params: Params, asked: pd.DataFrame) -> Iterator[Photo]:
                assert set(asked["use"]) <= {"gallery"}
                return iter(taken)

        monkeypatch.setattr(photos, "provider_class", lambda name: Fake)
        tables.write(tables.VIEWS, views, folder / "views.parquet")
        photos.run(params, folder / "captures", folder / "views.parquet", folder / "photos", folder / "photos.json")
        self.table = tables.read(tables.PHOTOS, folder / "photos/photos.parquet")
        self.metrics = json.loads((folder / "photos.json").read_text())
        self.files = {
            p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted((folder / "photos").rglob("*"))
            if p.is_file()
        }


def test_distances_and_angles_to_the_gallery(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [
        photo(0, "validation", 10, 20.0),
        photo(0, "validation", 80, 350.0),
        photo(0, "validation", 100, 135.0),
        *(photo(1, "test", 50, heading) for heading in (0.0, 1.0, 359.0)),
    ]
    made = Taken(tmp_path, params, monkeypatch, taken, gallery())
    assert made.table["distance_m"].to_numpy() == pytest.approx([10, 20, 0, 50, 50, 50], abs=0.1)
    assert made.table["angle_deg"].tolist() == [20.0, 10.0, 45.0, 0.0, 1.0, 1.0]
    assert made.table["near"].tolist() == [True] * 3 + [False] * 3
    with shards.ShardReader(tmp_path / "photos") as reader:
        for row, one in zip(made.table.itertuples(), taken, strict=True):
            assert reader.read(row.shard, row.offset, row.size) == one.data
            assert (row.width, row.height, row.sha256) == (32, 16, hashlib.sha256(one.data).hexdigest())
    assert made.metrics["by_split"] == {
        "test": {"spots": 1, "near_spots": 0},
        "validation": {"spots": 1, "near_spots": 1},
    }


def test_shards_hold_whole_spots_by_split_and_permission(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = [
        photo(spot, ("validation", "test")[spot % 2], 10 + spot / 10, heading, shareable=spot < 38)
        for spot in range(40)
        for heading in (0.0, 120.0, 240.0)
    ]
    made = Taken(tmp_path, params, monkeypatch, taken, of_both_splits())
    assert made.table.groupby("spot")["shard"].nunique().eq(1).all()
    assert sorted(name for name in made.files if name.endswith(".tar")) == [
        "photos/local/test/test-00001.tar",
        "photos/local/validation/validation-00001.tar",
        *(f"photos/shared/{split}/{split}-0000{n}.tar" for split in ("test", "validation") for n in (0, 1)),
    ]
    again = Taken(tmp_path / "again", params, monkeypatch, taken, of_both_splits())
    assert again.files == made.files


def of_both_splits() -> pd.DataFrame:
    """`gallery`, with the same views at places of test."""
    return pd.concat([gallery(), gallery().assign(split="test", view_id=100 + gallery()["view_id"])])


def test_photos_near_places_of_validation_come_first_and_have_a_table_that_the_gallery_leaves_alone(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spot 0 is near no place; spot 1 is near one of test only, which is not its split."""
    places = gallery().query("use == 'gallery'")
    places = pd.concat([places.query("place == 0"), places.query("place == 1").assign(split="test")])
    where = {0: ("validation", 50), 1: ("validation", 90), 2: ("test", 104), 3: ("validation", 12)}
    taken = [photo(n, *spot, heading) for n, spot in where.items() for heading in (5.0, 120.0, 240.0)]
    made = Taken(tmp_path / "few", params, monkeypatch, taken, places)
    assert made.table["spot"].tolist() == [spot for spot in (3, 2, 0, 1) for _ in range(3)]
    assert made.table["shard"].str.split("/").str[1].tolist() == ["validation"] * 3 + ["test"] * 3 + ["elsewhere"] * 6
    choosing = tables.read(tables.PHOTOS, tmp_path / "few/photos/validation.parquet")
    assert choosing.equals(made.table.head(3))

    dense = places.query("place == 0").assign(split="gallery", place=7, lat=LAT + 14 * METRE, heading_deg=10.0)
    dense["x"], dense["y"] = project(dense["lat"], dense["lon"], "EPSG:3006")
    dense["view_id"] += 200
    grown = Taken(tmp_path / "more", params, monkeypatch, taken, pd.concat([places, dense]))
    assert grown.table["distance_m"][0] == pytest.approx(2, abs=0.1)
    assert made.table["distance_m"][0] == pytest.approx(12, abs=0.1)
    assert {name for name in grown.files if grown.files[name] != made.files[name]} == {"photos/photos.parquet"}


@pytest.mark.parametrize("provider", ["archive", "google"])
def test_a_collection_of_single_crops_leaves_an_empty_table(params: Params, tmp_path: Path, provider: str) -> None:
    tables.write(tables.VIEWS, gallery().iloc[:0], tmp_path / "views.parquet")
    crop = taken_at(0, "validation", 0, fov_deg=math.nan, horizon=math.nan, projection=Projection.PERSPECTIVE)
    write_captures([crop], places(), tmp_path / "captures", provider)
    params = params.model_copy(update={"provider": provider})
    photos.run(params, tmp_path / "captures", tmp_path / "views.parquet", tmp_path / "photos", tmp_path / "photos.json")
    table = tables.read(tables.PHOTOS, tmp_path / "photos/photos.parquet")
    assert table.empty and table["near"].dtype == np.dtype(bool)
    assert json.loads((tmp_path / "photos.json").read_text())["photos"] == 0


def test_the_simulated_city_has_photos_of_its_gallery(params: Params, tmp_path: Path) -> None:
    """The city's own panoramas as gallery: positions come back in degrees."""
    from streetrecall.simulator.city.plan import open_city

    root = Path(__file__).parents[2]
    city = open_city(params, root)
    panos = [city.panos[ids[-1]] for ids in city.spot_panos[::4]]
    few = pd.concat([gallery().iloc[[0]]] * len(panos), ignore_index=True)
    few["lat"], few["lon"] = zip(*(city.position(pano) for pano in panos), strict=True)
    few["x"], few["y"] = project(few["lat"], few["lon"], params.city.crs)
    few["split"] = np.where(np.arange(len(few)) % 2, "validation", "test")
    few = few.assign(place=range(len(few)), view_id=range(len(few)), pano_id=[p.pano_id for p in panos])
    few["month"] = [p.date for p in panos]
    tables.write(tables.VIEWS, few, tmp_path / "views.parquet")
    small = params.photos.model_copy(update={"spots": 2, "far_share": 0.5, "long_side": 96})
    params = params.model_copy(update={"photos": small})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        photos.run(
            params, tmp_path / "captures", tmp_path / "views.parquet", tmp_path / "photos", tmp_path / "photos.json"
        )
    table = tables.read(tables.PHOTOS, tmp_path / "photos/photos.parquet")
    assert table["near"].tolist() == [True] * 12 + [False] * 6
    assert table["split"].tolist() == ["validation"] * 6 + ["test"] * 6 + ["validation"] * 3 + ["test"] * 3
    assert tables.read(tables.PHOTOS, tmp_path / "photos/validation.parquet")["photo_id"].tolist() == list(range(6))
    assert table["month"].str.startswith("2024-").all()
    assert (table[["width", "height"]].max(axis=1) == 96).all()


SPLIT_OF_PLACE = ["validation"] * 5 + ["test"] * 5 + ["train"] * 2
DATES = [2, 2, 2, 1, 1] * 2 + [2, 1]  # of a place; those with one are not in the gallery
BESIDE = [0, 1, 3, 4]  # places beside which there is one of split gallery too


def places() -> pd.DataFrame:
    """Places in a row, 200 m apart, and those of split gallery."""
    at = [*range(len(SPLIT_OF_PLACE)), *BESIDE]
    count = len(at)
    split = [*SPLIT_OF_PLACE, *["gallery"] * len(BESIDE)]
    frame = pd.DataFrame({"place": range(count), "split": split}).assign(lon=LON, month="2023-03")
    frame = frame.assign(lat=LAT + np.array(at) * 200 * METRE, rank=frame["place"], radius_m=10.0)
    frame["level"] = (frame["split"] == "gallery").astype(int)
    frame["x"], frame["y"] = project(frame["lat"], frame["lon"], "EPSG:3006")
    return frame.assign(pano_id=[f"p{i}-0" for i in range(count)], start_distance_m=frame["place"] * 200.0)


def taken_at(place: int, split: str, date: int, month: str = "", **more: object) -> Capture:
    """A sphere of a place's date, 0 being the newest."""
    month = month or f"{2023 - 2 * date}-03"
    panorama = Panorama(f"p{place}-{date}", LAT + place * 200 * METRE, LON, month, "CC0-1.0", "nobody")
    facts = {"projection": Projection.EQUIRECTANGULAR, "fov_deg": 360.0, "horizon": 0.5} | more
    request = CaptureRequest(place, 0, 0.0, date, panorama, split, f"{split}_v1", **facts)
    coarse = np.random.default_rng(10 * place + date).integers(0, 255, (32, 64, 3), dtype=np.uint8)
    return Capture(request, "ok", "", encode_jpeg(coarse.repeat(8, axis=0).repeat(8, axis=1), 95))


def cut(folder: Path, params: Params, taken: list[Capture]) -> pd.DataFrame:
    """The photos of a provider that has none of people."""
    write_captures(taken, places(), folder / "captures", "panoramax")
    tables.write(tables.LOCATIONS, places(), folder / "locations.parquet")
    settings = params.photos.model_copy(update={"spots": 2, "far_share": 0.5, "long_side": 96})
    params = params.model_copy(update={"provider": "panoramax", "photos": settings})
    views.run(params, folder / "captures", folder / "locations.parquet", folder / "views", folder / "views.json")
    seen = folder / "views/views.parquet"
    photos.run(params, folder / "captures", seen, folder / "photos", folder / "photos.json")
    return tables.read(tables.PHOTOS, folder / "photos/photos.parquet")


def every_date() -> list[Capture]:
    return [
        taken_at(place, split, date)
        for place, (split, dates) in enumerate(zip(SPLIT_OF_PLACE, DATES, strict=True))
        for date in range(dates)
    ]


def test_photos_are_cut_from_the_newest_panoramas_of_a_provider_without_any(params: Params, tmp_path: Path) -> None:
    table = cut(tmp_path / "a", params, every_date())
    assert table["spot"].tolist() == [spot for spot in range(6) for _ in range(3)]
    assert table["split"].tolist() == ["validation"] * 6 + ["test"] * 6 + ["validation"] * 3 + ["test"] * 3
    assert table["near"].tolist() == [True] * 12 + [False] * 6
    assert set(table["month"]) == {"2023-03"}
    assert table["fov_deg"].between(50, 80).all() and table["heading_deg"].nunique() > 12
    assert {(96, 72), (72, 96)} == set(zip(table["width"], table["height"], strict=True))
    assert (table["distance_m"][table["near"]] < 1).all() and (table["distance_m"][~table["near"]] > 190).all()
    assert set(table["licence"]) == {"CC0-1.0"} and set(table["provider"]) == {"panoramax"}
    cut(tmp_path / "b", params, every_date())
    first, second = (sorted((tmp_path / run / "photos").rglob("*.tar")) for run in "ab")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_no_photo_is_cut_of_a_month_that_the_gallery_shows_nearby(params: Params, tmp_path: Path) -> None:
    taken = every_date()
    taken[1] = taken_at(0, "validation", 1, "2023-03")  # two panoramas of one drive
    table = cut(tmp_path, params, taken)
    place = table["lat"].sub(LAT).div(200 * METRE).round().astype(int)
    assert 0 not in set(place[table["near"]])
    assert len(table) == 18, "other places of validation take its turn"


def test_places_that_only_answer_do_not_change_the_photos_that_are_cut_near_others(
    params: Params, tmp_path: Path
) -> None:
    """They show the month of a photo, the panorama of another, and the places of photos without an answer nearby."""
    before = cut(tmp_path / "before", params, every_date())
    grown = []
    for number, place in enumerate(BESIDE):
        one = taken_at(place, "gallery", 5, "2023-03")
        panorama = replace(one.request.panorama, pano_id="p1-0" if place == 1 else f"g{place}")
        request = replace(one.request, place=len(SPLIT_OF_PLACE) + number, date_index=1, panorama=panorama)
        grown.append(replace(one, request=request))
    after = cut(tmp_path / "after", params, [*every_date(), *grown])
    assert len(before) == 18 and before["split"].tolist()[12:] == ["validation"] * 3 + ["test"] * 3
    assert len(after) == 15 and after["split"].tolist()[12:] == ["test"] * 3, "all of validation have an answer now"
    assert before.head(12).equals(after.head(12))
    for name in ("validation.parquet", "shared/validation/validation-00000.tar", "shared/test/test-00000.tar"):
        first, second = ((tmp_path / run / "photos" / name).read_bytes() for run in ("before", "after"))
        assert first == second


def test_no_photo_is_cut_of_an_unknown_month(params: Params, tmp_path: Path) -> None:
    undated = [
        replace(one, request=replace(one.request, panorama=replace(one.request.panorama, month="")))
        for one in every_date()
    ]
    assert cut(tmp_path, params, undated).empty
