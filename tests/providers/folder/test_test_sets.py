"""Test sets of the field, which have only `images/test`: a trained embedder is measured, and nothing is trained."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from collecting import collect
from PIL import Image
from tinyfolder import utm_name, write

from streetrecall.errors import UserError
from streetrecall.model import embedder as embedders
from streetrecall.model import network
from streetrecall.params.schema import GemBranch, Params, load

ROOT = Path(__file__).parents[3]
PLACES, SIDE = 12, 64
REST = (
    *("train", "baseline", "sift_vlad", "networks", "index"),
    *("check_descriptors", "evaluate", "check_predictions", "bundle"),
)


def picture(place: int, shade: int) -> bytes:
    """A pattern of its own for each place, lighter or darker by ``shade``."""
    blocks = np.random.default_rng(place).integers(40, 200, (6, 6, 3)) + shade
    out = io.BytesIO()
    Image.fromarray(blocks.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(out, "JPEG")
    return out.getvalue()


def make_set(root: Path) -> Path:
    """Twelve places 100 m apart, without months and headings: two pictures of each answer, and one asks. One more
    query is far from all, and one has the bytes of two files of the database."""
    for place in range(PLACES):
        east = 674_000.0 + 100 * place
        for number, (role, off) in enumerate((("database", 0), ("database", 6), ("queries", 3))):
            name = utm_name(east + off, 6_580_000.0, heading="", stamp="", pano=f"{place}_{number}")
            write(root / "images/test" / role / name, picture(place, 5 * number))
    lost = utm_name(674_000.0, 6_581_000.0, heading="", stamp="", pano="lost")
    write(root / "images/test/queries" / lost, picture(99, 0))
    copies = {"database": 0.0, "queries": 0.0, "database/elsewhere": 900.0}  # of one file, at two places
    for role, off in copies.items():
        name = utm_name(674_000.0 + off, 6_582_000.0, heading="", stamp="", pano="copy")
        write(root / "images/test" / role / name, picture(98, 0))
    return root


def write_embedder(folder: Path) -> Path:
    """An embedder that nobody trained for this city: its features are those of ImageNet."""
    keras.utils.set_random_seed(0)
    branch = GemBranch(pool="gem", map="block3b_add", p=3.0, weight=1.0)
    head = embedders.Head(dimensions=16, normalise="none", branches=[branch], shrinkage=0.3, components=16)
    built = network.build("efficientnet_lite0", "imagenet", SIDE, head)
    folder.mkdir()
    embedders.save(embedders.Embedder(built, "efficientnet_lite0", SIDE, head), folder)
    return folder


def settings(folder: Path, pictures: Path, **train: Any) -> Params:
    """Write params.yaml for the test set into ``folder``; returns what it says."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw |= {"provider": "folder"}
    raw["folder"] |= {"path": str(pictures), "fit": "squeeze"}
    raw["city"]["crs"] = "auto"
    raw["train"] |= train
    raw["checks"]["descriptors"] |= {"min_similarity_spread": 0.001, "max_similarity_mean": 0.999}  # it is not trained
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return load(folder / "params.yaml")


def stages(project: Path, names: tuple[str, ...]) -> None:
    """Run the commands of these stages of dvc.yaml in ``project``."""
    commands = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name in names:
        done = subprocess.run(
            commands[name]["cmd"].split(), cwd=project, env=os.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{name}: {done.stderr}{done.stdout}"


@pytest.mark.slow
def test_a_set_with_only_test_is_asked_with_a_trained_embedder(tmp_path: Path) -> None:
    project = tmp_path / "project"
    start = str(write_embedder(tmp_path / "embedder"))
    params = settings(project, make_set(tmp_path / "set"), start_from=start, phases=[])
    made = collect(params, project)
    assert made.failed == []
    assert set(made.images["split"]) == {"test"} and (made.images["quarantine"] == "").all()
    without_photos(project)
    stages(project, REST)
    found = json.loads((project / "metrics/evaluate.json").read_text(encoding="utf-8"))["model"]["test"]["given"]
    counted = found["queries"], found["gallery"], found["queries_without_right_image"]
    assert counted == (PLACES + 2, 2 * PLACES + 2, 1)
    assert found["recall_at_5_25m"] == pytest.approx((PLACES + 1) / (PLACES + 2), abs=1e-4)
    assert {"recall_at_1_25m", "recall_at_10_25m", "recall_at_20_25m"} <= set(found)


def test_training_without_training_places_is_refused_before_any_picture_is_collected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from streetrecall.stages import check, grid, metadata, order, train

    params = settings(tmp_path / "project", make_set(tmp_path / "set"))
    data = tmp_path / "project/data"
    (data / "cities").mkdir(parents=True)
    grid.run(params, data / "cities", data / "grid.parquet", data / "grid.png", data / "grid.json")
    metadata.run(
        params, data / "grid.parquet", data / "panoramas.parquet", data / "no_coverage.parquet", data / "m.json"
    )
    order.run(params, data / "panoramas.parquet", data / "locations.parquet", data / "order.json")
    inputs = {name: data / path.name for name, path in check.inputs_of("locations", []).items()}
    assert check.run(params, "locations", inputs, data / "report.json", data / "locations.ok") == 1
    said = capsys.readouterr().err
    assert "missing: train, validation" in said and "streetrecall set train.start_from=FOLDER train.phases=[]" in said
    images = pd.DataFrame({"split": ["test", "validation"], "quarantine": ["", "blank"]})
    with pytest.raises(UserError, match=r"images.parquet: no picture of split train and validation.*train.start_from"):
        train.require_splits(params.train, images, Path("images.parquet"))


def without_photos(project: Path) -> None:
    from streetrecall.stages import photos

    data = project / "data"
    photos.run(load(project / "params.yaml"), data / "captures", data / "views/views.parquet", data / "photos",
               project / "metrics/photos.json")  # fmt: skip
