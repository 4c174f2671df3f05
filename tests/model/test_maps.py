"""Maps are computed once and cached; the key of the cache covers all that they depend on; workers share the cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.imports import closure

keras = pytest.importorskip("keras")

from streetrecall.model import decoding, maps  # noqa: E402
from streetrecall.model.backbone import Backbone  # noqa: E402

# Computes maps of the crops, and waits for a file before the first picture of the third chunk.
SLOW_WORKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_maps import pooling
from streetrecall import tables
from streetrecall.model import decoding, maps
crops, cache, go = map(Path, sys.argv[2:])
get, read = decoding.Pictures.__getitem__, []
def slow(self, position):
    read.append(position)
    while len(read) > 40 and not go.exists():
        time.sleep(0.01)
    return get(self, position)
decoding.Pictures.__getitem__ = slow
maps.CHUNK = 20
maps.compute(pooling(), ["pool"], crops, tables.read(tables.IMAGES, crops / "images.parquet"), 64, 2, cache)
"""


def pooling() -> Backbone:
    """A backbone without weights: averages over 16 x 16 pixels."""
    image = keras.Input((64, 64, 3))
    network = keras.Model(image, keras.layers.AveragePooling2D(16, name="pool")(image))
    return Backbone("small", keras.layers.Identity(), network)


@pytest.fixture
def broken(tiny_crops: Path, tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """A copy of the collection, to be damaged."""
    shutil.copytree(tiny_crops, tmp_path / "crops")
    return tmp_path / "crops", tables.read(tables.IMAGES, tiny_crops / "images.parquet")


@pytest.fixture
def small() -> Backbone:
    return pooling()


def test_a_broken_picture_of_the_collection_is_named(
    broken: tuple[Path, pd.DataFrame], small: Backbone, tmp_path: Path
) -> None:
    crops, images = broken
    bad = images.iloc[9]
    with (crops / bad["shard"]).open("r+b") as file:
        file.seek(bad["offset"])
        file.write(b"\0" * 20)
    with pytest.raises(UserError, match=rf"{bad['shard']}: image_id {bad['image_id']} is no JPEG.*crop again"):
        maps.compute(small, ["pool"], crops, images, 64, 2, tmp_path / "maps")


def test_a_missing_shard_is_named(broken: tuple[Path, pd.DataFrame], small: Backbone, tmp_path: Path) -> None:
    crops, images = broken
    (crops / images["shard"].iloc[0]).unlink()
    with pytest.raises(UserError, match=r"\.tar: the shard is missing"):
        maps.compute(small, ["pool"], crops, images, 64, 2, tmp_path / "maps")


def test_maps_are_computed_once_and_only_what_is_missing_again(
    tiny_crops: Path, small: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    monkeypatch.setattr(maps, "CHUNK", 30)
    read: list[int] = []
    get = decoding.Pictures.__getitem__
    monkeypatch.setattr(decoding.Pictures, "__getitem__", lambda self, i: (read.append(i), get(self, i))[1])
    cache = tmp_path / "maps"

    def computed() -> np.ndarray:
        return maps.compute(small, ["pool"], tiny_crops, images, 64, 2, cache)[0]

    first = computed()
    expected_maps = np.array(first)
    expected = [decoding.decode(jpeg, 64) for jpeg in decoding.Pictures(tiny_crops, images)]
    assert np.allclose(first, small.network(np.array(expected)), atol=0.1)
    read.clear()
    assert np.array_equal(computed(), first)
    assert read == []
    next(cache.glob("*/00000030.done")).unlink()  # as after a kill
    assert np.array_equal(computed(), first)
    assert len(read) == 30
    read.clear()
    with next(cache.glob("*/0.f16")).open("r+b") as file:
        file.truncate(1000)
    assert np.array_equal(computed(), expected_maps)
    assert len(read) == len(images), "a file of another size is not trusted"


def test_maps_are_read_from_disk_and_outlive_the_removal_of_their_file(
    tiny_crops: Path, small: Backbone, tmp_path: Path
) -> None:
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    (made,) = maps.compute(small, ["pool"], tiny_crops, images, 64, 2, tmp_path / "maps")
    assert isinstance(made, np.memmap)
    assert not made.flags.writeable
    before = np.array(made)
    shutil.rmtree(tmp_path / "maps")
    assert np.array_equal(made, before)


def test_maps_that_a_process_writes_stay_while_others_clean_up(tiny_crops: Path, tmp_path: Path) -> None:
    cache, go = tmp_path / "maps", tmp_path / "go"
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    command = [sys.executable, "-c", SLOW_WORKER, Path(__file__).parent, tiny_crops, cache, go]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        deadline = time.monotonic() + 120
        while len(list(cache.glob("*/*.done"))) < 2 and time.monotonic() < deadline and worker.poll() is None:
            time.sleep(0.01)
        assert worker.poll() is None, worker.stderr.read() if worker.stderr else ""
        (home,) = cache.glob("*")
        for threads in range(3, 8):  # each number of threads is another set of maps
            maps.compute(pooling(), ["pool"], tiny_crops, images[:5], 64, threads, cache)
        assert sorted(path.name for path in home.glob("*.done")) == ["00000000.done", "00000020.done"]
        assert len(list(cache.glob("*"))) == 5  # the worker's, three without a lease, and the last one
        go.touch()
        assert worker.wait(timeout=120) == 0, worker.stderr.read() if worker.stderr else ""
    assert len(list(home.glob("*.done"))) == 4


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
        lambda model, facts: facts.update(layers=["other"]),
    ],
    ids=["weights", "picture", "order", "threads", "size", "layers"],
)
def test_the_key_of_the_cache_changes_with(tiny_crops: Path, change: Callable[[Any, dict[str, Any]], Any]) -> None:
    model = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Conv2D(2, 3, name="maps")])
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    facts: dict[str, Any] = {"backbone": "b", "layers": ["maps"], "size": 64, "images": images, "threads": 2}
    before = maps.key_of(model, **facts)
    assert maps.key_of(model, **facts) == before
    change(model, facts)
    assert maps.key_of(model, **facts) != before


@pytest.mark.parametrize("path", closure("streetrecall.model.maps"), ids=lambda path: path.name)
def test_the_key_of_the_cache_changes_with_the_code(
    path: Path, tiny_crops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.AveragePooling2D(16)])
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    before = maps.key_of(model, "b", ["maps"], 64, images, 2)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + (b"#" if self == path else b""))
    assert maps.key_of(model, "b", ["maps"], 64, images, 2) != before


def test_the_code_behind_maps_is_what_makes_them_and_not_what_follows() -> None:
    """An edit to a pooling or to the training does not compute the maps anew."""
    names = {path.name for path in closure("streetrecall.model.maps")}
    assert {"maps.py", "backbone.py", "decoding.py", "torch_pickle.py", "shards.py"} <= names
    assert not {"branches.py", "network.py", "trainer.py", "sources.py", "schema.py"} & names
