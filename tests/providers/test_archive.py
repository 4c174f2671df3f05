"""The original layout with its oddities, generated; and the real collection where there is one."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tinyarchive import FOLDERS, TinyArchive, of_archive, picture

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers import open_provider
from streetrecall.providers.archive import GAPS, IMAGES, LEVELS, Archive, parse_name
from streetrecall.providers.archive_tables import read_places
from streetrecall.stages import grid, order

TAKEN = "2024-01-06 19:02:10.773088"


@pytest.fixture
def tiny(tmp_path: Path) -> TinyArchive:
    return TinyArchive(tmp_path / "archive")


def points(*at: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame({"point_id": range(len(at)), "lat": [a for a, _ in at], "lon": [b for _, b in at]})


def test_coverage_by_the_recorded_point(tiny: TinyArchive) -> None:
    grid_points = points((59.329, 18.069), (59.322, 18.062), *tiny.points[::-1])
    answers = {a.point_id: a for a in Archive(tiny.root).coverage(grid_points, 50.0)}
    assert sorted(answers) == [0, 2, 3, 4, 5]  # point 1 was never asked
    assert (answers[0].status, answers[0].panorama) == ("NO_RESPONSE", None)
    found = answers[5].panorama
    assert found is not None
    assert (found.pano_id, found.lat, found.lon) == ("pano-0", 59.3210 + 1e-4, 18.0610)
    assert (found.month, found.licence, found.attribution) == ("2023-03", "none stated", "© Somebody")


def test_coverage_of_another_grid(tiny: TinyArchive, caplog: pytest.LogCaptureFixture) -> None:
    assert len(list(Archive(tiny.root).coverage(points(tiny.points[0]), 50.0))) == 1
    assert "4 of 5 records lie on no point" in caplog.text
    with pytest.raises(UserError, match="none of its 5 records"):
        list(Archive(tiny.root).coverage(points((59.3, 18.0)), 50.0))


def test_requests_know_everything_of_a_picture(tiny: TinyArchive) -> None:
    tiny.add(f"1_2_3_September 2017_{TAKEN}.jpg", folder=FOLDERS[1])
    tiny.add(f"2_0_0_March 2023_{TAKEN}.jpg", folder=FOLDERS[2])
    first, second = Archive(tiny.root).plan(tiny.locations())
    assert (first.place, first.direction, first.date_index, first.split, first.subset) == (1, 2, 3, "test", "test_v1")
    assert math.isnan(first.heading_deg)
    assert first.panorama.pano_id == "pano-1-2017-09-3"
    assert (first.panorama.month, first.panorama.attribution) == ("2017-09", "© Somebody")
    assert first.source == f"{FOLDERS[1]}/000/1_2_3_September 2017_{TAKEN}.jpg"
    assert second.subset == "test_v2"


def test_place_numbers_lead_through_the_panorama_to_the_place(tiny: TinyArchive) -> None:
    tiny.add(f"2_0_0_March 2023_{TAKEN}.jpg", folder=FOLDERS[2])
    moved = tiny.locations().iloc[::-1].assign(place=range(4), split="train")
    (request,) = Archive(tiny.root).plan(moved)
    assert (request.place, request.split, request.subset) == (1, "train", "train_v2")


def test_oddities_are_reported_and_the_rest_goes_through(tiny: TinyArchive) -> None:
    good = [f"0_{direction}_0_March 2023_{TAKEN}.jpg" for direction in range(3)]  # interrupted before the fourth turn
    for name in good:
        tiny.add(name)
    tiny.add(f"0_0_1_July 2009_{TAKEN}.JPG", below="001")
    tiny.add("0_0_2_May 2008_2024-01-06 19_02_10.jpg")  # unpacked where a name can't hold a colon; a whole second
    for droppings in (".DS_Store", "Thumbs.db", "._" + good[0]):
        tiny.add(droppings, b"junk")
    tiny.add("notes.txt", b"hello")
    tiny.add(f"0_4_0_March 2023_{TAKEN}.jpg")
    tiny.add(f"0_1_0_Mars 2023_{TAKEN}.jpg")
    tiny.add(f"77_1_0_March 2023_{TAKEN}.jpg")
    (tiny.root / IMAGES / "elsewhere").mkdir()
    provider = Archive(tiny.root)
    locations = tiny.locations()
    requests = list(provider.plan(locations))
    assert [(r.place, r.direction, r.date_index, r.panorama.month) for r in requests] == [
        (0, 0, 0, "2023-03"),
        (0, 0, 1, "2009-07"),
        (0, 0, 2, "2008-05"),
        (0, 1, 0, "2023-03"),
        (0, 2, 0, "2023-03"),
    ]
    reported = {Path(source).name: reason for source, reason in provider.unplanned}
    bad = [f"0_4_0_March 2023_{TAKEN}.jpg", f"0_1_0_Mars 2023_{TAKEN}.jpg", f"77_1_0_March 2023_{TAKEN}.jpg"]
    assert sorted(reported) == sorted([*bad, "elsewhere", "notes.txt"])
    assert "place 77 is in no file" in reported[f"77_1_0_March 2023_{TAKEN}.jpg"]
    list(provider.plan(locations.iloc[1:]))
    assert "not one of the locations" in dict(provider.unplanned)[f"{FOLDERS[0]}/000/{good[0]}"]


def test_the_latest_of_repeats_counts(tiny: TinyArchive) -> None:
    late = tiny.add("0_0_0_March 2023_2024-01-06 19:02:10.5.jpg", below="000")
    tiny.add("0_0_0_March 2023_2024-01-06 19:02:10.jpg", below="001")
    tiny.add("0_0_0_March 2023_2023-12-31 23:00:00.1.jpg", below="002")
    provider = Archive(tiny.root)
    (request,) = provider.plan(tiny.locations())
    assert request.source.endswith(late.name)
    assert [reason.split(";")[0] for _, reason in provider.unplanned] == ["repeat", "repeat"]


def test_a_published_crop_goes_before_its_raw_frame(tiny: TinyArchive) -> None:
    tiny.add(f"0_0_0_March 2023_{TAKEN}.png", folder="Training_v1_buffer_100")
    tiny.add(f"0_0_0_March 2023_{TAKEN}.jpg")
    tiny.add(f"0_1_0_March 2023_{TAKEN}.png", folder="Training_v1_buffer_100")
    requests = list(Archive(tiny.root).plan(tiny.locations()))
    assert [r.source.split("/")[0] for r in requests] == [FOLDERS[0], "Training_v1_buffer_100"]


def test_capture_reads_and_a_bad_file_fails_alone(tiny: TinyArchive) -> None:
    data = picture(1)
    tiny.add(f"0_0_0_March 2023_{TAKEN}.jpg", data)
    tiny.add(f"0_1_0_March 2023_{TAKEN}.jpg", b"")
    gone = tiny.add(f"0_2_0_March 2023_{TAKEN}.jpg")
    tiny.add(f"0_3_0_March 2023_{TAKEN}.jpg", data)
    provider = Archive(tiny.root)
    requests = list(provider.plan(tiny.locations()))
    gone.unlink()
    taken = list(provider.capture(requests))
    assert [c.status for c in taken] == ["ok", "failed", "failed", "ok"]
    assert [c.data for c in taken] == [data, b"", b"", data]
    assert taken[1].reason == "empty file"
    assert taken[2].reason.startswith("unreadable: No such file")


def test_linked_folders_are_followed(tiny: TinyArchive, tmp_path: Path) -> None:
    path = tiny.add(f"0_0_0_March 2023_{TAKEN}.jpg")
    moved = tmp_path / "disk"
    path.parent.rename(moved)
    path.parent.symlink_to(moved)
    (tmp_path / "linked").symlink_to(tiny.root)
    assert len(list(Archive(tmp_path / "linked").plan(tiny.locations()))) == 1
    assert Archive(tmp_path / "linked").namespace == Archive(tiny.root).namespace


def test_bad_folders_say_what_is_expected(tiny: TinyArchive, tmp_path: Path, params: Params) -> None:
    (tmp_path / "empty").mkdir()
    for name, problem in (("nowhere", "no such folder"), ("empty", "none of these")):
        with pytest.raises(UserError, match=rf"{problem}.*Cropped_\*"):
            open_provider(of_archive(params, tmp_path / name))
    with pytest.raises(UserError, match="no folder of pictures"):
        list(Archive(tiny.root).plan(tiny.locations()))
    for path in (tiny.root / LEVELS).iterdir():
        path.unlink()
    with pytest.raises(UserError, match="holds no new_order_buffer"):
        list(Archive(tiny.root).coverage(points(tiny.points[0]), 50.0))


def test_bad_tables_name_file_and_line(tiny: TinyArchive) -> None:
    path = tiny.root / LEVELS / "new_order_buffer_75.csv"
    whole = path.read_text()
    for text, complaint in (
        (whole.replace("PanoID", "Pano"), "PanoID"),
        (whole.replace("pano-1", ""), "line 2 lacks"),
        (whole.replace("59.323, 18.063", "somewhere"), "line 2: Location 'somewhere'"),
        (whole.replace("pano-1", "pano-0"), "PanoID pano-0 occurs twice"),
        (whole.replace("59.3231", "north"), "line 2: Latitude 'north"),
        ("", "not a readable table"),
    ):
        assert text != whole
        path.write_text(text)
        with pytest.raises(UserError, match=complaint):
            list(Archive(tiny.root).coverage(points(tiny.points[0]), 50.0))


# What is replaced in a table of one row, by what, and the message. A new case is a new line.
BAD_VALUES = {
    "no copyright": ("© Somebody", "", "line 2: Copyright '' is not the name of the pictures' owner"),
    "a blank copyright": ("© Somebody", "  ", "line 2: Copyright '' is not"),
    "a month of one digit": ("2023-03", "2021-5", "line 2: Date '2021-5' is not a month as YYYY-MM"),
    "a month as a spreadsheet writes it": ("2023-03", "Mar-23", "line 2: Date 'Mar-23'"),
    "a day": ("2023-03", "2023-03-01", "line 2: Date '2023-03-01'"),
    "month 13": ("2023-03", "2023-13", "line 2: Date '2023-13'"),
    "a date with an escape": ("2023-03", "\x1b[2J", r"line 2: Date '\\x1b\[2J'"),
    "a longitude beyond 180 degrees": (",18.063,", ",180.63,", "line 2: Longitude '180.63'"),
    "an infinite latitude": ("59.323100000000004", "inf", "line 2: Latitude 'inf'"),
    "a latitude with a comma": ("59.323100000000004", '"59,32"', "line 2: Latitude '59,32' is not a number between"),
    "a copyright with an escape": ("© Somebody", "\x1b[2J", r"line 2: Copyright '\\x1b\[2J' is not the name"),
    "a date that is not there": ("2023-03", "NA", "line 2: Date 'NA' is not a month as YYYY-MM"),
    "no latitude": ("59.323100000000004", "", "line 2 lacks one of"),
    "a place with a fraction": ("\n1,", "\n1.5,", "line 2: new_order_idx '1.5' is not a whole number"),
    "a negative place": ("\n1,", "\n-1,", "line 2: new_order_idx '-1'"),
    "a blank panorama": ("pano-1", " ", "line 2 lacks one of"),
    "a panorama with an escape": ("pano-1", "pano\x1b", r"line 2: PanoID 'pano\\x1b' is not"),
    "a location of one number": ("59.323, 18.063", "59.323", "line 2: Location '59.323' is not 'latitude, longitude'"),
    "blank lines before": ("\n1,1,1,", "\n\n\n1,x,1,", ""),
    "a bad line after blank ones": ("\n1,", "\n\n\n-1,", "line 4: new_order_idx"),
    "a column too many": ("pano-1", "pano-1,", ""),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_values_that_are_not_allowed_name_file_and_line(case: str, tiny: TinyArchive) -> None:
    before, after, complaint = BAD_VALUES[case]
    path = tiny.root / LEVELS / "new_order_buffer_75.csv"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    if not complaint:
        assert len(list(Archive(tiny.root).coverage(points(tiny.points[1]), 50.0))) == 1
        return
    with pytest.raises(UserError, match=complaint) as refusal:
        list(Archive(tiny.root).coverage(points(tiny.points[0]), 50.0))
    assert str(refusal.value).startswith(f"{path}: line ")


@pytest.mark.parametrize("name", ["NA", "null", "None", "nan"])
def test_words_that_pandas_takes_for_nothing_are_texts(name: str, tiny: TinyArchive) -> None:
    path = tiny.root / LEVELS / "new_order_buffer_75.csv"
    path.write_text(path.read_text().replace("pano-1", name).replace("© Somebody", name))
    places = read_places(tiny.root)
    assert name in set(places["PanoID"])
    assert name in set(places["Copyright"])


def test_a_line_is_counted_as_an_editor_does(tiny: TinyArchive) -> None:
    path = tiny.root / LEVELS / "new_order_buffer_75.csv"
    header, row = path.read_text().splitlines()
    first = row.replace("© Somebody", '"two\nlines"').replace("1,1,1,", "7,7,7,").replace("pano-1", "pano-7")
    path.write_bytes(f"\ufeff{header}\r\n{first}\r\n\r\n{row.replace('2023-03', '2023')}\r\n".encode())
    with pytest.raises(UserError, match="line 5: Date '2023'"):
        list(Archive(tiny.root).coverage(points(tiny.points[0]), 50.0))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("which", [LEVELS / "new_order_buffer_75.csv", GAPS])
@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (os.mkfifo, "a pipe, not a file"),
        (Path.mkdir, "a folder, not a file"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (lambda path: path.symlink_to(path.name), "in a circle"),
        (lambda path: path.write_bytes("Location,©".encode("utf-16")), "line 1 is not encoded in UTF-8"),
    ],
    ids=["pipe", "folder", "dangling", "circle", "utf-16"],
)
def test_a_table_that_is_no_file_is_named(
    which: Path, make: Callable[[Path], object], complaint: str, tiny: TinyArchive
) -> None:
    (tiny.root / which).unlink()
    make(tiny.root / which)
    with pytest.raises(UserError, match=complaint) as refusal:
        list(Archive(tiny.root).coverage(points(tiny.points[0]), 50.0))
    assert str(tiny.root / which) in str(refusal.value)


def test_a_relative_path_that_leads_nowhere(params: Params) -> None:
    with pytest.raises(UserError, match="need an absolute path"):
        open_provider(of_archive(params, Path("nowhere")))


def test_a_collection_without_gaps(tiny: TinyArchive, caplog: pytest.LogCaptureFixture) -> None:
    (tiny.root / GAPS).unlink()
    assert {a.status for a in Archive(tiny.root).coverage(points(*tiny.points), 50.0)} == {"OK"}
    assert "never asked" in caplog.text


@pytest.mark.parametrize("name", ["", "1_2.jpg", f"1_2_3_Sept 2017_{TAKEN}.jpg", f"1_2_3_May 2017_{TAKEN}.gif"])
def test_names_that_say_too_little(name: str) -> None:
    assert parse_name(f"Cropped_Test_v1_buffer_75/000/{name}", "v1") is None


@pytest.mark.archive
def test_the_real_collection(archive: Path, params: Params, tmp_path: Path) -> None:
    real = of_archive(params, archive)
    grid.run(real, Path("none"), tmp_path / "g.parquet", tmp_path / "g.png", tmp_path / "g.json")
    provider = open_provider(real)
    answers = list(provider.coverage(tables.read(tables.GRID, tmp_path / "g.parquet"), 50.0))
    assert Counter(a.status for a in answers) == {"NO_RESPONSE": 15_485, "OK": 6_562}
    assert len({a.point_id for a in answers}) == 22_047
    found = [a.panorama for a in answers if a.panorama]
    places = order.order(
        pd.DataFrame({k: [getattr(p, k) for p in found] for k in ("pano_id", "lat", "lon", "month")}).assign(
            beyond=False
        ),
        params,
    )
    requests = list(provider.plan(places))
    files = [p for p in (archive / IMAGES).rglob("*.jpg") if not p.name.startswith(".")]
    assert len(requests) + len(provider.unplanned) == len(files)
    assert {reason.split(";")[0] for _, reason in provider.unplanned} <= {"repeat"}
    kinds = {"Training": "train", "Test": "test", "Validation": "validation"}
    assert all(kinds[r.source.split("_")[1]] == r.split for r in requests)
    assert all(int(r.source.rsplit("/", 1)[1].split("_")[0]) == r.place for r in requests)
    assert len({(r.panorama.pano_id, r.direction) for r in requests}) == len(requests)
