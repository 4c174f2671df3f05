"""A project with results, photos, quarantine and a second revision, and a service of it in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_city import build, use_exact_index

from streetrecall import tables
from streetrecall.benchmarks import page
from streetrecall.params.schema import load

ROOT = Path(__file__).parents[1]
RESULTS = "data/results/queries.parquet"
GAINED, LOST = 3, 2


@dataclass(frozen=True)
class Served:
    url: str
    pid: int

    def memory_mb(self) -> float:
        """Resident memory of the service."""
        found = page.resident_mb(self.pid)
        assert found is not None, "this system has no /proc"
        return found


def make_project(folder: Path) -> Path:
    """A small evaluated city in ``folder``, in git, whose working folder has other results than its only commit."""
    city = build(folder, places=12, noise=(1.3, 1.8))
    with pytest.MonkeyPatch.context() as patch:
        use_exact_index(patch)
        params = load(ROOT / "params.yaml")
        quick = params.evaluate.model_copy(update={"bootstrap_draws": 100})
        city.evaluate(params.model_copy(update={"evaluate": quick}))
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "data/cities", folder / "data/cities")
    add_quarantine(folder)
    add_photos(folder)
    commit(folder)
    change(folder)
    return folder


def add_quarantine(folder: Path) -> None:
    path = folder / "data/crops/images.parquet"
    images = tables.read(tables.IMAGES, path)
    extra = images.head(3).assign(image_id=np.arange(3) + len(images), quarantine=["blank", "blank", "wrong_shape"])
    tables.write(tables.IMAGES, pd.concat([images, extra]), path)


def add_photos(folder: Path) -> None:
    """Photos of split test: every fourth picture of the city, each answered by the view of its own place or of place 0.

    The last one is withheld.
    """
    images = tables.read(tables.IMAGES, folder / "data/crops/images.parquet").query("quarantine == ''")
    for name in ("views", "photos"):
        (folder / f"data/{name}").mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder / "data/crops/shared", folder / f"data/{name}/shared", dirs_exist_ok=True)
    older = images[images["date_index"] == 1]
    views = older.assign(view_id=np.arange(len(older)), use="gallery", fov_deg=60.0)
    tables.write(tables.VIEWS, views, folder / "data/views/views.parquet")
    asked = images[(images["date_index"] == 0) & (images["direction"] == 0)].reset_index(drop=True)
    zero = ("pitch_deg", "roll_deg", "distance_m", "angle_deg")
    photos = asked.assign(
        photo_id=asked.index, spot=asked.index // 3, split="test", fov_deg=60.0, height_m=1.6, near=True,
        **dict.fromkeys(zero, 0.0),
    )  # fmt: skip
    tables.write(tables.PHOTOS, photos, folder / "data/photos/photos.parquet")
    right = (np.arange(len(photos)) % 4 > 0).astype(int)
    answers = photos.assign(
        protocol="photos", query=photos["photo_id"], answerable=True, rank_25m=right, rank_50m=right, rank_100m=right,
        answer_place=photos["place"] * right, error_m=300.0 * (1 - right), score=0.8, margin=0.1, inliers=9,
        answered=photos.index < len(photos) - 1, position_lat=photos["lat"], position_lon=photos["lon"],
        position_error_m=0.0, radius_m=40.0,
    )  # fmt: skip
    tables.write(tables.PHOTO_ANSWERS, answers, folder / "data/results/photos.parquet")


def commit(folder: Path) -> None:
    """Put the folder into git, and its results into DVC's cache."""
    from dvc.repo import Repo

    def git(*words: str) -> None:
        who = ("-c", "user.name=A Teammate", "-c", "user.email=teammate@example.org")
        subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    (folder / "dvc.yaml").write_text(f"stages:\n  evaluate:\n    cmd: 'true'\n    outs: [{RESULTS}]\n")
    (folder / "data/results/.gitignore").write_text("*\n")
    with Repo.init(str(folder)) as repo:
        repo.commit(force=True)
    git("add", "dvc.yaml", "dvc.lock", "params.yaml")
    git("commit", "-qm", "First results")


def change(folder: Path) -> None:
    """Let the working folder answer some queries otherwise: `GAINED` right ones and `LOST` ones."""
    path = folder / RESULTS
    table = tables.read(tables.PREDICTIONS, path)
    of = (table["system"] == "model") & (table["scope"] == "test") & (table["protocol"] == "newest_vs_older")
    right = of & (table["rank_25m"] == 1)
    wrong = of & (table["right_images"] > 0) & (table["rank_25m"] != 1)
    gained, lost = table.index[wrong][:GAINED], table.index[right][:LOST]
    assert (len(gained), len(lost)) == (GAINED, LOST)
    table.loc[gained, ["rank_25m", "error_m"]] = [1, 0.0]
    table.loc[lost, ["rank_25m", "error_m"]] = [7, 450.0]
    path.unlink()  # it is a link into the cache on some disks
    tables.write(tables.PREDICTIONS, table, path)


@contextmanager
def serving(*options: str, **env: str) -> Iterator[Served]:
    """`streetrecall serve` in a process of its own, on a free port of loopback."""
    with page.serving(*options, **env) as (url, pid):
        yield Served(url, pid)
