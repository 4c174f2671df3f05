"""The input files of the stage `evaluate` for a city of a few places, with descriptors of known quality."""

from __future__ import annotations

import io
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from streetrecall import geo, tables
from streetrecall.params.schema import Params
from streetrecall.pictures import shards
from streetrecall.stages import evaluate

MONTHS = ("2022-05", "2019-09", "2014-07", "2010-03")


@dataclass(frozen=True)
class SmallCity:
    folder: Path

    @property
    def index(self) -> Path:
        return self.folder / "models/index"

    @property
    def baseline(self) -> Path:
        return self.folder / "models/baseline"

    @property
    def sift_vlad(self) -> Path:
        return self.folder / "models/sift_vlad"

    @property
    def networks(self) -> Path:
        return self.folder / "models/networks"

    @property
    def systems(self) -> dict[str, Path]:
        return {"model": self.index, "baseline": self.baseline, "sift_vlad": self.sift_vlad}

    @property
    def crops(self) -> Path:
        return self.folder / "data/crops"

    def rows(self) -> pd.DataFrame:
        return tables.read(tables.DESCRIPTORS, self.index / "rows.parquet")

    def evaluate(self, params: Params, out: Path | None = None) -> dict:
        out = out or self.folder
        return evaluate.run(
            params,
            evaluate.Described(self.index, self.baseline, self.sift_vlad, self.networks),
            self.crops / "images.parquet",
            (self.folder / "data/photos", self.folder / "data/views"),
            out / "data/results",
            out / "metrics/evaluate.json",
            out / "metrics/headline.json",
            out / "metrics/plots",
        )


def build(folder: Path, places: int = 24, noise: tuple[float, float] = (0.9, 1.6), seed: int = 0) -> SmallCity:
    """``places`` places 150 m apart, a third of each split, with pictures and descriptors of the two noise levels: that
    of the model and that of the baselines."""
    city = SmallCity(folder)
    rng = np.random.default_rng(seed)
    lines = []
    for place in range(places):
        split = ("test", "train", "validation")[place % 3]
        for direction in range(4):
            lines += [(split, place, direction, i, month) for i, month in enumerate(MONTHS)]
    rows = pd.DataFrame(lines, columns=["split", "place", "direction", "date_index", "month"])
    rows = rows.sort_values(["split", "place", "direction", "date_index"], ignore_index=True)
    rows["image_id"] = np.arange(len(rows))
    rows["subset"] = rows["split"] + np.where(rows["place"] % 6 < 3, "_v1", "_v2")
    rows["x"] = 674_000.0 + 150 * (rows["place"] % 6)
    rows["y"] = 6_580_000.0 + 150 * (rows["place"] // 6)
    rows["lat"], rows["lon"] = geo.unproject(rows["x"], rows["y"], "EPSG:3006")
    rows["role"] = np.where(rows["date_index"] == 0, "query", "gallery")

    pictures = []
    for line in rows.to_dict("records"):
        colour = tuple(int(c) for c in np.random.default_rng([line["place"], line["direction"]]).integers(40, 220, 3))
        buffer = io.BytesIO()
        Image.new("RGB", (224, 224), colour).save(buffer, "jpeg")
        pictures.append((f"{line['image_id']:06d}.jpg", buffer.getvalue()))
    members = shards.write_shard(city.crops / "shared/all.tar", pictures)
    images = rows.assign(
        heading_deg=rows["direction"] * 90.0 + 10,
        shard="shared/all.tar",
        offset=[m.offset for m in members],
        size=[m.size for m in members],
        luminance_mean=100.0,
        luminance_std=30.0,
        width=224,
        height=224,
        provider="simulated",
        attribution="drawn for a test",
        **dict.fromkeys(("pano_id", "sha256", "phash", "quarantine", "licence", "source"), ""),
    )
    tables.write(tables.IMAGES, images, city.crops / "images.parquet")
    centres = rng.normal(size=(places * 4, 32))
    for target, level in ((city.index, noise[0]), (city.baseline, noise[1]), (city.sift_vlad, noise[1])):
        descriptors = centres[rows["place"] * 4 + rows["direction"]] + level * rng.normal(size=(len(rows), 32))
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        write_descriptors(target, rows, descriptors)
    without_photos(city.index)
    without_photos(city.sift_vlad)
    return city


def without_photos(index: Path) -> None:
    """Empty tables of views and photos, as a provider without photos has."""
    for table, name in ((tables.VIEWS, "views"), (tables.PHOTOS, "photos")):
        tables.write(table, pd.DataFrame(columns=list(table.columns)), index / f"{name}.parquet")
        np.save(index / f"{name}.npy", np.zeros((0, 32), np.float16))


def write_descriptors(folder: Path, rows: pd.DataFrame, descriptors: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tables.write(tables.DESCRIPTORS, rows, folder / "rows.parquet")
    np.save(folder / "descriptors.npy", descriptors.astype(np.float16))


class ExactIndex:
    """Exact search with the interface of the approximate index; it returns the worst answers to `spoiled` queries."""

    spoiled = 0

    def __init__(self, folder: Path) -> None:
        rows = tables.read(tables.DESCRIPTORS, folder / "rows.parquet")
        descriptors = np.load(folder / "descriptors.npy").astype(np.float32)
        self.gallery = descriptors[(rows["role"] == "gallery").to_numpy()]

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        similarities = np.asarray(queries, np.float32) @ self.gallery.T
        best = np.argsort(-similarities, axis=1, kind="stable")
        best[: self.spoiled] = best[: self.spoiled, ::-1]
        best = best[:, :k]
        values = np.take_along_axis(similarities, best, axis=1)
        return best, -np.sort(-values, axis=1)


def use_exact_index(monkeypatch: pytest.MonkeyPatch, spoiled: int = 0) -> None:
    """Replace the ScaNN index that the stage loads by exact search, because these tests are not about ScaNN."""
    import streetrecall.retrieval

    replacement = types.ModuleType("streetrecall.retrieval.index")
    replacement.load = type("Index", (ExactIndex,), {"spoiled": spoiled})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "streetrecall.retrieval.index", replacement)
    monkeypatch.setattr(streetrecall.retrieval, "index", replacement, raising=False)
