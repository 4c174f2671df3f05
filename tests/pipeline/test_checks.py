"""Checks in a DVC pipeline: a bad table stops `dvc repro`; after a changed threshold, its check alone runs again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from streetrecall import geo, tables
from streetrecall.expectations.common import NAMES, suite_of
from streetrecall.params.schema import load

ROOT = Path(__file__).parents[2]
MAKE = """
import pathlib, shutil, sys
pathlib.Path("data").mkdir(exist_ok=True)
shutil.copy(sys.argv[1], sys.argv[2])
"""


class Project:
    """A git and DVC repository with three stages: panoramas are made, checked, and used by the next stage."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "make.py").write_text(MAKE)
        (root / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        (root / ".gitignore").write_text("data\n")
        checking = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["check_panoramas"]
        checking["deps"] = [d for d in checking["deps"] if d.startswith("data/")]
        checking["cmd"] = checking["cmd"].replace("streetrecall ", f"{sys.executable} -m streetrecall.cli ", 1)
        made = ("panoramas", "no_coverage", "grid")
        stages = {
            "make": {
                "cmd": [f"{sys.executable} make.py source/{n}.parquet data/{n}.parquet" for n in made],
                "deps": ["make.py", *(f"source/{n}.parquet" for n in made)],
                "outs": [f"data/{n}.parquet" for n in made],
            },
            "check_panoramas": checking,
            "use": {
                "cmd": f"{sys.executable} make.py data/panoramas.parquet data/used.parquet",
                "deps": ["data/checks/panoramas.ok", "data/panoramas.parquet"],
                "outs": ["data/used.parquet"],
            },
        }
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
        self.run("git", "init", "-q")
        self.dvc("init", "-q")
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(p for p in (str(ROOT / "src"), os.environ.get("PYTHONPATH")) if p)
        return subprocess.run(
            command,
            cwd=self.root,
            env=os.environ | {"DVC_NO_ANALYTICS": "1", "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=check,
        )

    def dvc(self, *arguments: str, check: bool = True) -> str:
        done = self.run(sys.executable, "-m", "dvc", *arguments, check=check)
        self.code = done.returncode
        return done.stdout + done.stderr

    def repro(self) -> tuple[list[str], str]:
        """Names of the stages that ran, and all that was printed."""
        text = self.dvc("repro", check=False)
        return [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage '")], text

    def report(self) -> dict[str, object]:
        return dict(json.loads((self.root / "metrics/validation/panoramas.json").read_text()))

    def set(self, key: str, value: object) -> None:
        path = self.root / "params.yaml"
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        document["checks"]["panoramas"][key] = value
        path.write_text(yaml.safe_dump(document), encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    params = load(ROOT / "params.yaml")
    steps = np.arange(400)
    (x0,), (y0,) = geo.project([59.3249], [18.0694], params.city.crs)
    lat, lon = geo.unproject(x0 + 10.0 * (steps % 20), y0 + 10.0 * (steps // 20), params.city.crs)
    grid = pd.DataFrame({"point_id": steps, "lat": lat, "lon": lon})
    found = grid.iloc[::10].reset_index(drop=True)
    panoramas = found.assign(
        pano_id=[f"pano{i:02d}" for i in found.index],
        lat=found["lat"] + 0.0001,
        month="2020-05",
        beyond=False,
        provider="simulated",
        licence="CC0-1.0",
        attribution="nobody",
    )
    panoramas["offset_m"] = geo.distance_m(found["lat"], found["lon"], panoramas["lat"], panoramas["lon"])
    tables.write(tables.GRID, grid, tmp_path / "source/grid.parquet")
    tables.write(tables.PANORAMAS, panoramas, tmp_path / "source/panoramas.parquet")
    tables.write(tables.NO_COVERAGE, grid.iloc[5::20].assign(status="NONE"), tmp_path / "source/no_coverage.parquet")
    return Project(tmp_path)


def spoil(project: Project) -> None:
    path = project.root / "source/panoramas.parquet"
    panoramas = tables.read(tables.PANORAMAS, path)
    panoramas.loc[[3, 8], "month"] = "2020-13"
    tables.write(tables.PANORAMAS, panoramas, path)


@pytest.mark.slow
def test_a_check_stops_the_pipeline_and_a_threshold_runs_the_check_alone(project: Project) -> None:
    ran, text = project.repro()
    assert ran == ["make", "check_panoramas", "use"], text
    marker = (project.root / "data/checks/panoramas.ok").read_bytes()
    used = (project.root / "data/used.parquet").read_bytes()

    ran, text = project.repro()
    assert ran == []

    # A tighter threshold that holds: the check runs, its marker stays the same, and no later stage runs.
    project.set("max_median_offset_m", 20.0)
    ran, text = project.repro()
    assert ran == ["check_panoramas"], text
    assert (project.root / "data/checks/panoramas.ok").read_bytes() == marker

    # A threshold that does not hold: the pipeline stops at the check, and the report gives the reason.
    project.set("max_median_offset_m", 1.0)
    ran, text = project.repro()
    assert ran == ["check_panoramas"] and project.code != 0
    assert "check panoramas: FAILED, 1 of" in text and "expect_column_median_to_be_between (offset_m)" in text
    assert project.report()["failed"] == 1, "the report of the failed check is written"
    assert not (project.root / "data/checks/panoramas.ok").exists()

    # The threshold before: DVC has that result in its cache, so not even the check runs.
    project.set("max_median_offset_m", 20.0)
    ran, text = project.repro()
    assert ran == [] and project.code == 0, text
    assert (project.root / "data/checks/panoramas.ok").read_bytes() == marker
    assert project.report()["failed"] == 0

    # A corrupted table: its stage runs, the check fails, and the next stage does not run.
    spoil(project)
    ran, text = project.repro()
    assert ran == ["make", "check_panoramas"] and project.code != 0
    assert "2 of 40 rows do not meet it" in text and "pano_id=pano03" in text
    assert project.report()["failed"] == 1
    assert (project.root / "data/used.parquet").read_bytes() == used
    assert (project.root / "data/panoramas.parquet").read_bytes() != used


def test_dvc_yaml_and_the_suites_agree() -> None:
    """Each check depends on what its suite reads by default and on its module and keys; the next stage waits for it."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    waited_for = {dep for stage in stages.values() for dep in stage["deps"]}
    for name in NAMES:
        stage = stages[f"check_{name}"]
        assert stage["cmd"].split() == ["streetrecall", "check", name], "the paths are the defaults of the suite"
        for path in suite_of(name).INPUTS.values():
            assert any(Path(dep).is_relative_to(path) for dep in stage["deps"]), f"{path} is no dependency of {name}"
        assert f"src/streetrecall/expectations/{name}.py" in stage["deps"]
        for dep in stage["deps"]:
            assert dep.startswith(("data/", "models/", "${")) or (ROOT / dep).exists(), dep
        assert f"checks.{name}" in stage["params"]
        markers = [f"data/checks/{marker}.ok" for marker in (name, *getattr(suite_of(name), "MARKERS", {}))]
        assert stage["outs"] == markers
        assert set(markers[1:]) <= waited_for
        assert stage["metrics"] == [{f"metrics/validation/{name}.json": {"cache": False}}]
        assert name == "predictions" or f"data/checks/{name}.ok" in waited_for, "no stage waits for the last check"
