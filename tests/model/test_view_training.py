"""Training on views of any direction, as a process, and the description of views and photos by the stage index."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

pytest.importorskip("tensorflow")

from test_trainer import SMALL, contents, curve_of, run, write_params
from tinytown import Town

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.model import decoding, network
from streetrecall.model.collection import Source, ViewCollection, same_sight, trains_on_views
from streetrecall.model.recipes import for_views
from streetrecall.params.schema import Train, load
from streetrecall.pictures.photo import read_photo, resize
from streetrecall.pictures.shards import ShardReader

VIEWS = {
    "places": 4,
    "images": 3,
    "branches": SMALL["head"]["branches"][:1],
    "phases": [
        {"start": "lda", "trains_after": "head", "epochs": 2, "steps": 3, "learning_rate": 0.001, "patience": 3}
    ],
}


def params_of(folder: Path) -> Path:
    path = write_params(folder)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["train"]["views"] |= VIEWS
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def sources(town: Town) -> tuple[Source, Source]:
    views = tables.read(tables.VIEWS, town.views / "views.parquet")
    photos = tables.read(tables.PHOTOS, town.photos / "photos.parquet")
    return Source(town.views, views), Source(town.photos, photos)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Train:
    return for_views(load(params_of(tmp_path_factory.mktemp("params"))).train)


@pytest.fixture(scope="module")
def trained(tiny_crops: Path, tiny_town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("views")
    done = run("train", params_of(home), tiny_crops, home / "out", home / "store", tiny_town.views)
    assert done.returncode == 0, done.stderr
    return home


def test_views_are_trained_on_and_photos_choose_the_epoch(trained: Path) -> None:
    curve = curve_of(trained / "out")
    assert curve["epoch"].tolist() == [0, 1, 2]
    mean = (curve["validation_recall_photos_1"] + curve["validation_recall_photos_5"]) / 2
    assert np.allclose(curve["validation_recall"], mean, atol=1e-5)
    facts = json.loads((trained / "out/train.json").read_text(encoding="utf-8"))
    assert facts["training"]["images"] == 6 * 3 * 8
    assert facts["validation"]["queries"] == {"photos": 6}
    head = json.loads((trained / "out/embedder/config.json").read_text(encoding="utf-8"))["head"]
    assert [branch["pool"] for branch in head["branches"]] == ["vlad"]


def test_the_same_views_give_the_same_bytes(trained: Path, tiny_crops: Path, tiny_town: Town, tmp_path: Path) -> None:
    done = run("train", trained / "params.yaml", tiny_crops, tmp_path / "out", tmp_path / "store", tiny_town.views)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(trained / "out")


def test_the_index_describes_gallery_views_and_photos(
    trained: Path, tiny_crops: Path, tiny_town: Town, tmp_path: Path
) -> None:
    shutil.copytree(trained / "out", tmp_path / "out")
    done = run("index", trained / "params.yaml", tiny_crops, tmp_path / "out", tmp_path / "store", tiny_town.views)
    assert done.returncode == 0, done.stderr
    index = tmp_path / "out/index"
    views, photos = np.load(index / "views.npy"), np.load(index / "photos.npy")
    rows = tables.read(tables.VIEWS, index / "views.parquet")
    asked = tables.read(tables.PHOTOS, index / "photos.parquet")
    assert len(views) == len(rows) == 12 * 2 * 12
    assert set(rows["use"]) == {"gallery"}
    assert len(photos) == len(asked) == 12
    assert np.allclose(np.linalg.norm(photos.astype(np.float32), axis=1), 1, atol=1e-2)
    from streetrecall.model import embedder

    loaded = embedder.load(tmp_path / "out/embedder")
    reader = ShardReader(tiny_town.photos)
    for row in (0, 1):  # one upright, one lying
        size = (256, 192) if asked["height"][row] > asked["width"][row] else (192, 256)
        jpeg = reader.read(asked["shard"][row], int(asked["offset"][row]), int(asked["size"][row]))
        shaped = network.resized(loaded.network, size, loaded.head).inference()
        expected = shaped(np.asarray(decoding.decode(jpeg, size))[None], training=False).numpy()[0]
        assert np.allclose(expected, photos[row], atol=2e-3)
    reader.close()


def test_an_embedder_with_a_grid_sees_photos_as_three_squares_and_says_so(
    tiny_crops: Path, tiny_town: Town, tmp_path: Path
) -> None:
    params = params_of(tmp_path)
    done = run("train", params, tiny_crops, tmp_path / "out", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    done = run("index", params, tiny_crops, tmp_path / "out", tmp_path / "store", tiny_town.views)
    assert done.returncode == 0, done.stderr
    said = "the branch 'grid' takes square pictures only, so a photo of another shape is described as three squares"
    assert said in done.stdout
    described = np.load(tmp_path / "out/index/photos.npy")
    assert len(described) == 12

    from streetrecall.model import embedder

    model = embedder.load(tmp_path / "out/embedder")
    photos = tables.read(tables.PHOTOS, tiny_town.photos / "photos.parquet")
    with ShardReader(tiny_town.photos) as reader:
        where = zip(photos["shard"], photos["offset"].tolist(), photos["size"].tolist(), strict=True)
        pictures = [read_photo(reader.read(*at)).pixels for at in where]
    assert any(picture.shape[0] != picture.shape[1] for picture in pictures)
    infer = model.network.inference()
    for picture, descriptor in zip(pictures, described, strict=True):
        height, width = picture.shape[:2]
        more = max(height, width)
        parts = []
        for before in (0, abs(height - width) // 2, abs(height - width)):
            top, left = (before, 0) if height < width else (0, before)
            border = ((top, more - height - top), (left, more - width - left), (0, 0))
            parts.append(resize(np.pad(picture, border, mode="symmetric"), model.image_size, model.image_size))
        mean = np.mean(infer(np.stack(parts), training=False), axis=0)
        assert np.allclose(descriptor, mean / np.linalg.norm(mean), atol=2e-3)


def test_views_that_see_the_same_are_a_group_and_positive_pairs(tiny_town: Town, settings: Train) -> None:
    import tensorflow as tf

    collection = ViewCollection(settings, *sources(tiny_town))
    images = collection.images
    for row in collection.sampler.epoch(1, 2).ravel():
        assert images["use"][row] == "train"
    for group in collection.sampler.groups:
        turned = (images["heading_deg"][group] - images["heading_deg"][group[0]] + 180) % 360 - 180
        assert len(set(images["place"][group])) == 1
        assert (turned.abs() <= 25).all()
    rows = tf.range(30, dtype=tf.int64)
    positive, negative = collection.pairs(rows, rows)
    for i in range(30):
        for j in range(30):
            a, b = images.iloc[i], images.iloc[j]
            apart = np.hypot(a["x"] - b["x"], a["y"] - b["y"])
            turn = abs((a["heading_deg"] - b["heading_deg"] + 180) % 360 - 180)
            assert bool(positive[i, j]) == (i != j and apart <= 14 and turn <= 25)
            assert bool(negative[i, j]) == (apart >= 35 or turn >= 75)


def test_the_gallery_of_validation_is_of_the_newest_date_around_the_photos(tiny_town: Town, settings: Train) -> None:
    collection = ViewCollection(settings, *sources(tiny_town))
    described = collection.images.iloc[collection.described]
    assert set(described["use"]) == {"gallery"}
    assert set(described["split"]) == {"train", "validation"}, "nothing of test has a say"
    assert set(described["month"]) == {"2017-07"}
    asked = sources(tiny_town)[1].rows.query("split == 'validation'")
    nearest = np.abs(described["x"].to_numpy()[:, None] - asked["x"].to_numpy()).min(axis=1)
    assert nearest.max() <= 60


def test_places_that_only_answer_change_no_training(tiny_town: Town, settings: Train) -> None:
    views, photos = sources(tiny_town)
    dense = views.rows[views.rows["use"] == "gallery"].assign(split="gallery")
    more = Source(views.folder, pd.concat([views.rows, dense.assign(view_id=dense["view_id"] + 1000)]))
    assert ViewCollection(settings, more, photos).digest() == ViewCollection(settings, views, photos).digest()
    assert not trains_on_views(pd.concat([views.rows.query("use == 'train'"), dense]), photos.rows)


@pytest.mark.parametrize("missing", ["train", "gallery", "photos"])
def test_without_views_or_photos_crops_are_trained_on(tiny_town: Town, missing: str) -> None:
    views, photos = (source.rows for source in sources(tiny_town))
    assert trains_on_views(views, photos)
    if missing == "photos":
        assert not trains_on_views(views, photos.assign(near=False))
    else:
        assert not trains_on_views(views[views["use"] != missing], photos)


def test_same_sight_covers_every_view_once() -> None:
    rng = np.random.default_rng(3)
    xy, heading = rng.uniform(0, 60, (200, 2)), rng.uniform(0, 360, 200).astype(np.float32)
    centre = same_sight(xy, heading, 14.0, 25.0)
    for row, of in enumerate(centre):
        assert centre[of] == of <= row
        assert np.hypot(*(xy[row] - xy[of])) <= 14
        assert abs((heading[row] - heading[of] + 180) % 360 - 180) <= 25


def test_a_grid_among_the_branches_for_views_is_refused(tmp_path: Path) -> None:
    path = params_of(tmp_path)
    raw: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["train"]["views"]["branches"].append({"pool": "grid", "map": "block3b_add", "channels": 4, "weight": 1.0})
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(UserError, match="takes square pictures only"):
        load(path)
