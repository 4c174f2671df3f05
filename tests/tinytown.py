"""A tiny town of views and photos: each place is a band of colours all around, changed a little from date to date."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall import tables
from streetrecall.pictures import shards

MONTHS = ["2022-06", "2017-07", "2009-07"]


@dataclass(frozen=True)
class Town:
    """Folders of views and of photos."""

    views: Path
    photos: Path


def make_town(folder: Path, places: int = 12, size: int = 64) -> Town:
    """Places 40 m apart with three dates, each a band of colours all around: 12 gallery views of two dates, eight
    jittered training views of all dates of every second place, and two photos of every other place, which are of
    validation and test by turns."""
    rng = np.random.default_rng(7)
    square = (size, size)
    views, photos = [], []
    for place in range(places):
        band = np.tile(cv2.resize(rng.integers(0, 256, (5, 24, 3)).astype(np.uint8), (360, size)), (1, 2, 1))
        common = {"place": place, "x": 40.0 * place, "y": 0.0, "lat": 59.0, "lon": 18.0}
        common["split"] = "train" if place % 2 else ("validation", "test")[place // 2 % 2]
        for date, month in enumerate(MONTHS):
            noisy = np.clip(band + rng.normal(0, 25, (1, 1, 3)) + rng.normal(0, 6, band.shape), 0, 255).astype(np.uint8)
            about = common | {"month": month, "pano_id": f"{place}-{date}"}
            if date:
                views += [
                    about | {"use": "gallery", "heading_deg": h, "jpeg": see(noisy, h, square)}
                    for h in np.arange(0.0, 360.0, 30.0)
                ]
            if place % 2:
                views += [
                    about | {"use": "train", "heading_deg": h, "jpeg": see(noisy, h, square)}
                    for h in np.arange(0.0, 360.0, 45.0) + rng.uniform(0, 10)
                ]
            elif not date:
                photos += [
                    common | {"month": month, "spot": place, "heading_deg": h, "width": shape[0], "height": shape[1],
                              "jpeg": see(noisy, h, shape)}
                    for h, shape in ((rng.uniform(0, 360), (64, 48)), (rng.uniform(0, 360), (48, 64)))
                ]  # fmt: skip
    unknown = dict.fromkeys(("provider", "licence", "attribution"), "")
    view_table = shelve(views, folder / "views").assign(
        **unknown, subset="", fov_deg=60.0, width=size, height=size, view_id=np.arange(len(views))
    )
    tables.write(tables.VIEWS, view_table, folder / "views/views.parquet")
    training = view_table["split"].isin(["train", "validation"])
    tables.write(tables.VIEWS, view_table[training], folder / "views/training.parquet")
    photo_table = shelve(photos, folder / "photos").assign(
        **unknown, **dict.fromkeys(("pitch_deg", "roll_deg", "distance_m", "angle_deg"), 0.0), fov_deg=60.0,
        height_m=1.6, near=True, photo_id=np.arange(len(photos)),
    )  # fmt: skip
    tables.write(tables.PHOTOS, photo_table, folder / "photos/photos.parquet")
    validation = photo_table["split"] == "validation"
    tables.write(tables.PHOTOS, photo_table[validation], folder / "photos/validation.parquet")
    return Town(folder / "views", folder / "photos")


def see(band: NDArray[np.uint8], heading: float, shape: tuple[int, int]) -> bytes:
    """A JPEG of the part of ``band`` (h, 720, 3), two turns, that is 60 degrees wide around ``heading``."""
    start = round(heading) % 360
    return bytes(cv2.imencode(".jpg", cv2.resize(band[:, start : start + 60], shape))[1].tobytes())


def shelve(rows: list[dict[str, Any]], folder: Path) -> pd.DataFrame:
    """The table of ``rows``, whose pictures are in one shard below ``folder``."""
    placed = shards.write_shard(folder / "shared/all.tar", [(f"{i:05d}.jpg", r["jpeg"]) for i, r in enumerate(rows)])
    table = pd.DataFrame(rows).assign(shard="shared/all.tar", offset=[m.offset for m in placed])
    table["size"] = [m.size for m in placed]
    table["sha256"] = [hashlib.sha256(data).hexdigest() for data in table.pop("jpeg")]
    return table
