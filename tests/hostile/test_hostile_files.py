"""Each hostile file of the table is named with the reason, or ignored; the other pictures of the collection go on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from file_table import FILES, NAME
from picture_table import JPEG, REFUSED, WHOLE
from tinyarchive import FOLDERS, TinyArchive, of_archive

from streetrecall import tables
from streetrecall.cli import main as cli
from streetrecall.errors import UserError
from streetrecall.expectations.common.pictures import read
from streetrecall.params.schema import Params
from streetrecall.providers import folders
from streetrecall.providers.archive import IMAGES, LEVELS, Archive
from streetrecall.stages import crop, scrape

ROOT = Path(__file__).parents[2]
GOOD = NAME.replace("0_1_0", "0_0_0")
pytestmark = pytest.mark.timeout(120)


def scraped(params: Params, tiny: TinyArchive, out: Path) -> tuple[pd.DataFrame, dict]:
    """The table and the metrics that the stage scrape makes of a collection."""
    tables.write(tables.LOCATIONS, tiny.locations(), out / "locations.parquet")
    scrape.run(of_archive(params, tiny.root), out / "locations.parquet", out / "captures", out / "metrics.json")
    return tables.read(tables.CAPTURES, out / "captures/captures.parquet"), json.loads(
        (out / "metrics.json").read_text()
    )


@pytest.mark.parametrize("case", FILES)
def test_one_bad_file_is_named_and_stops_nobody(
    case: str, params: Params, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, make, becomes, reason, shown = FILES[case]
    tiny = TinyArchive(tmp_path / "archive")
    good = tiny.add(GOOD)
    make(Path(os.fsdecode(os.fsencode(good.parent) + b"/" + os.fsencode(name))))
    table, metrics = scraped(params, tiny, tmp_path)
    by_source = {Path(row.source).name: row for row in table.itertuples()}
    assert by_source.pop(good.name).status == "ok"
    left_out = metrics["left_out"]
    assert sum(metrics["left_out_by_reason"].values()) == len(left_out)
    if becomes == "left_out":
        (named,) = [entry for entry in left_out if entry["source"].endswith(shown or os.fsdecode(name))]
        assert f"left out: {named['source']}: " in caplog.text
        said = named["reason"]
        assert not by_source
    else:
        assert left_out == []
        assert sorted(by_source) == ([os.fsdecode(name)] if becomes else [])
        said = by_source[os.fsdecode(name)].reason if becomes else ""
        assert {row.status for row in by_source.values()} == ({becomes} if becomes else set())
    assert pd.Series([said]).str.contains(reason).all(), said
    assert all(text.isprintable() for entry in left_out for text in entry.values())


def test_a_file_that_this_user_may_not_read(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = TinyArchive(tmp_path / "archive")
    tiny.add(GOOD)
    tiny.add(NAME)
    tiny.add(NAME, below="001")
    real_open, real_scandir = os.open, os.scandir

    def no_open(path: str | Path, *more: int) -> int:
        if str(path).endswith(NAME):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *more)

    def no_scandir(path: Path) -> object:
        if path.name == "001":
            raise PermissionError(13, "Permission denied", str(path))
        return real_scandir(path)

    monkeypatch.setattr(folders.os, "open", no_open)
    monkeypatch.setattr(folders.os, "scandir", no_scandir)
    table, metrics = scraped(params, tiny, tmp_path)
    assert dict(zip(table["direction"], table["reason"], strict=True)) == {0: "", 1: "unreadable: Permission denied"}
    assert metrics["left_out"] == [{"source": f"{FOLDERS[0]}/001", "reason": "unreadable: Permission denied"}]


def test_a_file_that_becomes_a_pipe_while_the_stage_runs(tmp_path: Path) -> None:
    tiny = TinyArchive(tmp_path / "archive")
    path = tiny.add(GOOD)
    provider = Archive(tiny.root)
    requests = list(provider.plan(tiny.locations()))
    path.unlink()
    os.mkfifo(path)
    assert [(c.status, c.reason) for c in provider.capture(requests)] == [("failed", "a pipe, not a file")]


def test_of_repeats_one_that_can_be_read_is_used(tmp_path: Path) -> None:
    tiny = TinyArchive(tmp_path / "archive")
    tiny.add(GOOD)
    later = tiny.add(GOOD.replace("2024", "2025"))
    later.unlink()
    later.symlink_to("nowhere")
    provider = Archive(tiny.root)
    (request,) = provider.plan(tiny.locations())
    assert request.source.endswith(GOOD)
    assert provider.unplanned == [(later.relative_to(tiny.root / IMAGES).as_posix(), "a link to nothing")]


@pytest.mark.parametrize("where", ["the collection", "its pictures", "its tables"])
def test_links_to_parts_of_the_collection(where: str, params: Params, tmp_path: Path) -> None:
    tiny = TinyArchive(tmp_path / "archive")
    tiny.add(GOOD)
    part = {"the collection": tiny.root, "its pictures": tiny.root / IMAGES, "its tables": tiny.root / LEVELS}[where]
    part.rename(tmp_path / "moved")
    part.symlink_to(tmp_path / "moved")
    table, _ = scraped(params, tiny, tmp_path)
    assert table["status"].tolist() == ["ok"]


def test_a_folder_that_is_linked_is_read_under_its_own_path(tmp_path: Path) -> None:
    tiny = TinyArchive(tmp_path / "archive")
    path = tiny.add(GOOD, below="100")
    (path.parents[1] / "000").symlink_to("100")
    provider = Archive(tiny.root)
    (request,) = provider.plan(tiny.locations())
    assert request.source == f"{FOLDERS[0]}/100/{GOOD}"
    assert [source for source, _ in provider.unplanned] == [f"{FOLDERS[0]}/000"]


def test_many_links_to_each_other_are_read_once(tmp_path: Path) -> None:
    """Each of 30 folders has two links to the next one: there are a billion ways to the last."""
    tiny = TinyArchive(tmp_path / "archive")
    path = tiny.add(GOOD)
    for number in range(30):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        for name in "ab":
            (folder / name).symlink_to(tmp_path / f"folder{number + 1}" if number < 29 else tmp_path / "folder0")
    (path.parent / "deep").symlink_to(tmp_path / "folder0")
    assert len(list(Archive(tiny.root).plan(tiny.locations()))) == 1


@pytest.mark.parametrize("rename", [(".jpg", ".webp"), (" ", "_"), ("September", "Sep")], ids=["webp", "_", "Sep"])
def test_when_no_picture_is_used_the_reasons_are_counted(
    rename: tuple[str, str], params: Params, tmp_path: Path
) -> None:
    tiny = TinyArchive(tmp_path / "archive")
    for direction in range(4):
        tiny.add(GOOD.replace("March", "September").replace("0_0_0", f"0_{direction}_0").replace(*rename))
    tiny.add(GOOD.replace("0_0_0", "7_0_0"))
    with pytest.raises(UserError, match="has no picture of any of its places") as refusal:
        scraped(params, tiny, tmp_path)
    text = str(refusal.value)
    assert "It has 5 files that are not used" in text
    assert f"4 like {FOLDERS[0]}/000/0_0_0_" in text
    assert f"1 like {FOLDERS[0]}/000/7_0_0_" in text
    assert str(tmp_path / "metrics.json") in text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["planned"], len(metrics["left_out"])) == (0, 5)
    assert sorted(metrics["left_out_by_reason"].values()) == [1, 4]


@pytest.mark.slow
def test_all_pictures_of_the_table_in_one_collection(params: Params, tmp_path: Path) -> None:
    """From the files to the pictures of the network: what is good arrives, what is not is named."""
    tiny = TinyArchive(tmp_path / "archive")
    contents = {name: make() for name, make in WHOLE.items()} | {name: make() for name, (make, _) in REFUSED.items()}
    names = {}
    for number, (case, data) in enumerate(contents.items()):
        names[case] = tiny.add(GOOD.replace("0_0_0", f"0_{number % 4}_{number // 4}"), data).name
    table, metrics = scraped(params, tiny, tmp_path)
    assert metrics["left_out"] == []
    by_name = {Path(row.source).name: row for row in table.itertuples()}
    assert {case for case, name in names.items() if by_name[name].status == "ok"} == set(WHOLE)
    assert all(by_name[names[case]].reason for case in REFUSED)

    good = table[table["status"] == "ok"]
    seen = read(good, tmp_path / "captures")
    assert seen["read_error"].isna().all()
    for column in ("sha256", "width", "height", "format"):
        assert (seen[f"read_{column}"] == good[column]).all()

    crop.run(params, tmp_path / "captures", tmp_path / "locations.parquet", tmp_path / "crops", tmp_path / "crop.json")
    images = tables.read(tables.IMAGES, tmp_path / "crops/images.parquet")
    assert len(images) == len(WHOLE)
    assert not set(images["quarantine"]) & {"undecodable", "wrong_shape", "blank"}
    assert read(images, tmp_path / "crops")["read_error"].isna().all()


@pytest.mark.parametrize(
    "command",
    [
        "scrape --locations l --captures data/out --metrics m",
        "crop --captures c --locations l --crops data/out --metrics m",
        "train --crops c --views v --photos p --model data/out/model --metrics m --curves c --speed s",
        "index --crops c --views v --photos p --model m --index data/out/index --metrics m",
        "baseline --crops c --baseline data/out/baseline",
        "sift_vlad --crops c --views v --photos p --sift-vlad data/out/sift_vlad",
        "networks --crops c --views v --photos p --files n --networks data/out/networks",
    ],
    ids=lambda command: command.split()[0],
)
def test_outputs_that_are_linked_to_another_disk(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage says so before it opens its inputs, which do not exist here."""
    (tmp_path / "project/.git").mkdir(parents=True)
    (tmp_path / "project/data").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "project/data/out").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path / "project")
    assert cli([*command.split(), "--params", str(ROOT / "params.yaml")]) == 2
    assert f"data/out: a link to {tmp_path}/disk, outside of the project" in capsys.readouterr().err


def test_a_rotated_picture_is_turned(params: Params, tmp_path: Path) -> None:
    from picture_table import exif, with_segment

    tiny = TinyArchive(tmp_path / "archive")
    tiny.add(GOOD, with_segment(0xE1, exif(6), JPEG))
    scraped(params, tiny, tmp_path)
    crop.run(params, tmp_path / "captures", tmp_path / "locations.parquet", tmp_path / "crops", tmp_path / "crop.json")
    assert json.loads((tmp_path / "crop.json").read_text())["passed_unchanged"] == 0
