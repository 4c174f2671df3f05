"""Answers from a bundle of the tiny town."""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tinybundle import LAT, LON, NEVER, described, tiny_file, tiny_params, town_views, write_tiny
from tinytown import Town

from streetrecall.bundle import layout
from streetrecall.bundle.answer import Bundle
from streetrecall.errors import UserError
from streetrecall.geo import distance_m, project, unproject
from streetrecall.params.schema import Params
from streetrecall.pictures.photo import NotAPhotoError, prepare
from streetrecall.retrieval import photos as answering
from streetrecall.retrieval.photo_descriptors import describe_photo
from streetrecall.scoring.spots import margins


def test_most_photos_are_found_and_their_answer_is_at_the_place(tiny_bundle: Path, photos: pd.DataFrame) -> None:
    answers = Bundle(tiny_bundle).answer(photos["jpeg"].tolist())
    right = [a.neighbours[0].place == spot for a, spot in zip(answers, photos["spot"], strict=True)]
    assert np.mean(right) >= 0.6
    for answer, spot in zip(answers, photos["spot"], strict=True):
        assert len(answer.neighbours) == 5 == len({n.place for n in answer.neighbours})
        assert answer.radius_m is not None and answer.radius_m >= 10
        assert not answer.withheld and answer.reason == ""
        scores = [n.score for n in answer.neighbours]
        assert scores == sorted(scores, reverse=True)
        for n in answer.neighbours:
            apart = float(distance_m(n.lat, n.lon, answer.lat, answer.lon))
            assert n.distance_m == pytest.approx(apart, rel=2e-3, abs=0.1)
            assert (n.licence, n.attribution, n.has_thumbnail) == ("CC0-1.0", "the tiny town", True)
        east, north = project([LAT], [LON], "EPSG:3006")
        place = answer.neighbours[0].place
        lat, lon = unproject(east + 40.0 * place, north, "EPSG:3006")
        assert float(distance_m(answer.neighbours[0].lat, answer.neighbours[0].lon, lat[0], lon[0])) < 0.02
        assert spot in photos["spot"].to_numpy()


def test_several_photos_of_a_spot_have_one_answer(tiny_bundle: Path, photos: pd.DataFrame) -> None:
    bundle = Bundle(tiny_bundle)
    spot = int(photos["spot"].iloc[0])
    jpegs = photos.loc[photos["spot"] == spot, "jpeg"].tolist()
    (answer,) = bundle.answer(jpegs, together=True)
    assert answer.neighbours[0].place == spot
    assert len(answer.photos) == 2
    assert bundle.answer([], together=True) == []


@pytest.mark.parametrize("compare", [True, False])
def test_scores_are_those_of_the_evaluation(
    tiny_bundle: Path, town: Town, photos: pd.DataFrame, params: Params, tmp_path: Path, compare: bool
) -> None:
    """The same photos, asked by the functions of the stage evaluate."""
    views = town_views(town.views)
    network = tiny_file(tmp_path)
    gallery = answering.gallery_of(views, described(views, town.views, network).astype(np.float16).astype(np.float32))
    settings = tiny_params(params, **({} if compare else {"places": 0})).evaluate.photos
    asked = answering.Photos(photos.drop(columns="jpeg"), described(photos, town.photos, network))
    found = answering.answer_photos(asked, gallery, (town.photos, town.views), settings)["photos"]
    bundle = Bundle(tiny_bundle)
    for row, (jpeg, month) in enumerate(zip(photos["jpeg"], photos["month"], strict=True)):
        seen = bundle.see(jpeg)
        answer = bundle.answer_seen([seen], compare, month)
        order = np.argsort(-found.scores[row], kind="stable")[:5]
        assert [n.place for n in answer.neighbours] == gallery.places[order].tolist()
        margin = margins(found.scores[[row]], order[:1], gallery.xy, params.evaluate.position.agree_m)[0]
        expected = found.scores[row, order[0]] + params.evaluate.photos.margin_weight * margin
        assert answer.confidence == pytest.approx(expected, abs=4e-6)
        if compare:
            assert [n.inliers for n in answer.neighbours] == found.inliers[row, order].tolist()


def test_a_large_gallery_gives_the_same_answers(
    tiny_bundle: Path, photos: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond some thousands of places only those are scored whose views the index finds, and their neighbours."""
    whole = Bundle(tiny_bundle).answer(photos["jpeg"].tolist())
    monkeypatch.setattr("streetrecall.bundle.answer.DENSE_PLACES", 3)
    monkeypatch.setattr("streetrecall.bundle.answer.CANDIDATES", 40)
    part = Bundle(tiny_bundle).answer(photos["jpeg"].tolist())
    for a, b in zip(whole, part, strict=True):
        assert a.neighbours[0] == b.neighbours[0]
        assert (a.lat, a.lon) == pytest.approx((b.lat, b.lon), abs=1e-6)


def test_an_answer_below_the_threshold_is_withheld_with_a_reason(
    town: Town, photos: pd.DataFrame, params: Params, tmp_path: Path
) -> None:
    views = town_views(town.views)
    folder = write_tiny(tmp_path / "b", views, town.views, tiny_params(params, places=0), threshold=NEVER)
    (answer,) = Bundle(folder).answer([photos["jpeg"].iloc[0]])
    assert answer.withheld
    assert "99.000" in answer.reason
    assert len(answer.neighbours) == 5
    assert answer.neighbours[0].inliers is None


def test_single_pictures_answer_where_there_are_no_views(
    town: Town, photos: pd.DataFrame, params: Params, tmp_path: Path
) -> None:
    """As in the archive: each picture by itself, no points, no picture that may be shown."""
    views = town_views(town.views).rename(columns={"view_id": "image_id"})
    secret = tmp_path / "shards"
    shutil.copytree(town.views / "shared", secret / "local")
    views["shard"] = views["shard"].str.replace("shared/", "local/")
    folder = write_tiny(tmp_path / "b", views, secret, params, layout.PICTURES, threshold=0.5)
    bundle = Bundle(folder)
    assert not bundle.compares
    answers = bundle.answer(photos["jpeg"].tolist())
    assert np.mean([a.neighbours[0].place == s for a, s in zip(answers, photos["spot"], strict=True)]) >= 0.6
    for answer in answers:
        assert answer.withheld == (answer.confidence < 0.5)
        assert ("disagree" in answer.reason) == answer.withheld
        assert not any(n.has_thumbnail for n in answer.neighbours)
        assert bundle.gallery.thumbnail(answer.neighbours[0].row) is None
    assert (folder / layout.THUMBNAILS).stat().st_size == 0
    card = (folder / layout.CARD).read_text(encoding="utf-8")
    assert "do not let them be passed on" in card
    assert "A model of the city of provider simulated" in card
    assert "It was trained on simulated pictures" in card
    assert "embedder (resnet50, 192 numbers" in card  # of the network, not of params.yaml


def test_a_network_that_takes_squares_sees_all_of_a_photo(
    photos: pd.DataFrame, town: Town, params: Params, tmp_path: Path
) -> None:
    views = town_views(town.views).rename(columns={"view_id": "image_id"})
    folder = write_tiny(tmp_path / "b", views, town.views, params, layout.PICTURES)
    manifest = json.loads((folder / layout.MANIFEST).read_text(encoding="utf-8"))
    manifest["sizes"] = [[h, w] for h, w in manifest["sizes"] if h == w]
    (folder / layout.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    bundle = Bundle(folder)
    wide = np.random.default_rng(3).integers(0, 256, (90, 160, 3), np.uint8)
    for picture in (wide, np.ascontiguousarray(wide.transpose(1, 0, 2))):
        ends = picture.copy()
        ends[(slice(0, 30), slice(None)) if picture is not wide else (slice(None), slice(0, 30))] = 255
        seen, other = (describe_photo(bundle.embedder, one) for one in (picture, ends))
        assert np.isclose(np.linalg.norm(seen), 1, atol=1e-5)
        assert float(seen @ other) < 0.99  # the middle of both is the same
    square = wide[:, :90]
    (whole,) = prepare(square, bundle.embedder.sizes)
    assert np.array_equal(describe_photo(bundle.embedder, square), bundle.embedder.describe(whole))
    assert bundle.answer(photos["jpeg"].tolist()[:2])[0].neighbours


def test_the_same_inputs_give_the_same_bytes(tiny_bundle: Path, town: Town, params: Params, tmp_path: Path) -> None:
    again = write_tiny(tmp_path / "again", town_views(town.views), town.views, tiny_params(params))
    names = sorted(p.relative_to(again).as_posix() for p in again.rglob("*") if p.is_file())
    assert filecmp.cmpfiles(tiny_bundle, again, names, shallow=False)[0] == names
    manifest = json.loads((again / layout.MANIFEST).read_text(encoding="utf-8"))
    assert set(manifest["files"]) | {layout.MANIFEST} == set(names)
    assert all((again / name).stat().st_size == file["bytes"] for name, file in manifest["files"].items())


@pytest.mark.parametrize("name", [layout.MANIFEST, layout.EMBEDDER, layout.GALLERY, layout.DESCRIPTORS, layout.PLACES])
@pytest.mark.parametrize("damage", ["missing", "empty", "noise", "half"])
def test_a_damaged_bundle_is_an_error_that_names_the_file(
    tiny_bundle: Path, photos: pd.DataFrame, tmp_path: Path, name: str, damage: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    path = folder / name
    data = path.read_bytes()
    changed = {"missing": None, "empty": b"", "noise": bytes(range(256)) * 9, "half": data[: len(data) // 2]}[damage]
    if changed is None:
        path.unlink()
    else:
        path.write_bytes(changed)
    with pytest.raises(UserError, match=str(folder)):
        Bundle(folder).answer([photos["jpeg"].iloc[0]])


def test_points_that_agree_lie_in_both_pictures(tiny_bundle: Path, photos: pd.DataFrame) -> None:
    bundle = Bundle(tiny_bundle)
    seen = bundle.see(photos["jpeg"].iloc[0])
    a, b = bundle.matches(seen.photo.pixels, 0)
    assert a.shape == b.shape
    assert ((a >= 0) & (a <= 1)).all()
    assert ((b >= 0) & (b <= 1)).all()


def test_a_bad_photo_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAPhotoError) as error:
        Bundle(tiny_bundle).answer([tmp_path / "none.jpg"])
    assert error.value.name == str(tmp_path / "none.jpg")


def test_no_bundle_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc pull models/bundle"):
        Bundle(tmp_path)


def test_answering_imports_nothing_slow(tiny_bundle: Path, photos: pd.DataFrame, tmp_path: Path) -> None:
    """TensorFlow takes five seconds to import, pandas and SciPy most of one."""
    (tmp_path / "photo.jpg").write_bytes(photos["jpeg"].iloc[0])
    code = (
        "import sys\nfrom streetrecall.bundle.answer import Bundle\n"
        f"answer = Bundle({str(tiny_bundle)!r}).answer([{str(tmp_path / 'photo.jpg')!r}])[0]\n"
        "slow = {'tensorflow', 'pandas', 'scipy', 'pyarrow', 'pydantic', 'pyproj', 'dvc'} & set(sys.modules)\n"
        "print(len(answer.neighbours), sorted(slow))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "5 []"
    assert done.stderr == ""
