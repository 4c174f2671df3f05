"""A folder of pictures through the stages: places, directions, dates and splits, every row checked."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from collecting import collect
from PIL import Image
from tinyfolder import at, of_folder, photo, pixels, utm_name, write

from streetrecall import cli, tables
from streetrecall.collect.folder import look, report
from streetrecall.errors import UserError
from streetrecall.params.schema import Params, load
from streetrecall.pictures.codec import decode
from streetrecall.pictures.formats import as_jpeg
from streetrecall.pictures.shards import ShardReader
from streetrecall.providers import open_local, polygon_path
from streetrecall.providers.folder.provider import FolderProvider, anchors_of
from streetrecall.providers.shots import example

ROOT = Path(__file__).parents[3]
YEARS = (2023, 2019)
SPACING = 55.0
SPHERES = (0, 24)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Photos at 25 points 55 m apart, of two years in four directions, some metres off; a sphere of two more years at
    two points; and a few that cannot be used."""
    root = tmp_path / "album"
    rng = np.random.default_rng(0)
    for point in range(25):
        east, north = SPACING * (point % 5), SPACING * (point // 5)
        for year in YEARS:
            for k, heading in enumerate((2.0, 88.0, 181.0, 275.0)):
                where = at(east + rng.uniform(-4, 4), north + rng.uniform(-4, 4))
                name = f"{point:02d}_{year}_{k}.jpg"
                write(root / name, photo(point * 10_000 + year * 4 + k, where, f"{year}:06:01 12:00:00", heading))
        if point in SPHERES:
            for year in (2021, 2015):
                data = photo(500_000 + point * 3_000 + year, at(east, north), f"{year}:07:01 12:00:00", pose=30.0)
                write(root / f"{point:02d}_{year}_sphere.jpg", data)
    write(root / "nowhere.jpg", photo(901, None))
    write(root / "undated.jpg", photo(902, at(3.0, 3.0), taken=""))
    return root


def test_photos_become_places_dates_and_directions(album: Path, tmp_path: Path, params: Params) -> None:
    mine = of_folder(params, album, licence="CC-BY-4.0", attribution="Ann")
    made = collect(mine, tmp_path / "out")
    assert made.failed == []
    locations, captures = made.locations, made.captures
    assert len(locations) == 25 and set(locations["split"]) == {"train", "test", "validation"}
    assert len(captures) == 25 * 8 + 2 * 2 * 4 + 1
    assert set(captures["status"]) == {"ok"} and set(captures["licence"]) == {"CC-BY-4.0"}
    assert set(captures["attribution"]) == {"Ann"} and set(captures["provider"]) == {"folder"}
    assert captures["shard"].str.startswith("local/").all()
    for place, rows in captures.groupby("place"):
        point = {source[:2] for source in rows["source"] if source != "undated.jpg"}
        assert len(point) == 1, f"place {place} has pictures of {point}"
    flat = captures[captures["source"].str.fullmatch(r"\d\d_\d{4}_\d\.jpg")]
    assert (flat["direction"] == flat["source"].str[8].astype(int)).all()
    assert flat["fov_deg"].isna().all() and set(flat["month"]) == {"2023-06", "2019-06"}
    spheres = captures[captures["source"].str.endswith("sphere.jpg")]
    assert set(spheres["fov_deg"]) == {120.0} and sorted(set(spheres["heading_deg"])) == [0.0, 90.0, 180.0, 270.0]
    dates = dict(zip(flat["month"], flat["date_index"], strict=True)) if not spheres.empty else {}
    assert dates["2023-06"] == 0
    undated = captures[captures["month"] == ""]
    assert undated["source"].tolist() == ["undated.jpg"] and undated["heading_deg"].isna().all()
    assert undated["direction"].tolist() == [0] and undated["date_index"].iloc[0] > 0
    assert (made.images["width"] == 224).all() and (made.images["quarantine"] == "").mean() > 0.98
    left_out = (tmp_path / "out/metrics/scrape.json").read_text()
    assert '"no GPS position": 1' in left_out
    views = made.views
    assert set(views["place"]) <= set(spheres["place"]) and (views["use"] == "gallery").any()
    assert views.groupby(["pano_id", "use"]).size().xs("gallery", level="use").eq(params.views.directions).all()


def test_a_second_run_writes_the_same_bytes(tmp_path: Path, params: Params) -> None:
    for point in range(4):
        write(tmp_path / f"in/{point}.jpg", photo(point, at(60.0 * point, 0), heading=10.0, size=(800, 600)))
    mine = of_folder(params, tmp_path / "in")
    first, second = (collect(mine, tmp_path / name, checked=False) for name in ("a", "b"))
    assert set(first.captures["width"]) == set(first.captures["height"]) == {600}
    for name in ("panoramas.parquet", "captures/captures.parquet", "crops/images.parquet"):
        assert (first.data / name).read_bytes() == (second.data / name).read_bytes()


def test_a_frame_of_a_sphere_is_what_an_analytic_sphere_shows(tmp_path: Path, params: Params) -> None:
    """Colours follow azimuth and elevation, so each pixel of a frame tells where it looks."""
    columns, rows = np.meshgrid(np.arange(1024), np.arange(512))
    azimuth = ((columns + 0.5) / 1024 - 0.5) * 2 * np.pi  # from the middle, which faces 40 degrees
    sphere = np.stack([127 + 100 * np.sin(azimuth), 127 + 100 * np.cos(azimuth), 255 * (rows + 0.5) / 512], axis=2)
    out = io.BytesIO()
    Image.fromarray(sphere.round().astype(np.uint8)).save(out, "PNG")
    write(tmp_path / "in/s.png", out.getvalue())
    (tmp_path / "in/pictures.csv").write_text(
        "path,lat,lon,captured_at,heading_deg,projection\ns.png,59.3250,18.07,2020-05,40,equirectangular\n"
    )
    mine = of_folder(params, tmp_path / "in")
    provider = FolderProvider(mine)
    from fakeprovider import locations

    (anchor,) = {a.shot_id for a in anchors_of(provider._scan().shots, mine)}
    plan = list(provider.plan(locations(1).assign(pano_id=anchor)))
    assert [r.direction for r in plan] == [0, 1, 2, 3]
    for capture in provider.capture(plan):
        frame = decode(capture.data)
        assert frame is not None and frame.shape == (810, 1512, 3)
        focal = 756 / math.tan(math.radians(60))
        for column, row in ((756, 363), (300, 363), (1200, 100), (700, 700)):
            right, down = (column - 755.5) / focal, (row - 810 * 0.448) / focal
            turn = math.atan2(right, 1.0) + math.radians(capture.request.heading_deg - 40)
            elevation = 0.5 + math.atan2(down, math.hypot(right, 1.0)) / math.pi
            wanted = (127 + 100 * math.sin(turn), 127 + 100 * math.cos(turn), 255 * elevation)
            assert frame[row, column] == pytest.approx(wanted, abs=7), (capture.request.direction, column, row)


def test_given_splits_and_roles_reach_the_pictures(tmp_path: Path, params: Params) -> None:
    root = tmp_path / "set"
    number = 0
    for part, first in (("train", 0), ("val", 20), ("test", 40)):
        for role, stamp in (("database", "201905"), ("queries", "202305")):
            for i in range(8):
                for heading in ("0", "90", "180", "270"):
                    name = utm_name(674_000.0 + 100 * (first + i), 6_580_000.0 + number % 7, heading, stamp, str(i))
                    out = io.BytesIO()
                    pixels(number, (64, 48)).save(out, "JPEG")
                    write(root / "images" / part / role / name, out.getvalue())
                    number += 1
    mine = of_folder(params, root, fit="squeeze")
    made = collect(mine, tmp_path / "out")
    assert made.failed == []
    assert list(made.panoramas.columns)[-1] == "split"
    assert made.locations.groupby("split").size().to_dict() == {"test": 8, "train": 8, "validation": 8}
    images = made.images
    assert images.groupby("subset").size().to_dict() == {
        f"{split}_{role}": 32 for split in ("train", "validation", "test") for role in ("database", "queries")
    }
    with ShardReader(made.data / "captures") as reader:
        row = made.captures.iloc[0]
        picture = decode(reader.read(row["shard"], row["offset"], row["size"]))
    assert picture is not None and picture.shape[0] == picture.shape[1] == 224


def test_places_follow_the_greedy_order_and_keep_to_their_split(params: Params) -> None:
    shots = [
        example("far", lat=at(300, 0)[0], lon=at(300, 0)[1]),
        example("b", lat=at(20, 0)[0], lon=at(20, 0)[1]),
        example("a", lat=at(0, 0)[0], lon=at(0, 0)[1]),
        example("c", lat=at(40, 0)[0], lon=at(40, 0)[1]),
        example("t", lat=at(1, 0)[0], lon=at(1, 0)[1], split="test"),
        example("named", lat=at(300, 0)[0], lon=at(300, 0)[1], place="hall"),
        example("named2", lat=at(360, 0)[0], lon=at(360, 0)[1], place="hall"),
    ]
    near = params.model_copy(update={"order": params.order.model_copy(update={"start": list(at(0, 0))})})
    assert [a.shot_id for a in anchors_of(shots, near)] == ["far", "a", "a", "c", "t", "named", "named"]


def test_import_says_what_is_there_and_what_is_not(
    album: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["import", str(album)]) == 0
    said = capsys.readouterr().out
    assert "205 pictures can be used (205 by EXIF)" in said
    assert "25 places (folder.place_m: 25), 4 360-degree pictures" in said
    assert "1 without a month" in said and "1 no GPS position\n    nowhere.jpg" in said
    assert "streetrecall set provider=folder" in said
    (album / "polygon.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[18.0690, 59.324], [18.0710, 59.324], [18.0710, 59.336], '
        "[18.0690, 59.336], [18.0690, 59.324]]]}"
    )
    assert cli.main(["import", str(album)]) == 0
    assert "outside the polygon" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert cli.main(["import", str(tmp_path / "empty")]) == 2
    assert cli.main(["import", str(tmp_path / "nothing")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["table", "names"])
def test_import_leaves_out_what_cannot_be_read_in_every_layout(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    whole = photo(1)
    files = {"good": whole, "torn": whole[:600], "page": b"<html>", "heic": photo(4, kind="HEIF")[:900]}
    lines = ["path,lat,lon"]
    for number, (name, data) in enumerate(files.items()):
        note = utm_name(674_000.0 + 30 * number, 6_580_000.0, note=name)
        write(tmp_path / "in" / (f"{name}.jpg" if layout == "table" else note), data)
        lines.append(f"{name}.jpg,{59.325 + number / 1000},18.07")
    if layout == "table":
        write(tmp_path / "in/pictures.csv", "\n".join(lines).encode())
    assert cli.main(["import", str(tmp_path / "in")]) == 0
    said = capsys.readouterr().out
    assert f"1 pictures can be used (1 by {'a table' if layout == 'table' else 'file names'}" in said
    assert "3 left out:\n  3 unreadable\n" in said and "truncated: its end is missing" in said
    assert "not a JPEG or PNG picture (HTML or XML)" in said


PHONES = {"IMG_1.HEIC": "HEIF", "IMG_2.webp": "WEBP", "IMG_3.png": "PNG", "IMG_4.jpg": "HEIF", "IMG_5.avif": "AVIF"}


def test_photos_of_phones_are_collected_whatever_their_format_and_name(tmp_path: Path, params: Params) -> None:
    """Position, month and heading come from their EXIF, and the capture is a JPEG of the same picture."""
    for number, (name, kind) in enumerate(PHONES.items()):
        data = photo(number, at(60.0 * number, 0), "2022:08:01 10:00:00", 91.5, size=(800, 600), kind=kind)
        write(tmp_path / "in" / name, data)
    mine = of_folder(params, tmp_path / "in")
    assert [len(look(mine).shots), look(mine).left_out] == [len(PHONES), []]
    made = collect(mine, tmp_path / "out", checked=False)
    captures = made.captures.set_index("source")
    assert set(captures.index) == set(PHONES) and set(captures["status"]) == {"ok"}
    assert set(captures["month"]) == {"2022-08"} and set(captures["heading_deg"]) == {91.5}
    with ShardReader(made.data / "captures") as reader:
        for number, name in enumerate(PHONES):
            row = captures.loc[name]
            assert (row["lat"], row["lon"]) == pytest.approx(at(60.0 * number, 0), abs=1e-6)
            data = reader.read(row["shard"], row["offset"], row["size"])
            assert data.startswith(b"\xff\xd8\xff") and b"Exif" not in data
            wanted = np.asarray(pixels(number, (800, 600)).crop((100, 0, 700, 600)), np.int16)
            shown = decode(data)
            assert shown is not None and shown.shape == (600, 600, 3)
            assert np.median(np.abs(shown.astype(np.int16) - wanted)) < 6, name


def test_a_photo_that_is_stored_turned_is_made_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    out = io.BytesIO()
    pixels(1, (96, 72)).save(out, "WEBP", lossless=True, exif=exif)
    shown = decode(as_jpeg(out.getvalue()))
    wanted = np.asarray(pixels(1, (96, 72)).transpose(Image.Transpose.ROTATE_270), np.int16)
    assert shown is not None and shown.shape == wanted.shape
    assert np.median(np.abs(shown.astype(np.int16) - wanted)) < 6


def test_the_polygon_is_the_folders_own_or_made_around_its_places(album: Path, params: Params) -> None:
    mine = of_folder(params, album)
    made = polygon_path(mine, ROOT / "data/cities")
    assert made == polygon_path(mine, ROOT / "data/cities") and made.is_file()
    assert not (album / "polygon.geojson").exists()
    (album / "polygon.geojson").write_bytes(made.read_bytes())
    assert polygon_path(mine, ROOT / "data/cities") == album / "polygon.geojson"


def test_the_fingerprint_covers_pictures_tables_and_polygon(album: Path, params: Params) -> None:
    write(album / "notes.txt", b"x")
    write(album / "pictures.csv", b"path,lat,lon\n")
    paths = {found.path for found in open_local(of_folder(params, album)).files()}
    assert "pictures.csv" in paths and "00_2023_0.jpg" in paths and "notes.txt" not in paths


def test_a_folder_without_usable_pictures_is_an_error(tmp_path: Path, params: Params) -> None:
    write(tmp_path / "in/a.jpg", photo(1, None))
    with pytest.raises(UserError, match=r"no picture that can be used \(1 left out, such as a.jpg: no GPS position\)"):
        collect(of_folder(params, tmp_path / "in"), tmp_path / "out")


def test_every_reason_is_reported_with_examples(tmp_path: Path) -> None:
    params = of_folder(load(ROOT / "params.yaml"), tmp_path / "in")
    for i in range(6):
        write(tmp_path / f"in/{i}.jpg", photo(i, None))
    lines = list(report(look(params), params))
    assert lines[0].endswith("0 pictures can be used") and "6 left out:" in lines and len(lines) == 6
    assert len(list(report(look(params), params, every=True))) == 9


def test_given_roles_are_read_from_subsets() -> None:
    import pandas as pd

    assert tables.given_role(pd.Series(["a_queries", "database", "x"])).tolist() == ["queries", "database", ""]
