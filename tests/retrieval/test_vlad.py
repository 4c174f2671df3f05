"""VLAD of SIFT points: the vector of a naive loop, what it does not depend on, and descriptors that are kept."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from streetrecall.pictures import shards
from streetrecall.retrieval import points, vlad
from streetrecall.retrieval.vlad import Codebook


def naive(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """VLAD with intra-normalisation, as its papers state it."""
    sums = [np.zeros(centres.shape[1]) for _ in centres]
    for value in values.astype(np.float64):
        nearest = min(range(len(centres)), key=lambda k: float(((value - centres[k]) ** 2).sum()))
        sums[nearest] += value - centres[nearest]
    for one in sums:
        length = np.sqrt((one**2).sum())
        if length > 0:
            one /= length
    joined = np.concatenate(sums)
    length = np.sqrt((joined**2).sum())
    return joined / length if length > 0 else joined


def drawn(seed: int, count: int = 40, clusters: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values, centres = (rng.random((size, 128)).astype(np.float32) ** 4 for size in (count, clusters))
    return values / np.linalg.norm(values, axis=1, keepdims=True), centres / np.linalg.norm(centres, axis=1)[:, None]


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_vlad_is_that_of_a_naive_loop(count: int) -> None:
    values, centres = drawn(1, count)
    np.testing.assert_allclose(vlad.vlad(values, centres), naive(values, centres), atol=1e-5)


def test_vlad_depends_neither_on_the_order_nor_on_repetition_of_points() -> None:
    values, centres = drawn(2)
    found = vlad.vlad(values, centres)
    np.testing.assert_allclose(vlad.vlad(values[::-1], centres), found, atol=1e-5)
    np.testing.assert_allclose(vlad.vlad(np.repeat(values, 3, axis=0), centres), found, atol=1e-5)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert found @ vlad.vlad(drawn(3)[0], centres) < 0.9


def test_one_burst_of_like_points_does_not_outweigh_the_other_centres() -> None:
    values, centres = drawn(4)
    nearest = ((values[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    burst = np.concatenate([values, np.repeat(values[:1], 500, axis=0)])
    parts, bursting = (vlad.vlad(v, centres).reshape(5, 128) for v in (values, burst))
    others = np.arange(5) != nearest[0]
    np.testing.assert_allclose(bursting[others], parts[others], atol=1e-5)


def codebook() -> Codebook:
    """Four centres of four components: 16 numbers in a descriptor."""
    rng = np.random.default_rng(5)
    axes = np.linalg.qr(rng.normal(size=(128, 4)))[0].astype(np.float32)
    return Codebook(np.full(128, 0.05, np.float32), axes, 0.1 * rng.normal(size=(4, 4)).astype(np.float32))


def points_of(seed: int, count: int) -> points.Points:
    rng = np.random.default_rng(seed)
    values = drawn(seed, count)[0]
    return points.Points(rng.uniform(0, 100, (count, 2)).astype(np.float32), np.round(values * 255).astype(np.uint8))


def test_a_descriptor_is_the_vector_of_the_components_wherever_the_points_lie() -> None:
    book, some = codebook(), points_of(7, 30)
    wanted = naive((some.descriptors / 255 - 0.05) @ book.axes, book.centres)
    found = book.describe(some)
    assert found.dtype == np.float16 and found.shape == (book.dimensions,) == (16,)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    elsewhere = dataclasses.replace(some, xy=some.xy[::-1] + 5)
    assert (book.describe(elsewhere) == found).all()


def test_a_picture_without_points_has_a_descriptor_of_equal_numbers() -> None:
    nothing = points.find_points(np.full((64, 64, 3), 90, np.uint8), 600)
    assert not vlad.vlad(vlad.root_sift(nothing), drawn(6)[1]).any()
    found = codebook().describe(nothing)
    assert (found == 0.25).all()


def test_the_digest_changes_with_each_number() -> None:
    book = codebook()
    assert book.digest == codebook().digest
    for name in ("mean", "axes", "centres"):
        other = getattr(book, name).copy()
        other.flat[3] += 1
        assert dataclasses.replace(book, **{name: other}).digest != book.digest


def shelf(folder: Path, sides: list[int]) -> points.Pictures:
    """Pictures of blocks of so many pixels; 0: a flat one."""
    jpegs = []
    for number, side in enumerate(sides):
        blocks = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        picture = blocks.repeat(side, 0).repeat(side, 1) if side else np.full((96, 96, 3), 90, np.uint8)
        jpegs.append((f"{number}.jpg", bytes(cv2.imencode(".jpg", picture)[1].tobytes())))
    placed = shards.write_shard(folder / "shared/all.tar", jpegs)
    rows = pd.DataFrame({"shard": "shared/all.tar", "offset": [m.offset for m in placed]})
    hashes = [hashlib.sha256(data).hexdigest() for _, data in jpegs]
    return points.Pictures(folder, rows.assign(size=[m.size for m in placed], sha256=hashes))


def test_only_new_pictures_are_described_and_the_rest_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, pictures = codebook(), shelf(tmp_path, [8, 0, 12, 10])
    described: list[int] = []
    original = Codebook.describe

    def counted(self: Codebook, some: points.Points) -> np.ndarray:
        described.append(len(some.xy))
        return original(self, some)

    monkeypatch.setattr(Codebook, "describe", counted)
    monkeypatch.setattr(vlad, "CHUNK", 2)
    few = vlad.describe_views(book, points.Pictures(tmp_path, pictures.rows.iloc[:2]), 100)
    assert len(described) == 2 and described[1] == 0
    found = vlad.describe_views(book, pictures, 100)
    assert len(described) == 4 and (found[:2] == few).all()
    assert (vlad.describe_views(book, pictures, 100) == found).all() and len(described) == 4
    with shards.ShardReader(tmp_path) as reader:
        (shard, offset, size) = pictures.members(np.array([2]))[0]
        seen = points.PackedPoints.of(points.find_points(reader.read_picture(shard, offset, size), 100)).points()
    assert (found[2] == original(book, seen)).all()

    photos = vlad.describe_photos(book, pictures, 100, 64)
    assert len(described) == 8, "photos are seen with other points, so nothing is known of them"
    assert (photos[1] == found[1]).all() and not (photos[2] == found[2]).all()
    other = dataclasses.replace(book, mean=book.mean + 1)
    vlad.describe_views(other, pictures, 100)
    assert len(described) == 12, "with another codebook everything is described again"
    assert vlad.describe_views(book, points.Pictures(tmp_path, pictures.rows.iloc[:0]), 100).shape == (0, 16)
