"""The whole pipeline in a copy of this folder: on a small simulated city, and on a bounded part of the archive."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from bundleagreement import differences
from smallproject import ROOT, Project

from streetrecall import tables
from streetrecall.params.edit import override
from streetrecall.params.schema import load

from .s3server import Server, bucket, join, server

__all__ = ["bucket", "server"]  # fixtures

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3000)]

# A part of the default city, some 260 by 220 m.
SMALL_CITY = [[18.0665, 59.3240], [18.0710, 59.3240], [18.0710, 59.3260], [18.0665, 59.3260], [18.0665, 59.3240]]
QUICK = {
    "evaluate.bootstrap_draws": 200,
    "photos.spots": 8,
    "scrape.training_dates": 4,
    "views.directions": 6,
    # The closed-form start of the whole head takes minutes on any number of pictures.
    "train.head.dimensions": 256,
    "train.head.components": 512,
    "train.head.branches": [
        {
            "pool": "vlad",
            "map": "block5c_add",
            "channels": 32,
            "clusters": 16,
            "sharpness": 50.0,
            "weight": 1.0,
        },
        {"pool": "grid", "map": "block6d_add", "channels": 16, "weight": 1.0},
    ],
    "train.views.branches": [
        {
            "pool": "vlad",
            "map": "block5c_add",
            "channels": 64,
            "clusters": 16,
            "sharpness": 50.0,
            "weight": 1.0,
        },
    ],
    "train.phases": [
        {
            "start": "pca",
            "trains_after": "block4c_add",
            "epochs": 1,
            "steps": 4,
            "learning_rate": 0.0003,
            "patience": 1,
        },
        {
            "start": "lda",
            "trains_after": "block4c_add",
            "epochs": 0,
            "steps": 0,
            "learning_rate": 0.0003,
            "patience": 1,
        },
    ],
    "train.views.phases": [
        {
            "start": "lda",
            "trains_after": "block4c_add",
            "epochs": 1,
            "steps": 4,
            "learning_rate": 0.0003,
            "patience": 1,
        },
    ],
}
PLACES = 40  # of each of the archive's collections


@pytest.fixture
def copy(tmp_path: Path, team_env: dict[str, str]) -> Project:
    """This folder as git would take it, committed, with an empty cache and an empty store."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    root = tmp_path / "streetrecall"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    project = Project(root, team_env | {"STREETRECALL_STORE": str(tmp_path / "store"), "PYTHONPATH": str(root / "src")})
    project.git("init", "-q")
    project.commit("Start")
    return project


def repro(project: Project, *command: str) -> tuple[str, float]:
    """Run the pipeline; returns its output and the time it took, seconds."""
    begun = time.monotonic()
    done = subprocess.run(
        command or ("dvc", "repro"), cwd=project.root, env=project.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout, time.monotonic() - begun


def running(text: str) -> list[str]:
    return re.findall(r"^Running stage '([a-z_]+)'", text, re.M)


def assert_measured(project: Project) -> None:
    metrics = json.loads((project.root / "metrics/evaluate.json").read_text(encoding="utf-8"))
    measured = metrics["model"]["test"]["newest_vs_older"]
    assert 0 <= measured["recall_at_1_25m"] <= measured["recall_at_20_25m"] <= 1
    assert measured["queries"] > 0
    checks = sorted((project.root / "metrics/validation").glob("*.json"))
    assert len(checks) >= 6
    assert all(json.loads(path.read_text(encoding="utf-8"))["success"] for path in checks)
    assert "25 m" in project.run("streetrecall", "summary").stdout


def test_a_small_city_from_grid_to_report(copy: Project, server: Server, bucket: str, tmp_path: Path) -> None:
    polygon = {"type": "Polygon", "coordinates": [SMALL_CITY]}
    (copy.root / "data/cities/small.geojson").write_text(json.dumps(polygon), encoding="utf-8")
    *levels, last = (level.model_dump() for level in load(copy.root / "params.yaml").order.levels)
    sparse = last | {"radius_m": 8.0}
    override(copy.root / "params.yaml", QUICK | {"city.name": "small", "order.levels": [*levels, sparse]})
    copy.commit("A small city")
    said, seconds = repro(copy)
    print(f"the whole pipeline on a small city: {seconds:.0f} s")
    assert {"grid", "metadata", "order", "scrape", "crop", "train", "index", "evaluate", "bundle"} <= set(running(said))
    assert_measured(copy)
    compared, different = differences(copy.root)
    assert compared > 0
    assert different == [], "a bundle answers as the evaluation does"

    said, seconds = repro(copy)
    print(f"again, with nothing to do: {seconds:.1f} s")
    assert "Data and pipelines are up to date." in said
    assert running(said) == []
    assert seconds < 15

    copy.run("streetrecall", "stale")
    copy.commit("Run it")
    copy.run("streetrecall", "report", "HEAD", "--output", "report.md", "--plots", "drawn")
    assert "**Passes.**" in (copy.root / "report.md").read_text(encoding="utf-8")
    assert list((copy.root / "drawn").glob("*.svg"))

    share(copy, server, bucket, tmp_path)
    experiment(copy)
    grow(copy, [*levels, sparse, last])

    module = copy.root / "src/streetrecall/stages/crop.py"
    module.write_text(module.read_text(encoding="utf-8") + "# a remark\n", encoding="utf-8")
    said, _ = repro(copy)
    assert running(said) == ["crop"], "what crop wrote did not change, so nothing after it runs"


def share(copy: Project, server: Server, bucket: str, tmp_path: Path) -> None:
    """A teammate pulls, and neither scrapes nor trains."""
    asked, begun = server.requests(), time.monotonic()
    join(copy, server, bucket).dvc("push")
    print(f"push to S3: {server.requests() - asked:.0f} requests, {time.monotonic() - begun:.1f} s")
    clone = copy.clone(tmp_path / "clone")
    mine = {"STREETRECALL_STORE": str(tmp_path / "other"), "PYTHONPATH": str(clone.root / "src")}
    mate = join(Project(clone.root, copy.env | mine), server, bucket)
    asked, begun = server.requests(), time.monotonic()
    mate.dvc("pull")
    print(f"pull from S3: {server.requests() - asked:.0f} requests, {time.monotonic() - begun:.1f} s")
    said, _ = repro(mate)
    assert "Data and pipelines are up to date." in said
    assert running(said) == []
    assert not (tmp_path / "other").exists()


def experiment(copy: Project) -> None:
    """An override runs only the stages that it affects; two workers compare a grid of them."""
    measuring = {"evaluate", "check_predictions", "bundle"}
    said = copy.dvc("exp", "run", "-n", "drawn", "-S", "evaluate.seed=9").stdout
    assert set(running(said)) <= measuring and "evaluate" in running(said)
    copy.commit("Draw anew")
    before = copy.git("status", "--porcelain")
    said = copy.dvc("exp", "run", "--temp", "-n", "aside", "-S", "evaluate.confidence=0.9").stdout
    assert set(running(said)) <= measuring and "evaluate" in running(said)
    assert copy.git("status", "--porcelain") == before
    table = copy.run("streetrecall", "sweep", "evaluate.confidence=0.8,0.99", "--jobs", "2").stdout
    assert len([line for line in table.splitlines() if line.startswith("| ")]) >= 4
    shown = copy.dvc("exp", "show", "--only-changed", "--csv", "--drop", "evaluate.json").stdout
    assert "aside" in shown
    copy.dvc("exp", "apply", "aside")
    assert "confidence: 0.9" in (copy.root / "params.yaml").read_text(encoding="utf-8")
    copy.dvc("exp", "diff")
    copy.git("checkout", "-q", ".")
    copy.dvc("checkout", "-q")


def grow(copy: Project, levels: list[dict[str, object]]) -> None:
    """One more level of places that only answer: nothing is trained, and only new pictures are cut and described."""

    def read(table: tables.Table, path: str) -> pd.DataFrame:
        return tables.read(table, copy.root / path)

    trained_on = (
        "data/views/training.parquet",
        "data/photos/validation.parquet",
        "models/embedder/embedder.weights.h5",
    )
    before = {path: (copy.root / path).read_bytes() for path in trained_on}
    seen, asked = read(tables.VIEWS, "models/index/views.parquet"), read(tables.PHOTOS, "data/photos/photos.parquet")
    override(copy.root / "params.yaml", {"order.levels": levels})
    said, seconds = repro(copy)
    grown = read(tables.VIEWS, "models/index/views.parquet")
    print(f"{grown['place'].nunique() - seen['place'].nunique()} more places of the gallery: {seconds:.0f} s")
    assert not {"grid", "metadata", "train", "baseline"} & set(running(said))
    assert {"order", "scrape", "views", "photos", "sift_vlad", "index", "evaluate", "bundle"} <= set(running(said))
    assert {path: (copy.root / path).read_bytes() for path in trained_on} == before
    near = asked["shard"].str.split("/").str[1] != "elsewhere"
    still = read(tables.PHOTOS, "data/photos/photos.parquet").head(near.sum())
    assert still["sha256"].tolist() == asked.loc[near, "sha256"].tolist()
    assert set(seen["sha256"]) < set(grown["sha256"])
    assert f"{len(grown)} views: {len(set(grown['sha256']) - set(seen['sha256']))} described" in said
    assert re.search(r"\d+ pictures: 0 described", said)


@pytest.mark.archive
def test_the_archive_by_one_command(copy: Project, archive: Path, tmp_path: Path) -> None:
    little = tmp_path / "little"
    for folder in archive.iterdir():
        if folder.name != "data" and folder.is_dir():
            (little / folder.name).parent.mkdir(parents=True, exist_ok=True)
            (little / folder.name).symlink_to(folder)
    for collection in (archive / "data/images").iterdir():
        of_place: dict[int, list[Path]] = {}
        for path in collection.rglob("*.jpg"):
            of_place.setdefault(int(path.name.split("_")[0]), []).append(path)
        for place in sorted(of_place)[:PLACES]:
            for path in of_place[place]:
                link = little / path.relative_to(archive)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
    override(copy.root / "params.yaml", QUICK | {"checks.captures.max_uncollected_share_of": {"archive": 1.0}})
    copy.env["STREETRECALL_ARCHIVE"] = str(little)
    said, seconds = repro(copy, "sh", "scripts/repro.sh")
    print(f"the whole pipeline on {PLACES} places of each collection: {seconds:.0f} s")
    assert "train" in running(said)
    assert_measured(copy)
    assert not list((copy.root / "data/crops/shared").rglob("*.tar"))
    assert list((copy.root / "data/crops/local").rglob("*.tar"))
    shared = tmp_path / "remote"
    copy.dvc("remote", "add", "--local", "here", str(shared))
    copy.dvc("push", "-r", "here")
    largest = max((path.stat().st_size for path in (copy.root / "data/crops/local").rglob("*.tar")), default=0)
    assert largest not in {path.stat().st_size for path in shared.rglob("*") if path.is_file()}
