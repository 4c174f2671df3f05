from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from streetrecall.errors import UserError
from streetrecall.params.schema import Params, Rerank
from streetrecall.pictures import shards
from streetrecall.retrieval import rerank


def scene(seed: int, size: int = 320) -> np.ndarray:
    """A wall of coloured rectangles."""
    rng = np.random.default_rng(seed)
    picture = np.full((size, size, 3), 128, np.uint8)
    for _ in range(150):
        x, y = rng.integers(0, size, 2)
        w, h = rng.integers(6, 40, 2)
        cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), rng.integers(0, 256, 3).tolist(), -1)
    return picture


def moved(picture: np.ndarray) -> np.ndarray:
    """The same wall from another standpoint, darker."""
    size = picture.shape[0]
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
    seen = corners + np.array([[12, 8], [-20, 4], [-6, -14], [9, -3]], np.float32)
    out = cv2.warpPerspective(picture, cv2.getPerspectiveTransform(corners, seen), (size, size))
    return (out * 0.8).astype(np.uint8)


def test_the_same_scene_has_many_inliers_and_another_has_few() -> None:
    a, b, other = (rerank.find_points(p, 600) for p in (scene(1), moved(scene(1)), scene(2)))
    assert a.descriptors.dtype == np.uint8
    assert len(a.xy) == len(a.descriptors) <= 600
    right, wrong = rerank.count_inliers(a, b), rerank.count_inliers(a, other)
    assert right > 60 > 3 * wrong
    cv2.setRNGSeed(77)  # whatever ran before
    assert rerank.count_inliers(a, b) == right


def test_pictures_without_structure_have_no_inliers() -> None:
    nothing = rerank.find_points(np.full((64, 64, 3), 90, np.uint8), 600)
    assert nothing.xy.shape == (0, 2)
    assert rerank.count_inliers(nothing, rerank.find_points(scene(1), 600)) == 0


@pytest.fixture
def settings(params: Params) -> Rerank:
    return params.evaluate.photos.rerank


def shelf(folder: Path, pictures: list[np.ndarray]) -> rerank.Pictures:
    jpegs = [(f"{i:03d}.jpg", cv2.imencode(".jpg", p)[1].tobytes()) for i, p in enumerate(pictures)]
    placed = shards.write_shard(folder / "shared/all.tar", jpegs)
    rows = pd.DataFrame({"shard": "shared/all.tar", "offset": [m.offset for m in placed]})
    return rerank.Pictures(folder, rows.assign(size=[m.size for m in placed]))


def test_candidates_are_compared_alike_with_and_without_processes(
    tmp_path: Path, settings: Rerank, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = shelf(tmp_path / "views", [scene(1), scene(2), scene(3)])
    photos = shelf(tmp_path / "photos", [moved(scene(1)), moved(scene(3))])
    candidates = np.array([[[1, 0], [2, -1]], [[2, -1], [-1, -1]]])
    found = rerank.compare(photos, views, candidates, settings)
    assert found.shape == (2, 2)
    assert found[0, 0] > 3 * found[0, 1]
    assert found[1, 0] > 60
    assert found[1, 1] == 0
    monkeypatch.setattr(rerank, "FEW", 0)
    assert (rerank.compare(photos, views, candidates, settings) == found).all()


def test_a_damaged_picture_is_named(tmp_path: Path, settings: Rerank) -> None:
    views = shelf(tmp_path / "views", [scene(1)])
    broken = tmp_path / "photos/shared/all.tar"
    photos = shelf(tmp_path / "photos", [scene(1)])
    broken.write_bytes(broken.read_bytes()[:512] + bytes(len(broken.read_bytes()) - 512))
    with pytest.raises(UserError, match="there is no picture at 512"):
        rerank.compare(photos, views, np.array([[[0]]]), settings)
