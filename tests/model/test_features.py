"""Pictures arrive decoded, in order and ahead of time; a broken one is named; the cache's key holds what it must."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from streetrecall import tables
from streetrecall.errors import UserError

keras = pytest.importorskip("keras")

from streetrecall.model import features  # noqa: E402

AHEAD = """
import sys, time
from streetrecall.model import runtime
runtime.configure(2, 1)
import cv2, numpy as np
from streetrecall.model import features

class Counting(list):
    taken = 0
    def __getitem__(self, position):
        Counting.taken += 1
        return super().__getitem__(position)

jpeg = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
data = features.batches(Counting([jpeg] * 64), 32, 4, 2)
next(data)
deadline = time.monotonic() + 20
while Counting.taken < 12 and time.monotonic() < deadline:
    time.sleep(0.01)
data.close()  # a pipeline that still runs when the process ends may keep it from ending
sys.exit(Counting.taken < 12)  # the batch that was taken, and the two that wait
"""


@pytest.fixture
def jpegs() -> list[bytes]:
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8), (32, 32)) for _ in range(7)]
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]


def test_pictures_come_in_order_in_full_batches(jpegs: list[bytes]) -> None:
    found = list(features.batches(jpegs, 32, 3, 2))
    assert [count for _, count in found] == [3, 3, 1]
    assert all(pixels.shape == (3, 32, 32, 3) for pixels, _ in found)
    pixels = np.concatenate([pixels[:count] for pixels, count in found])
    assert np.array_equal(pixels, [features.decode(jpeg, 32) for jpeg in jpegs])
    assert not found[-1][0][1:].numpy().any()


def test_pictures_are_read_ahead_although_ops_are_deterministic() -> None:
    """In a process of its own: determinism is a process's, and cannot be taken back."""
    subprocess.run([sys.executable, "-c", AHEAD], check=True, timeout=120)


def test_what_is_no_jpeg_is_named(jpegs: list[bytes]) -> None:
    jpegs[4] = b"not a picture"
    with pytest.raises(UserError, match=r"picture 4 .* is no JPEG"):
        list(features.batches(jpegs, 32, 3, 2))


@pytest.fixture
def broken(tiny_crops: Path, tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """A copy of the collection, to be damaged."""
    shutil.copytree(tiny_crops, tmp_path / "crops")
    return tmp_path / "crops", tables.read(tables.IMAGES, tiny_crops / "images.parquet")


@pytest.fixture
def small() -> Any:
    return keras.Sequential([keras.Input((64, 64, 3)), keras.layers.AveragePooling2D(16, name="pool")])


def test_a_broken_picture_of_the_collection_is_named(
    broken: tuple[Path, pd.DataFrame], small: Any, tmp_path: Path
) -> None:
    crops, images = broken
    bad = images.iloc[9]
    with (crops / bad["shard"]).open("r+b") as file:
        file.seek(bad["offset"])
        file.write(b"\0" * 20)
    with pytest.raises(UserError, match=rf"{bad['shard']}: image_id {bad['image_id']} is no JPEG.*crop again"):
        features.compute(small, "small", ["pool"], crops, images, 64, 2, tmp_path / "maps")


def test_no_shard_stays_open_when_the_pictures_have_been_read(tiny_crops: Path) -> None:
    """TensorFlow never lets go of what it reads from: a city's shards would be open by the thousand."""
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    pictures = features.Pictures(tiny_crops, images)
    first = [pixels.numpy() for pixels, _ in features.batches(pictures, 64, 32, 2)]
    assert pictures._reader._open == {}
    assert pictures[0]
    assert pictures._reader._open
    assert all(np.array_equal(a, b) for a, (b, _) in zip(first, features.batches(pictures, 64, 32, 2), strict=True))
    assert pictures._reader._open == {}


def test_a_missing_shard_is_named(broken: tuple[Path, pd.DataFrame], small: Any, tmp_path: Path) -> None:
    crops, images = broken
    (crops / images["shard"].iloc[0]).unlink()
    with pytest.raises(UserError, match=r"\.tar: the shard is missing"):
        features.compute(small, "small", ["pool"], crops, images, 64, 2, tmp_path / "maps")


def test_maps_are_computed_once_and_only_what_is_missing_again(
    tiny_crops: Path, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    monkeypatch.setattr(features, "CHUNK", 30)
    read: list[int] = []
    get = features.Pictures.__getitem__
    monkeypatch.setattr(features.Pictures, "__getitem__", lambda self, i: (read.append(i), get(self, i))[1])

    def maps() -> np.ndarray:
        return features.compute(small, "small", ["pool"], tiny_crops, images, 64, 2, tmp_path)[0]

    first = maps()
    expected = [features.decode(jpeg, 64) for jpeg in features.Pictures(tiny_crops, images)]
    assert np.allclose(first, small(np.array(expected)), atol=0.1)
    read.clear()
    assert np.array_equal(maps(), first)
    assert read == []
    next(tmp_path.glob("*/00000030-0.npy")).unlink()  # as after a kill
    assert np.array_equal(maps(), first)
    assert len(read) == 30


def rewritten(images: pd.DataFrame) -> pd.DataFrame:
    return images.assign(sha256=["other", *images["sha256"][1:]])


@pytest.mark.parametrize(
    "change",
    [
        lambda model, facts: model.weights[0].assign_add(model.weights[0] * 0 + 1e-6),
        lambda model, facts: facts.update(images=rewritten(facts["images"])),
        lambda model, facts: facts.update(images=facts["images"][::-1]),
        lambda model, facts: facts.update(threads=3),
        lambda model, facts: facts.update(size=65),
        lambda model, facts: facts.update(maps=["other"]),
    ],
    ids=["weights", "picture", "order", "threads", "size", "layers"],
)
def test_the_key_of_the_cache_changes_with(tiny_crops: Path, change: Callable[[Any, dict[str, Any]], Any]) -> None:
    model = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Conv2D(2, 3, name="maps")])
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    facts: dict[str, Any] = {"backbone": "b", "maps": ["maps"], "size": 64, "images": images, "threads": 2}
    before = features.key_of(model, **facts)
    assert features.key_of(model, **facts) == before
    change(model, facts)
    assert features.key_of(model, **facts) != before


@pytest.mark.parametrize("name", ["features.py", "backbone.py", "layers.py", "network.py"])
def test_the_key_of_the_cache_changes_with_the_code(
    name: str, tiny_crops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.AveragePooling2D(16)])
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    before = features.key_of(model, "b", ["maps"], 64, images, 2)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + (b"#" if self.name == name else b""))
    assert features.key_of(model, "b", ["maps"], 64, images, 2) != before
