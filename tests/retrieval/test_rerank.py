from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from streetrecall.errors import UserError
from streetrecall.params.schema import Params, Rerank
from streetrecall.pictures import shards
from streetrecall.retrieval import points, rerank


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
    a, b, other = (points.find_points(p, 600) for p in (scene(1), moved(scene(1)), scene(2)))
    assert a.descriptors.dtype == np.uint8
    assert len(a.xy) == len(a.descriptors) <= 600
    right, wrong = rerank.count_inliers(a, b), rerank.count_inliers(a, other)
    assert right > 60 > 3 * wrong
    cv2.setRNGSeed(77)  # whatever ran before
    assert rerank.count_inliers(a, b) == right


def test_pictures_without_structure_have_no_inliers() -> None:
    nothing = points.find_points(np.full((64, 64, 3), 90, np.uint8), 600)
    assert nothing.xy.shape == (0, 2)
    assert rerank.count_inliers(nothing, points.find_points(scene(1), 600)) == 0


@pytest.fixture
def settings(params: Params) -> Rerank:
    return params.evaluate.photos.rerank


def shelf(folder: Path, pictures: list[np.ndarray]) -> points.Pictures:
    jpegs = [(f"{i:03d}.jpg", cv2.imencode(".jpg", p)[1].tobytes()) for i, p in enumerate(pictures)]
    placed = shards.write_shard(folder / "shared/all.tar", jpegs)
    rows = pd.DataFrame({"shard": "shared/all.tar", "offset": [m.offset for m in placed]})
    hashes = [hashlib.sha256(data).hexdigest() for _, data in jpegs]
    return points.Pictures(folder, rows.assign(size=[m.size for m in placed], sha256=hashes))


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
    monkeypatch.setattr(points, "FEW", 0)
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / "empty"))
    assert (rerank.compare(photos, views, candidates, settings) == found).all()


def test_only_new_pairs_are_compared_and_the_inliers_are_the_same(
    tmp_path: Path, settings: Rerank, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [scene(1), scene(2), scene(3)]
    photos = shelf(tmp_path / "photos", [moved(scene(1)), moved(scene(3))])
    compared: list[int] = []
    original = rerank.count_inliers

    def counting(a: points.Points, b: points.Points) -> int:
        compared.append(len(b.xy))
        return original(a, b)

    monkeypatch.setattr(rerank, "count_inliers", counting)
    few = rerank.compare(photos, shelf(tmp_path / "few", pictures[:2]), np.array([[[0], [1]], [[1], [-1]]]), settings)
    assert len(compared) == 3
    views, candidates = shelf(tmp_path / "more", pictures[::-1]), np.array([[[2], [1]], [[0], [1]]])
    grown = rerank.compare(photos, views, candidates, settings)
    assert len(compared) == 4, "the second photo with a view that was not there before"
    assert grown[0].tolist() == few[0].tolist() and grown[1, 1] == few[1, 0]
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / "empty"))
    assert (rerank.compare(photos, views, candidates, settings) == grown).all()
    assert len(compared) == 8
    other = settings.model_copy(update={"photo_points": 300})
    rerank.compare(photos, views, candidates, other)
    assert len(compared) == 12, "with other settings nothing is known"


def test_a_damaged_picture_is_named(tmp_path: Path, settings: Rerank) -> None:
    views = shelf(tmp_path / "views", [scene(1)])
    broken = tmp_path / "photos/shared/all.tar"
    photos = shelf(tmp_path / "photos", [scene(1)])
    broken.write_bytes(broken.read_bytes()[:512] + bytes(len(broken.read_bytes()) - 512))
    with pytest.raises(UserError, match="there is no picture at 512"):
        rerank.compare(photos, views, np.array([[[0]]]), settings)


def test_points_of_views_are_kept_and_only_new_ones_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [scene(1), np.full((64, 64, 3), 90, np.uint8), scene(2), scene(3)]
    views = shelf(tmp_path / "views", pictures)
    found = []

    def counting(picture: np.ndarray, most: int) -> points.Points:
        found.append(picture.shape)
        return points.PackedPoints.of(original(picture, most)).points()

    original = points.find_points
    monkeypatch.setattr(points, "find_points", counting)
    first = list(points.points_of_views(views, np.array([2, 0, 1]), 300))
    assert len(found) == 3
    assert [len(one.steps) for one in first][2] == 0
    again = list(points.points_of_views(views, np.array([0, 3, 2, 1]), 300))
    assert len(found) == 4, "only the one that was not asked for before"
    for a, b in zip((again[0], again[2], again[3]), (first[1], first[0], first[2]), strict=True):
        assert a.to_bytes() == b.to_bytes()
    list(points.points_of_views(views, np.array([0]), 200))
    assert len(found) == 5, "with another number of points nothing is known"


def test_stored_points_are_nearly_the_points(params: Params) -> None:
    whole = points.find_points(scene(4), 500)
    stored = points.PackedPoints.from_bytes(points.PackedPoints.of(whole).to_bytes()).points()
    assert np.array_equal(stored.xy, whole.xy)
    similar = (whole.descriptors.astype(float) * stored.descriptors).sum(axis=1) / 255**2
    assert similar.min() > 0.97
