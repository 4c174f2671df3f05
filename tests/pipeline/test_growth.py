"""Places of split gallery are added and `dvc repro` runs: the real stages views and photos, and their checks.

The stages that train and describe have their data dependencies of dvc.yaml, and a command that only notes that it ran.
The whole pipeline is in tests/team/test_pipeline.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from capturing import write_captures

from streetrecall import tables
from streetrecall.geo import project, unproject
from streetrecall.params.edit import override
from streetrecall.params.schema import load
from streetrecall.pictures.codec import encode_jpeg
from streetrecall.providers.base import Capture, CaptureRequest, Panorama

ROOT = Path(__file__).parents[2]
NOTED = ("baseline", "sift_vlad", "networks", "train", "index")
STAGES = ("views", "check_views", "photos", "check_photos", *NOTED)
NOT_HERE = re.compile(r"\$|src/|data/(crops|cities|networks|checks/(crops|captures))|models/embedder")
SPLITS = ["train", "train", "validation", "validation", "test", "test"]
FEW = 1  # places of split gallery before the growth
DATES = 3


def locations(dense: int) -> pd.DataFrame:
    """Places in a row, 60 m apart, and ``dense`` ones of split gallery, 20 m beside every second of them."""
    at = np.array([*range(len(SPLITS)), *(2 * i for i in range(dense))])
    split = [*SPLITS, *["gallery"] * dense]
    frame = pd.DataFrame({"place": range(len(at)), "rank": range(len(at)), "split": split, "month": "2023-05"})
    frame["level"] = [{"train": 0, "validation": 1, "test": 2, "gallery": 3}[name] for name in split]
    (x,), (y,) = project([59.32], [18.06], "EPSG:3006")
    frame["x"], frame["y"] = x + 60.0 * at, y + np.where(frame["split"] == "gallery", 20.0, 0.0)
    frame["lat"], frame["lon"] = unproject(frame["x"], frame["y"], "EPSG:3006")
    frame["pano_id"] = [f"p{place}-0" for place in frame["place"]]
    return frame.assign(start_distance_m=60.0 * at, radius_m=10.0)


def collect(root: Path, dense: int) -> None:
    """Captures of all places: a sphere for each date. Dense places show the month of the photos."""
    places, taken = locations(dense), []
    for row in places.itertuples():
        for date in range(1 if row.split == "gallery" else 0, DATES):
            month = f"{2023 - date}-05" if row.split != "gallery" or date > 1 else "2023-05"
            panorama = Panorama(f"p{row.place}-{date}", row.lat, row.lon, month, "CC0-1.0", "nobody")
            facts = {"projection": "equirectangular", "fov_deg": 360.0, "horizon": 0.5}
            request = CaptureRequest(row.place, 0, 0.0, date, panorama, row.split, f"{row.split}_v1", **facts)
            coarse = np.random.default_rng([row.place, date]).integers(0, 255, (32, 64, 3), dtype=np.uint8)
            picture = coarse.repeat(8, axis=0).repeat(8, axis=1)
            taken.append(Capture(request, "ok", "", encode_jpeg(picture, 95)))
    write_captures(taken, places, root / "data/captures", "panoramax")
    tables.write(tables.LOCATIONS, places, root / "data/locations.parquet")


@pytest.fixture
def project_folder(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    listed = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stages = {}
    for name in STAGES:
        stage = listed[name]
        command = stage["cmd"].replace("streetrecall ", f"{sys.executable} -m streetrecall.cli ", 1)
        stages[name] = {
            "cmd": command,
            "deps": [dep for dep in stage["deps"] if not NOT_HERE.search(dep)],
            "params": [key for key in stage["params"] if "$" not in key],
            "outs": stage["outs"],
        }
        if name in NOTED:
            (out,) = stage["outs"]
            stages[name]["cmd"] = f"mkdir -p {out} && touch {out}/done"
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False), encoding="utf-8")
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    views = load(root / "params.yaml").views
    override(
        root / "params.yaml",
        {"provider": "panoramax", "photos.spots": 2, "photos.long_side": 96, "views.size": 64,
         "views.training": views.training.model_dump() | {"size": 64}},
    )  # fmt: skip
    for folder in ("data", "models"):
        (root / folder).mkdir()
        (root / folder / ".gitignore").write_text("*\n!.gitignore\n", encoding="utf-8")
    collect(root, FEW)
    return root


def repro(root: Path) -> list[str]:
    """The stages that ran."""
    path = os.pathsep.join(p for p in (str(ROOT / "src"), os.environ.get("PYTHONPATH")) if p)
    env = os.environ | {"DVC_NO_ANALYTICS": "1", "PYTHONPATH": path}
    if not (root / ".dvc").exists():
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, env=env, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=root, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^Running stage '(\w+)'", done.stdout, re.M)


def test_more_places_of_the_gallery_leave_train_and_hog_up_to_date(project_folder: Path) -> None:
    assert sorted(repro(project_folder)) == sorted(STAGES)
    validation = tables.read(tables.PHOTOS, project_folder / "data/photos/validation.parquet")
    assert len(validation) == 6 and set(validation["month"]) == {"2023-05"}
    collect(project_folder, 2 * FEW)
    ran = repro(project_folder)
    assert {"views", "photos", "index", "sift_vlad", "networks"} <= set(ran)
    assert not {"train", "baseline"} & set(ran)
    views = tables.read(tables.VIEWS, project_folder / "data/views/views.parquet")
    assert views.loc[views["split"] == "gallery", "place"].nunique() == 2 * FEW
