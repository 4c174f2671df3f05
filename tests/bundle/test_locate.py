"""The command `locate`, as a person runs it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tinybundle import NEVER, tiny_params, town_views, write_tiny
from tinytown import Town

from streetrecall import cli
from streetrecall.params.schema import Params
from streetrecall.serve.locate import _printable


@pytest.fixture
def files(photos: pd.DataFrame, tmp_path: Path) -> list[Path]:
    """The first two photos of the town, which are of one spot; the second says where it was taken."""
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    paths[0].write_bytes(photos["jpeg"].iloc[0])
    exif = Image.Exif()
    place = exif.get_ifd(0x8825)
    place |= {1: "N", 2: (59.0, 19.0, 12.0), 3: "E", 4: (18.0, 3.0, 36.0)}
    with Image.open(io.BytesIO(photos["jpeg"].iloc[1])) as picture:
        picture.save(paths[1], quality=95, exif=exif)
    return paths


def ask(*arguments: object) -> int:
    return cli.main(["locate", *map(str, arguments)])


def test_a_person_reads_position_radius_and_five_places(
    tiny_bundle: Path, files: list[Path], photos: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(*files, "--bundle", tiny_bundle) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert said.err == ""
    assert lines[0] == str(files[0])
    assert "59.32" in lines[1] and "within" in lines[1] and "90%" in lines[1]
    assert lines[3].split()[0] == str(photos["spot"].iloc[0])
    assert len([line for line in lines if line.endswith(" m")]) == 10
    assert "the photo " + str(files[1]) + " itself says 59.320000, 18.060000" in said.out
    assert "the tiny town (CC0-1.0)" in said.out


def test_json_is_one_object_for_each_photo(
    tiny_bundle: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(*files, "--bundle", tiny_bundle, "--json") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["photos"] for answer in answers] == [[str(path)] for path in files]
    for answer in answers:
        assert set(answer["position"]) == {"lat", "lon"}
        assert len(answer["neighbours"]) == 5
        assert answer["coverage"] == 0.9
    assert answers[0]["said"] == []
    assert answers[1]["said"][0]["distance_m"] >= 0


def test_geojson_has_the_answer_and_its_neighbours(
    tiny_bundle: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(*files, "--bundle", tiny_bundle, "--geojson", "--together") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["type"] == "FeatureCollection"
    roles = [feature["properties"]["role"] for feature in found["features"]]
    assert roles == ["answer", *["neighbour"] * 5]
    longitude, latitude = found["features"][0]["geometry"]["coordinates"]
    assert 59.3 < latitude < 59.4 and 18.0 < longitude < 18.1


def test_a_bad_photo_is_named_and_the_others_are_answered(
    tiny_bundle: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("not a photo")
    bad = [tmp_path / "notes.txt", tmp_path, tmp_path / "missing.jpg"]
    assert ask(bad[0], files[0], *bad[1:], "--bundle", tiny_bundle, "--json") == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["photos"] == [str(files[0])]
    assert all(any(line.startswith(f"streetrecall locate: {b}: ") for line in said.err.splitlines()) for b in bad)
    assert ask(*bad, "--bundle", tiny_bundle, "--together") == 2


def test_a_withheld_answer_shows_no_position(
    town: Town, files: list[Path], params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny(
        tmp_path / "b", town_views(town.views), town.views, tiny_params(params, places=0), threshold=NEVER
    )
    assert ask(*files, "--bundle", folder) == 3
    text = capsys.readouterr().out
    assert "withheld: the confidence, by the score of the best place" in text
    assert " within " not in text
    assert ask(*files, "--bundle", folder, "--json") == 3
    for line in capsys.readouterr().out.splitlines():
        answer = json.loads(line)
        assert answer["position"] is None and answer["radius_m"] is None and answer["reason"]
        assert not any("distance_m" in item for item in (*answer["neighbours"], *answer["said"]))
    assert ask(files[0], "--bundle", folder, "--geojson") == 3
    assert json.loads(capsys.readouterr().out)["features"][0]["geometry"] is None


def test_why_draws_each_answer(tiny_bundle: Path, files: list[Path], tmp_path: Path) -> None:
    assert ask(*files, "--bundle", tiny_bundle, "--why", tmp_path / "why.png") == 0
    for name in ("why-1.png", "why-2.png"):
        with Image.open(tmp_path / name) as drawn:
            assert drawn.width > 800 and drawn.height > 400
    assert ask(*files, "--bundle", tiny_bundle, "--why", tmp_path / "one.png", "--together") == 0
    assert (tmp_path / "one.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--why", "why.txt"], "must end in .png"),
        (["--threads", "0"], "give 1 or more"),
        (["--why", "/nowhere/at/all/why.png"], "choose another"),
        (["--bundle", "/nowhere"], "dvc pull models/bundle"),
    ],
)
def test_a_bad_option_is_one_message(
    tiny_bundle: Path, files: list[Path], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments if "--bundle" in arguments else ["--bundle", str(tiny_bundle), *arguments]
    if message == "choose another":
        given = [*given[:-1], str(files[0] / "why.png")]  # below a file
    assert ask(files[0], *given) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


@settings(deadline=None)
@given(st.text())
def test_a_name_cannot_change_the_terminal(name: str) -> None:
    assert _printable(name).isprintable()
