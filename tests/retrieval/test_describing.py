"""A trained embedder as LiteRT runs it: the descriptors and the recall of Keras, on any number of cores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from tinytown import Town

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.model import decoding, network
from streetrecall.model import embedder as embedders
from streetrecall.model.shapes import LANDSCAPE, PORTRAIT
from streetrecall.params.schema import GemBranch
from streetrecall.pictures.codec import decode, encode_jpeg
from streetrecall.pictures.perturb import CHANGES, perturb
from streetrecall.pictures.photo import prepare, read_photo
from streetrecall.pictures.shards import ShardReader
from streetrecall.retrieval import describing, portable
from streetrecall.retrieval.exact import exact

HEAD = embedders.Head(
    dimensions=32,
    normalise="none",
    branches=[GemBranch(pool="gem", map="block3b_add", p=3.0, weight=1.0)],
    shrinkage=0.3,
    components=32,
)


@pytest.fixture(scope="module")
def embedder() -> embedders.Embedder:
    keras.utils.set_random_seed(0)
    built = network.build("efficientnet_lite0", "none", 64, HEAD)
    return embedders.Embedder(built, "efficientnet_lite0", 64, HEAD, 4, 2)


@pytest.fixture(scope="module")
def saved(embedder: embedders.Embedder, tmp_path_factory: pytest.TempPathFactory) -> portable.PortableFile:
    folder = tmp_path_factory.mktemp("embedder")
    embedders.save(embedder, folder)
    return portable.find(folder)


def images_of(crops: Path) -> pd.DataFrame:
    return tables.read(tables.IMAGES, crops / "images.parquet")


def asked_of(table: pd.DataFrame) -> list[describing.Asked]:
    columns = (table[name].tolist() for name in ("shard", "offset", "size", "sha256"))
    return [describing.Asked(*row) for row in zip(*columns, strict=True)]


def test_it_takes_the_sizes_of_photos_and_the_square_of_training(saved: portable.PortableFile) -> None:
    assert saved.sizes == (LANDSCAPE, PORTRAIT, (64, 64))
    assert (saved.square, saved.dimensions, saved.takes_any_shape) == ((64, 64), 32, True)


def test_descriptors_and_recall_are_those_of_keras(
    embedder: embedders.Embedder, saved: portable.PortableFile, tiny_crops: Path
) -> None:
    images = images_of(tiny_crops)
    runner = portable.PortableEmbedder(saved.path, saved.sizes, 1)
    jpegs = decoding.Pictures(tiny_crops, images)
    pixels = [np.asarray(decoding.decode(jpeg, 64)) for jpeg in jpegs]
    by_keras, by_litert = embedder.describe(list(jpegs)), np.stack([runner.describe(picture) for picture in pixels])
    assert np.abs(by_keras - by_litert).max() < 1e-5
    newest = np.flatnonzero(images["date_index"] == 0)
    older = np.flatnonzero(images["date_index"] > 0)
    place = images["place"].to_numpy()
    found = [
        place[older[exact(described[newest], described[older], 5)[0]]] == place[newest, None]
        for described in (by_keras, by_litert)
    ]
    assert found[0].any()
    assert np.array_equal(*found)


def test_the_same_network_gives_the_same_bytes_after_other_networks_and_in_another_precision(
    embedder: embedders.Embedder, saved: portable.PortableFile, tmp_path: Path
) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = network.build("efficientnet_lite0", "none", 64, HEAD)
        network.copy_weights(embedder.network, mixed)
        embedders.save(embedders.Embedder(mixed, "efficientnet_lite0", 64, HEAD, 4, 2), tmp_path)
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert (tmp_path / portable.FILE).read_bytes() == saved.path.read_bytes()


def test_processes_change_no_byte_and_the_order_is_kept(
    saved: portable.PortableFile, tiny_crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of(images_of(tiny_crops))[::-1]
    monkeypatch.setattr(describing, "CHUNK", 20)
    found = {}
    for few, cores in ((1000, 1), (0, 2), (0, 3)):
        monkeypatch.setattr(describing, "FEW", few)
        monkeypatch.setattr("streetrecall.parallel.available_cores", lambda cores=cores: cores)
        monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / f"store{few}{cores}"))
        found[few, cores] = describing.describe(saved, tiny_crops, asked, "pictures").tobytes()
    assert len(set(found.values())) == 1
    runner = portable.PortableEmbedder(saved.path, saved.sizes, 1)
    with ShardReader(tiny_crops) as reader:
        last = reader.read_picture(asked[-1].shard, asked[-1].offset, asked[-1].size).astype(np.float32)
    expected = runner.describe(last).astype(np.float16)
    assert np.array_equal(np.frombuffer(found[0, 2], np.float16).reshape(len(asked), 32)[-1], expected)


def test_only_new_pictures_are_described_and_a_change_or_another_look_is_new(
    saved: portable.PortableFile, tiny_crops: Path, capsys: pytest.CaptureFixture
) -> None:
    asked = asked_of(images_of(tiny_crops))[:6]
    changed = [describing.Asked(a.shard, a.offset, a.size, a.sha256, c, 1) for a in asked for c in ("zoomed", "rolled")]
    first = describing.describe(saved, tiny_crops, asked[:4], "pictures")
    again = describing.describe(saved, tiny_crops, asked, "pictures")
    described = describing.describe(saved, tiny_crops, changed, "changed queries")
    describing.describe(saved, tiny_crops, changed, "changed queries")
    describing.describe(saved, tiny_crops, asked, "photos", "photo")
    lines = capsys.readouterr().out.splitlines()
    counts = ["4 pictures: 4", "6 pictures: 2", "12 changed queries: 12", "12 changed queries: 0", "6 photos: 6"]
    assert [line.partition(" described")[0] for line in lines] == counts
    assert np.array_equal(again[:4], first)
    assert len(np.unique(np.concatenate([again, described]), axis=0)) == 18
    assert {one.change for one in changed} <= set(CHANGES)


def test_photos_are_seen_as_a_bundle_sees_them(saved: portable.PortableFile, tiny_town: Town) -> None:
    folder = tiny_town.photos
    photos = tables.read(tables.PHOTOS, folder / "photos.parquet").iloc[:4]
    found = describing.describe(saved, folder, asked_of(photos), "photos", "photo")
    runner = portable.PortableEmbedder(saved.path, saved.sizes, 1)
    with ShardReader(folder) as reader:
        for row, (shard, offset, size) in enumerate(photos[["shard", "offset", "size"]].itertuples(index=False)):
            (pixels,) = prepare(read_photo(reader.read(shard, offset, size)).pixels, saved.sizes)
            assert np.array_equal(found[row], runner.describe(pixels).astype(np.float16))


def test_what_a_change_makes_of_a_square_is_seen_as_a_photo(saved: portable.PortableFile, tiny_crops: Path) -> None:
    (one,) = asked_of(tables.read(tables.IMAGES, tiny_crops / "images.parquet").iloc[:1])
    squares_only = replace(saved, sizes=(saved.square,))
    (right,) = describing.describe(squares_only, tiny_crops, [replace(one, change="right")], "changed queries")
    with ShardReader(tiny_crops) as reader:
        picture = perturb(reader.read_picture(one.shard, one.offset, one.size), "right", 0)
    changed = decode(encode_jpeg(picture, 92))
    assert changed is not None and changed.shape[1] < changed.shape[0]
    runner = portable.PortableEmbedder(saved.path, squares_only.sizes, 1)
    parts = [runner.describe(part) for part in prepare(changed, squares_only.sizes)]
    mean = np.mean(parts, axis=0)
    assert len(parts) == 3
    assert np.array_equal(right, (mean / np.linalg.norm(mean)).astype(np.float16))


@pytest.mark.parametrize(("look", "words"), [("square", "there is no picture at"), ("photo", "the photo at")])
def test_what_is_no_picture_is_named_by_a_process_too(
    saved: portable.PortableFile, tiny_crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str,
    words: str,
) -> None:  # fmt: skip
    (tmp_path / "x.tar").write_bytes(b"no picture " * 9)
    asked = [describing.Asked("x.tar", 11 * i, 11, str(i)) for i in range(4)]
    monkeypatch.setattr(describing, "FEW", 0)
    monkeypatch.setattr(describing, "CHUNK", 2)
    with pytest.raises(UserError, match=rf"x\.tar.*{words} 0"):
        describing.describe(saved, tmp_path, asked, "pictures", look)


def test_what_is_missing_or_damaged_is_named(saved: portable.PortableFile, tmp_path: Path) -> None:
    config = tmp_path / portable.CONFIG
    with pytest.raises(UserError, match=rf"{config}: there is no such file; the stage train writes it"):
        portable.find(tmp_path)
    for text in ("{", "[]", "{}", json.dumps({"photo_sizes": [[1]], "dimensions": 4})):
        config.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=rf"{config}: does not say .* train again"):
            portable.find(tmp_path)
    config.write_bytes((saved.path.parent / portable.CONFIG).read_bytes())
    file = tmp_path / portable.FILE
    with pytest.raises(UserError, match=rf"{file}: there is no such file; the stage train writes it"):
        portable.find(tmp_path)
    file.write_bytes(b"no network")
    with pytest.raises(UserError, match=rf"{file}: LiteRT cannot read it .* run the stage train again"):
        portable.PortableEmbedder(file, saved.sizes, 1, "train")
    with pytest.raises(UserError, match=r"takes no pictures of \(10, 10\)"):
        portable.PortableEmbedder(saved.path, [(10, 10)], 1, "train")
