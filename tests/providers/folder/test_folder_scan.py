"""Reading a folder of pictures: EXIF, XMP, tables, file names; what is left out and why; whatever the files hold."""

from __future__ import annotations

import io
import json
import math
import tempfile
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from anyjson import ANY_JSON
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tinyfolder import ORIGIN, at, photo, pixels, utm_name, write

from streetrecall.errors import UserError
from streetrecall.geo import project
from streetrecall.params.schema import Params
from streetrecall.providers.folder.exif import read_gpano, read_known
from streetrecall.providers.folder.names import Named, read_folders, read_name
from streetrecall.providers.folder.scan import scan
from streetrecall.providers.folder.table import Row, read_row, read_table


def reasons(left_out: list[tuple[str, str]]) -> dict[str, str]:
    return dict(left_out)


def test_exif_says_where_when_and_which_way() -> None:
    known = read_known(photo(1, at(100, -30), heading=350.5))
    assert (known.lat, known.lon) == pytest.approx(at(100, -30), abs=1e-6)
    assert (known.month, known.heading_deg, known.sphere) == ("2021-05", 350.5, False)
    south_west = read_known(photo(1, (-33.5, -70.25)))
    assert (south_west.lat, south_west.lon) == pytest.approx((-33.5, -70.25), abs=1e-6)
    assert math.isnan(south_west.heading_deg)
    png = read_known(photo(1, kind="PNG"))
    assert png.lat == pytest.approx(ORIGIN[0], abs=1e-6)


def test_gpano_says_that_a_picture_is_a_sphere() -> None:
    known = read_known(photo(2, pose=77.0))
    assert (known.sphere, known.heading_deg) == (True, 77.0)
    part = (
        b"<GPano:ProjectionType>equirectangular</GPano:ProjectionType>"
        b"<GPano:CroppedAreaImageHeightPixels>500</GPano:CroppedAreaImageHeightPixels>"
        b"<GPano:FullPanoHeightPixels>1000</GPano:FullPanoHeightPixels>"
    )
    assert read_gpano(part)[:2] == (True, True)


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "2021:13:01 00:00:00", "yesterday", "1021:05:03 10:00:00"])
def test_a_time_that_makes_no_sense_is_unknown(taken: str) -> None:
    assert read_known(photo(1, taken=taken)).month == ""


@given(st.binary(max_size=200), st.integers(0, 400))
def test_damaged_metadata_never_gives_a_wrong_record(noise: bytes, position: int) -> None:
    data = photo(1)
    known = read_known(data[:position] + noise + data[position + len(noise) :])
    assert math.isnan(known.lat) or (abs(known.lat) <= 90 and abs(known.lon) <= 180)
    assert known.month == "" or len(known.month) == 7
    assert math.isnan(known.heading_deg) or 0 <= known.heading_deg < 360
    read_gpano(noise)


def test_names_of_the_field_give_the_utm_position() -> None:
    named = read_name(utm_name(674_123.45, 6_580_000.5, heading="270", stamp="20150731"))
    assert isinstance(named, Named)
    east, north = project(named.lat, named.lon, "EPSG:32633")
    assert (float(east), float(north)) == pytest.approx((674_123.45, 6_580_000.5), abs=1e-3)
    assert (named.heading_deg, named.month) == (270.0, "2015-07")
    pitts = "@0583964.72@4477154.23@17@T@040.44039@-080.01049@004@00@@@@@@pitch1_yaw1@.jpg"
    named = read_name(pitts)
    assert isinstance(named, Named)
    assert (named.lat, named.lon) == pytest.approx((40.4404, -80.0105), abs=1e-3)
    assert math.isnan(named.heading_deg) and named.month == ""
    southern = read_name("@0506000.00@6969000.00@56@J@@@x@@@@@@@@.jpg")
    assert isinstance(southern, Named) and southern.lat == pytest.approx(-27.4, abs=0.05)


@given(st.text(alphabet="@0123456789.-VXA", max_size=80))
def test_any_name_gives_a_position_or_a_reason(name: str) -> None:
    named = read_name(f"@{name}.jpg")
    assert isinstance(named, str) or (abs(named.lat) <= 90 and abs(named.lon) <= 180)


def test_folders_give_split_and_role() -> None:
    assert read_folders("sf_xl/images/test/database/@1.jpg") == ("test", "database")
    assert read_folders("images/train/@1.jpg") == ("", "")
    assert read_folders("images/val/database/sub/@1.jpg") == ("validation", "database")


@given(
    st.dictionaries(st.sampled_from(["path", "lat", "lon", "captured_at", "heading_deg", "split", "role"]), ANY_JSON)
)
def test_any_line_of_a_table_gives_a_row_or_a_reason(values: dict) -> None:
    row = read_row(values)
    assert isinstance(row, (Row, str)) and row
    if isinstance(row, Row):
        assert abs(row.lat) <= 90 and abs(row.lon) <= 180 and not row.path.startswith("../")
        assert row.month == "" or len(row.month) == 7


CELLS = st.fixed_dictionaries(
    {},
    optional={
        key: ANY_JSON | st.just(value)
        for key, value in {
            "path": "a.jpg", "lat": 59.3, "lon": "18.1", "captured_at": "2021-05", "heading_deg": -20, "split": "val",
            "role": "query", "projection": "equirectangular", "place": 7,
        }.items()
    },
)  # fmt: skip
FEATURES = st.fixed_dictionaries(
    {}, optional={"properties": CELLS | ANY_JSON,
                  "geometry": ANY_JSON | st.builds(lambda c: {"type": "Point", "coordinates": c}, ANY_JSON)}
)  # fmt: skip


def judge_table(name: str, content: bytes) -> None:
    """A table gives rows that make sense, each line or a reason, or one clear error that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / name, content)
        try:
            lines = list(read_table(path))
        except UserError as error:
            assert str(error).startswith(str(path))
            return
    for where, row in lines:
        assert where.startswith(name) and row
        if isinstance(row, Row):
            assert abs(row.lat) <= 90 and abs(row.lon) <= 180 and not row.path.startswith(("../", "/"))
            assert row.path.isprintable() and (row.month == "" or len(row.month) == 7)
            assert math.isnan(row.heading_deg) or 0 <= row.heading_deg < 360
            assert row.split in ("", "train", "validation", "test") and row.role in ("", "database", "queries")


@given(ANY_JSON | st.fixed_dictionaries({"features": st.lists(FEATURES | ANY_JSON, max_size=4)}))
def test_any_geojson_gives_rows_or_a_clear_error(content: object) -> None:
    judge_table("pictures.geojson", json.dumps(content).encode())


@given(
    st.binary(max_size=80)
    | st.lists(st.text(alphabet='a,.";\n\r\t15-\x00é ', max_size=30), max_size=4).map(
        lambda lines: ("path,lat,lon,captured_at\n" + "\n".join(lines)).encode()
    )
)
def test_any_csv_gives_rows_or_a_clear_error(content: bytes) -> None:
    judge_table("pictures.csv", content)


@given(st.lists(CELLS, max_size=3), st.integers(0, 40))
def test_any_parquet_gives_rows_or_a_clear_error(rows: list[dict[str, object]], cut: int) -> None:
    """Cells are texts, because a column has one type; the file may be cut short."""
    out = io.BytesIO()
    pd.DataFrame([{key: cell_of(value) for key, value in row.items()} for row in rows]).to_parquet(out)
    data = out.getvalue()
    judge_table("pictures.parquet", data[: len(data) - cut])


def cell_of(value: object) -> str:
    text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    return text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("kind", ["HEIF", "WEBP", "PNG", "AVIF"])
@given(noise=st.binary(max_size=60), share=st.floats(0, 1))
def test_damaged_metadata_of_other_formats_never_gives_a_wrong_record(kind: str, noise: bytes, share: float) -> None:
    data = example_of(kind)
    position = int(share * len(data))
    known = read_known(data[:position] + noise + data[position + len(noise) :])
    assert math.isnan(known.lat) or (abs(known.lat) <= 90 and abs(known.lon) <= 180)
    assert known.month == "" or len(known.month) == 7


@cache
def example_of(kind: str) -> bytes:
    return photo(1, heading=10.0, kind=kind)


LINES = [
    {"path": "a.jpg", "lat": 59.3250, "lon": 18.07, "captured_at": "2021-05-03T10:15:00+02:00", "heading_deg": 370.0,
     "split": "val", "role": "query", "licence": "CC0-1.0", "attribution": "Ann"},
    {"path": "sub/b.jpg", "lat": 59.3251, "lon": 18.07, "captured_at": "2019-07", "split": "test"},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "parquet", "geojson"])
def test_the_three_kinds_of_tables_say_the_same(kind: str, tmp_path: Path, params: Params) -> None:
    write(tmp_path / "a.jpg", photo(1, None))
    write(tmp_path / "sub/b.jpg", photo(2, None))
    table = pd.DataFrame(LINES)
    if kind == "csv":
        table.to_csv(tmp_path / "pictures.csv", index=False, encoding="utf-8-sig")
    elif kind == "parquet":
        table.to_parquet(tmp_path / "pictures.parquet")
    else:
        features = [
            {"type": "Feature", "geometry": {"type": "Point", "coordinates": [line["lon"], line["lat"], 12.0]},
             "properties": {k: v for k, v in line.items() if k not in ("lat", "lon")}}
            for line in LINES
        ]  # fmt: skip
        content = {"type": "FeatureCollection", "features": features}
        (tmp_path / "pictures.geojson").write_text(json.dumps(content))
    found = scan(tmp_path, params.folder)
    assert found.left_out == []
    a, b = found.shots
    assert (a.lat, a.lon, a.month, a.heading_deg) == (59.325, 18.07, "2021-05", 10.0)
    assert (a.split, a.role, a.licence, a.attribution) == ("validation", "queries", "CC0-1.0", "Ann")
    assert (b.source, b.month, b.split, b.role, b.licence) == ("sub/b.jpg", "2019-07", "test", "", "none stated")
    assert math.isnan(b.heading_deg)


def test_each_line_that_cannot_be_used_has_its_reason(tmp_path: Path, params: Params) -> None:
    for name in ("a.jpg", "b.jpg", "extra.jpg"):
        write(tmp_path / name, photo(len(name) + ord(name[0])))
    lines = ["a.jpg,59.3,18", "a.jpg,59.3,18", "none.jpg,59.3,18", "../x.jpg,59.3,18", "b.jpg,59.3", "b.jpg,x,18"]
    (tmp_path / "pictures.csv").write_text("path,lat,lon\n" + "\n".join(lines) + "\n")
    found = scan(tmp_path, params.folder)
    assert [shot.source for shot in found.shots] == ["a.jpg"]
    why = reasons(found.left_out)
    assert why["pictures.csv: line 3"] == "listed twice; a.jpg"
    assert why["pictures.csv: line 4"] == "no such picture; none.jpg"
    assert "leads out of the folder" in why["pictures.csv: line 5"]
    assert "no position" in why["pictures.csv: line 6"] and "no position" in why["pictures.csv: line 7"]
    assert why["extra.jpg"] == "not in the table"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pictures.csv", b"file,lat,lon\na.jpg,1,2\n", "lacks the columns path"),
        ("pictures.csv", b"\xff\xfe\x00", "not a readable table"),
        ("pictures.parquet", b"PAR1 no", "not a readable table"),
        ("pictures.geojson", b"[1, 2]", "no FeatureCollection"),
        ("pictures.geojson", b"{" * 100_000, "not a readable table"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error(
    name: str, content: bytes, message: str, tmp_path: Path, params: Params
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        scan(tmp_path, params.folder)


def test_photos_that_cannot_be_used_are_listed(tmp_path: Path, params: Params) -> None:
    write(tmp_path / "good.jpg", photo(1))
    write(tmp_path / "again.jpg", photo(1))
    write(tmp_path / "nowhere.jpg", photo(2, None))
    write(tmp_path / "null.jpg", photo(3, (0.0, 0.0)))
    write(tmp_path / "torn.jpg", photo(4)[:500])
    write(tmp_path / "page.jpg", b"<html>")
    write(tmp_path / "readme.txt", b"hello")
    (tmp_path / "gone.jpg").symlink_to("nothing")
    found = scan(tmp_path, params.folder)
    assert [shot.source for shot in found.shots] == ["again.jpg"]  # the first by name
    why = reasons(found.left_out)
    assert why["good.jpg"] == "duplicate; the same file as again.jpg"
    assert why["nowhere.jpg"] == why["null.jpg"] == "no GPS position"
    assert why["torn.jpg"].startswith("unreadable; truncated")
    assert why["page.jpg"].startswith("unreadable; not a JPEG or PNG")
    assert why["gone.jpg"] == "unreadable; a link to nothing"
    assert found.other_files == 1 and found.layouts["again.jpg"] == "exif"


def test_pictures_without_a_split_are_left_out_where_others_have_one(tmp_path: Path, params: Params) -> None:
    for number, part in enumerate(("images/test/database", "images/test/queries", "loose")):
        out = io.BytesIO()
        pixels(number).save(out, "JPEG")
        write(tmp_path / part / utm_name(674_000.0 + number, 6_580_000.0), out.getvalue())
    found = scan(tmp_path, params.folder)
    assert sorted((s.split, s.role) for s in found.shots) == [("test", "database"), ("test", "queries")]
    assert [reason for _, reason in found.left_out] == ["no split, and others have one"]


def test_copies_count_where_the_role_is_given(tmp_path: Path, params: Params) -> None:
    """The same bytes as query, as database and once more as database: the field's evaluators count them all."""
    out = io.BytesIO()
    pixels(1).save(out, "JPEG")
    for number, role in enumerate(("database", "queries", "database")):
        write(tmp_path / "images/test" / role / utm_name(674_000.0 + number, 6_580_000.0), out.getvalue())
    found = scan(tmp_path, params.folder)
    assert found.left_out == [] and sorted(s.role for s in found.shots) == ["database", "database", "queries"]


def test_a_photo_stays_readable_by_others() -> None:
    with Image.open(io.BytesIO(photo(1, heading=12.0))) as image:
        assert image.getexif().get_ifd(0x8825)[17] == 12.0
