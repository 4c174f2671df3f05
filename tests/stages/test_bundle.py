"""The stage `bundle`, with a real network: it describes as the stage `index` does, and two runs give the same bytes."""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tinybundle import town_views
from tinytown import Town, make_town

from streetrecall import tables
from streetrecall.bundle import layout
from streetrecall.bundle.answer import Bundle
from streetrecall.errors import UserError
from streetrecall.model import embedder as embedders
from streetrecall.model import network
from streetrecall.model.shapes import LANDSCAPE
from streetrecall.params.schema import GemBranch, Params
from streetrecall.pictures.shards import ShardReader
from streetrecall.retrieval.portable import FILE, find
from streetrecall.stages import bundle as stage
from streetrecall.stages import index as index_stage

ROOT = Path(__file__).parents[2]
CALIBRATION = {"threshold": 0.1, "factor": 1.5, "coverage": 0.9, "queries": 30}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("town"), places=5)


@pytest.fixture(scope="module")
def project(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the stages before write: an untrained network, and descriptors by it."""
    folder = tmp_path_factory.mktemp("project")
    keras.utils.set_random_seed(0)  # not runtime.configure: TensorFlow may run already, for another test
    tf.config.experimental.enable_op_determinism()
    branch = GemBranch(pool="gem", map="block3b_add", p=3.0, weight=1.0)
    head = embedders.Head(dimensions=16, normalise="none", branches=[branch], shrinkage=0.3, components=16)
    built = network.build("efficientnet_lite0", "imagenet", 64, head)
    embedder = embedders.Embedder(built, "efficientnet_lite0", 64, head, 4, 2)
    embedders.save(embedder, folder / "embedder")
    portable = find(folder / "embedder")
    views, photos = town_views(town.views), tables.read(tables.PHOTOS, town.photos / "photos.parquet")
    index = folder / "index"
    index.mkdir()
    np.save(index / "views.npy", index_stage.describe(portable, town.views, views, "views"))
    tables.write(tables.VIEWS, views, index / "views.parquet")
    pictured = described_pictures().assign(place=views["place"].iloc[0])
    tables.write(tables.DESCRIPTORS, pictured, index / "rows.parquet")
    np.save(index / "photos.npy", index_stage.describe_photos(portable, town.photos, photos))
    tables.write(
        tables.PHOTOS,
        photos.assign(x=views["x"].min() + 40.0 * photos["spot"], y=views["y"].iloc[0]),
        index / "photos.parquet",
    )
    (folder / "calibration.json").write_text(
        json.dumps(dict.fromkeys(("photos", "photos_three", "position"), CALIBRATION))
    )
    (folder / "evaluate.json").write_text(
        json.dumps({"model": {"test": {"photos": {"recall_at_1_25m": 0.5, "queries": 7}}}})
    )
    return folder


def run(project: Path, town: Town, out: Path) -> dict:
    """Run the stage in a process of its own, for TensorFlow's threads are set once in a process; give the manifest."""
    out.mkdir()
    inputs = {
        "params": ROOT / "params.yaml", "model": project / "embedder", "index": project / "index",
        "images": project / "images.parquet", "views": town.views, "calibration": project / "calibration.json",
        "evaluation": project / "evaluate.json", "bundle": "bundle", "metrics": "bundle.json",
    }  # fmt: skip
    command = [sys.executable, "-m", "streetrecall.cli", "bundle"]
    command += [str(part) for name, value in inputs.items() for part in (f"--{name}", value)]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "bundle" / layout.MANIFEST).read_text())


@pytest.mark.slow
def test_two_runs_are_equal_and_describe_as_the_index_does(project: Path, town: Town, tmp_path: Path) -> None:
    manifest = run(project, town, tmp_path / "a")
    run(project, town, tmp_path / "b")
    names = [p.relative_to(tmp_path / "a").as_posix() for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False)[0] == names
    assert manifest["sizes"][0] == list(LANDSCAPE)
    assert manifest["calibration"]["full"]["single"] == CALIBRATION
    assert manifest["calibration"]["quick"]["single"]["queries"] > 0
    assert json.loads((tmp_path / "a/bundle.json").read_text())["pictures"] == len(town_views(town.views))
    card = (tmp_path / "a/bundle" / layout.CARD).read_text(encoding="utf-8")
    assert "| one photo as a person takes it | 50.0 | 7 |" in card
    assert "personal data" in card

    assert (tmp_path / "a/bundle" / layout.EMBEDDER).read_bytes() == (project / "embedder" / FILE).read_bytes()
    bundle = Bundle(tmp_path / "a/bundle")
    stored = np.load(project / "index/photos.npy")
    table = tables.read(tables.PHOTOS, town.photos / "photos.parquet")
    with ShardReader(town.photos) as reader:
        for row, at in enumerate(zip(table["shard"], table["offset"].tolist(), table["size"].tolist(), strict=True)):
            (descriptor,) = bundle.see(reader.read(*at)).descriptors
            assert np.array_equal(descriptor.astype(np.float16), stored[row])
    gallery = bundle.gallery
    order = np.argsort(gallery.columns["picture"])
    assert np.array_equal(gallery.descriptors[:][order], np.load(project / "index/views.npy"))


def test_a_missing_input_is_named(project: Path, town: Town, params: Params, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(UserError, match=r"calibration.json: there is no such file; run the stage evaluate"):
        stage.run(
            params, project / "embedder", project / "index", project / "images.parquet", town.views,
            tmp_path / "calibration.json", project / "evaluate.json", tmp_path / "bundle", tmp_path / "bundle.json",
        )  # fmt: skip
    assert not (tmp_path / "bundle").exists()


def described_pictures() -> pd.DataFrame:
    """DESCRIPTORS rows of two places."""
    return pd.DataFrame(
        [(i, i // 4, i % 2, ("2022-05", "2019-05")[i % 4 // 2], ("query", "gallery")[i % 4 // 2]) for i in range(8)],
        columns=["image_id", "place", "direction", "month", "role"],
    ).assign(split="test", subset="test_v1", lat=59.0, lon=18.0, x=0.0, y=0.0)


@pytest.mark.parametrize(("flat", "answers"), [(0, True), (1, True), (2, True), (3, False)])
def test_views_answer_where_at_least_half_of_the_places_have_them(
    town: Town, tmp_path: Path, flat: int, answers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    views = town_views(town.views)
    views = views[views["place"].isin(views["place"].unique()[:2])].reset_index(drop=True)
    tables.write(tables.VIEWS, views.assign(view_id=range(len(views))), tmp_path / "views.parquet")
    np.save(tmp_path / "views.npy", np.eye(len(views), dtype=np.float16))
    rows = described_pictures()
    others = [rows.iloc[:4].assign(place=900 + i, image_id=range(100 + 4 * i, 104 + 4 * i)) for i in range(flat)]
    of_views = rows.assign(place=views["place"].unique()[rows["place"]])
    tables.write(tables.DESCRIPTORS, pd.concat([of_views, *others]), tmp_path / "rows.parquet")
    found = stage.answering_views(tmp_path, town.views)
    assert (found is not None) is answers
    assert (f"{flat} of {flat + 2} places have no view" in caplog.text) is (answers and flat > 0)


def test_without_views_all_pictures_answer(tmp_path: Path) -> None:
    rows = described_pictures()
    tables.write(tables.DESCRIPTORS, rows, tmp_path / "rows.parquet")
    np.save(tmp_path / "descriptors.npy", np.eye(8, dtype=np.float16))
    unknown = dict.fromkeys(
        ("pano_id", "shard", "sha256", "phash", "quarantine", "provider", "licence", "attribution", "source"), ""
    )
    images = rows.drop(columns="role").assign(
        **unknown, heading_deg=np.nan, date_index=0, offset=0, size=0, luminance_mean=1.0, luminance_std=1.0, width=224,
        height=224,
    )  # fmt: skip
    tables.write(tables.IMAGES, images, tmp_path / "images.parquet")
    answering = stage.answering_pictures(tmp_path, tmp_path / "images.parquet")
    assert (answering.kind, answering.folder) == (layout.PICTURES, tmp_path)
    assert answering.rows["image_id"].tolist() == list(range(8)), "the newest ones too"
