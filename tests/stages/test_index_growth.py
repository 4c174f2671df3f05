"""The stage `index` describes only new photos and changed queries, and the output is that of a run from nothing.

For pictures and views see `test_only_new_pictures_are_described_and_the_index_is_the_same`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_city import build
from tinytown import make_town

from streetrecall import tables
from streetrecall.pictures.codec import decode
from streetrecall.stages import index


class MeanColours:
    """In place of an embedder: a picture's descriptor is made of its mean colour. ``seen`` counts pictures."""

    dimensions, batch_size, takes_any_shape = 6, 4, True
    photo_sizes = ((192, 256), (256, 192), (224, 224))

    def __init__(self, weights: str = "some") -> None:
        self.seen, self._weights = 0, weights

    def identity(self) -> dict[str, Any]:
        return {"weights": self._weights}

    def describe_pixels(self, pictures: list[np.ndarray]) -> np.ndarray:
        self.seen += len(pictures)
        means = np.array([picture.mean(axis=(0, 1)) for picture in pictures]) / 255
        return np.hstack([means, means**2])

    def describe(self, jpegs: list[bytes]) -> np.ndarray:
        decoded = [decode(jpeg) for jpeg in jpegs]
        return self.describe_pixels([picture for picture in decoded if picture is not None])


def test_only_new_photos_are_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    town = make_town(tmp_path / "town", places=8)
    photos = tables.read(tables.PHOTOS, town.photos / "photos.parquet")
    embedder: Any = MeanColours()
    few = index.describe_photos(embedder, town.photos, photos.iloc[[1, 4, 6]])
    assert embedder.seen == 3
    grown = index.describe_photos(embedder, town.photos, photos)
    assert embedder.seen == len(photos) == 8
    assert (grown[[1, 4, 6]] == few).all()
    other: Any = MeanColours("others")
    index.describe_photos(other, town.photos, photos)
    assert other.seen == 8, "nothing is known of other weights"
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / "empty"))
    assert (index.describe_photos(embedder, town.photos, photos) == grown).all()
    assert embedder.seen == 16


def test_only_new_changed_queries_are_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    city = build(tmp_path / "city", places=6)
    images, rows = tables.read(tables.IMAGES, city.crops / "images.parquet"), city.rows()
    images["sha256"] = [f"{i:064x}" for i in images["image_id"]]
    asked = pd.DataFrame(columns=list(tables.PHOTOS.columns))
    embedder: Any = MeanColours()
    few = index.describe_perturbed(embedder, city.crops, images, rows[rows["place"] < 3], asked)
    known = embedder.seen
    assert known == len(few) > 0
    grown = index.describe_perturbed(embedder, city.crops, images, rows, asked)
    assert embedder.seen == len(grown) > known
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / "empty"))
    assert (index.describe_perturbed(embedder, city.crops, images, rows, asked) == grown).all()
    assert embedder.seen == 2 * len(grown)
