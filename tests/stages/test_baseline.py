"""The baseline: one descriptor of unit norm for each picture in use, in order, from any number of cores."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tinyarchive import picture

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params, load, parse
from streetrecall.pictures import shards
from streetrecall.stages import baseline


def crops(folder: Path, n: int = 30, quarantined: tuple[int, ...] = (4, 9)) -> Path:
    """``n`` pictures of two places, in image_id order that is not the shard's."""
    members = shards.write_shard(folder / "local/test/a.tar", [(f"{i:03d}", picture(i)) for i in range(n)])
    order = np.random.default_rng(1).permutation(n)
    frame = pd.DataFrame({"image_id": range(n), "place": np.arange(n) // 15, "direction": np.arange(n) % 4})
    frame["month"] = [f"20{10 + i % 9}-05" for i in range(n)]
    frame["offset"] = [members[i].offset for i in order]
    frame["size"] = [members[i].size for i in order]
    frame["quarantine"] = ["blank" if i in quarantined else "" for i in range(n)]
    numbers = {"heading_deg": np.nan, "lat": 59.3, "lon": 18.1, "x": 0.0, "y": 0.0, "luminance_mean": 90.0}
    frame = frame.assign(**numbers, luminance_std=30.0, date_index=0, width=224, height=224, split="test")
    frame = frame.assign(subset="test_v1", shard="local/test/a.tar", sha256=[f"s{i}" for i in order], phash="0" * 16)
    frame = frame.assign(pano_id="p", provider="archive", licence="", attribution="", source="")
    tables.write(tables.IMAGES, frame, folder / "images.parquet")
    return folder


def test_rows_and_descriptors_agree(tmp_path: Path, params: Params) -> None:
    folder = crops(tmp_path / "crops")
    baseline.run(params.baseline, folder, tmp_path / "out")
    rows = tables.read(tables.DESCRIPTORS, tmp_path / "out" / "rows.parquet")
    found = np.load(tmp_path / "out" / "descriptors.npy")
    assert found.dtype == np.float16
    assert found.shape == (28, (params.baseline.cells - 1) ** 2 * 4 * params.baseline.orientations)
    assert rows["image_id"].tolist() == [i for i in range(30) if i not in (4, 9)]
    np.testing.assert_allclose(np.linalg.norm(found.astype(float), axis=1), 1, atol=1e-3)
    images = tables.read(tables.IMAGES, folder / "images.parquet").set_index("image_id")
    for i, image_id in enumerate(rows["image_id"]):
        seed = int(images["sha256"][image_id][1:])
        grey = Image.open(io.BytesIO(picture(seed))).convert("L")
        small = np.asarray(grey.resize((params.baseline.size,) * 2, Image.Resampling.BOX))
        np.testing.assert_allclose(found[i], baseline.hog(small, params.baseline), atol=1e-3)


def test_number_of_cores_changes_nothing(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = crops(tmp_path / "crops")
    baseline.run(params.baseline, folder, tmp_path / "one")
    monkeypatch.setattr(baseline, "_FEW", 0)
    monkeypatch.setattr(baseline, "_BATCH", 7)
    baseline.run(params.baseline, folder, tmp_path / "two")
    for name in ("descriptors.npy", "rows.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["descriptors.npy", "rows.parquet"]


def test_hog_depends_on_orientation_and_hardly_on_light(params: Params) -> None:
    ramp = np.tile(np.arange(128, dtype=np.uint8), (128, 1))
    across, along = baseline.hog(ramp, params.baseline), baseline.hog(ramp.T.copy(), params.baseline)
    assert across @ along < 0.1
    rng = np.random.default_rng(2)
    scene = rng.integers(0, 100, (16, 16), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    brighter = baseline.hog(scene * np.uint8(2) + np.uint8(40), params.baseline)
    other = rng.integers(0, 100, (16, 16), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    described = baseline.hog(scene, params.baseline)
    assert described @ brighter > 0.99 > described @ baseline.hog(other, params.baseline)


def test_a_flat_picture_has_unit_norm(params: Params) -> None:
    assert np.linalg.norm(baseline.hog(np.zeros((128, 128), np.uint8), params.baseline)) == pytest.approx(1)


def test_without_a_usable_picture_or_a_readable_shard_the_stage_stops(tmp_path: Path, params: Params) -> None:
    with pytest.raises(UserError, match="all 3 pictures are in quarantine"):
        baseline.run(params.baseline, crops(tmp_path / "a", 3, (0, 1, 2)), tmp_path / "out")
    folder = crops(tmp_path / "b", 3, ())
    shard = folder / "local/test/a.tar"
    shard.write_bytes(b"\0" * shard.stat().st_size)
    with pytest.raises(UserError, match="no picture at"):
        baseline.run(params.baseline, folder, tmp_path / "out")
    shard.unlink()
    with pytest.raises(UserError, match="shard is missing"):
        baseline.run(params.baseline, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cells_must_divide_the_picture(params: Params) -> None:
    raw = load(Path(__file__).parents[2] / "params.yaml").model_dump()
    raw["baseline"]["cells"] = 7
    with pytest.raises(UserError, match="128 pixels cannot be cut into 7 equal cells"):
        parse(raw)
