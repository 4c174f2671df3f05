"""A tiny collection: pictures of coloured patterns, one pattern a view, changed a little from date to date."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from tinytown import Town, make_town

from streetrecall import tables
from streetrecall.pictures import shards

MONTHS = ["2022-06", "2017-07", "2009-07"]


def make_crops(folder: Path, places: dict[str, int], size: int = 64, directions: int = 2) -> Path:
    """A crops folder with so many places in each split, ``directions`` headings and three dates of each."""
    rng = np.random.default_rng(5)
    rows, place = [], 0
    for split, count in places.items():
        members = []
        for _ in range(count):
            place += 1
            for direction in range(directions):
                pattern = cv2.resize(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8), (size, size))
                for date, month in enumerate(MONTHS):
                    noise = rng.normal(0, 25, (1, 1, 3)) + rng.normal(0, 8, pattern.shape)
                    picture = np.clip(pattern + noise, 0, 255).astype(np.uint8)
                    data = cv2.imencode(".jpg", picture)[1].tobytes()
                    members.append((f"{place:05d}_{direction}_{date}.jpg", data))
                    rows.append(
                        {"place": place, "direction": direction, "date_index": date, "month": month, "split": split,
                         "name": members[-1][0], "size": len(data), "sha256": f"{place}-{direction}-{date}",
                         "x": 200.0 * place}
                    )  # fmt: skip
        shard = f"shared/{split}/{split}.tar"
        placed = {m.name: m.offset for m in shards.write_shard(folder / shard, members)}
        for row in rows:
            if row["split"] == split:
                row |= {"shard": shard, "offset": placed[row["name"]]}
    table = pd.DataFrame(rows).sort_values(["split", "place", "direction", "date_index"], ignore_index=True)
    table["image_id"] = np.arange(len(table))
    table["subset"] = table["split"] + "_v1"
    table = table.assign(
        heading_deg=0.0, pano_id="p", lat=59.0, lon=18.0, y=0.0, phash="0" * 16, luminance_mean=100.0,
        luminance_std=50.0, width=size, height=size, quarantine="", provider="simulated", licence="", attribution="",
        source="",
    )  # fmt: skip
    tables.write(tables.IMAGES, table, folder / "images.parquet")
    for empty, names in ((tables.VIEWS, ("views", "training")), (tables.PHOTOS, ("photos", "validation"))):
        for name in names:
            tables.write(empty, pd.DataFrame(columns=list(empty.columns)), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="session")
def tiny_crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_crops(tmp_path_factory.mktemp("crops"), {"train": 6, "validation": 4, "test": 3})
