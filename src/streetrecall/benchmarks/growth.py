"""Benchmark `growth`: what more places of split gallery cost, and a new snapshot, beside a run from nothing.

It runs the whole pipeline on a part of the simulated city, in a temporary copy of this project with a store and a cache
of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from streetrecall import tables
from streetrecall.benchmarks.rows import Row, show
from streetrecall.errors import UserError
from streetrecall.external import DVC, git
from streetrecall.files import write_text
from streetrecall.geo import project, unproject
from streetrecall.params.edit import override
from streetrecall.params.schema import Level, Params, load
from streetrecall.printing import plain_table

OPTIONS = [
    ("width", 260, "width of the city, metres"),
    ("height", 220, "height of the city, metres"),
    ("percent", 10, "places of the gallery that are added, percent"),
    ("spots", 50, "photos.spots"),
    ("steps", 0, "steps of each epoch of training on views; 0: as params.yaml says"),
]
GOAL = 0.15  # of the time of a run from nothing
CITY = "benchmark"
_STEP_M = 0.5  # of the radii that are tried
_MARK = re.compile(r"^(Running stage|Stage) '([^']+)'")


@dataclass(frozen=True)
class Run:
    """The time of `dvc repro`, seconds: in all, and of each stage that really ran."""

    seconds: float
    stages: dict[str, float]


@dataclass(frozen=True)
class Copy:
    """A copy of this project in ``folder``, with a store and a cache of its own."""

    folder: Path
    env: dict[str, str]

    @classmethod
    def make(cls, project_folder: Path, folder: Path) -> Copy:
        """Copy what git tracks, and make a repository of it.

        Raises:
            UserError: ``project_folder`` is no clone.
        """
        copy = folder / "project"
        for name in filter(None, git(project_folder, "ls-files", "-z").split("\0")):
            if (project_folder / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project_folder / name, copy / name)
        (copy / "dvc.lock").unlink(missing_ok=True)
        git(copy, "init", "-q")
        paths = {
            "STREETRECALL_STORE": str(folder / "store"),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(copy / "src"), os.environ.get("PYTHONPATH")))),
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        }
        return cls(copy, os.environ | paths | {"PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"})

    def set(self, changes: dict[str, Any]) -> None:
        override(self.folder / "params.yaml", changes)

    def params(self) -> Params:
        return load(self.folder / "params.yaml")

    def repro(self, *stages: str) -> Run:
        """Run `dvc repro`.

        Raises:
            UserError: a stage failed; the last lines of the output are part of the message.
        """
        command = [*DVC, "repro", *stages]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            said: deque[str] = deque(maxlen=30)
            run = timed(kept(process.stdout, said))
        if process.returncode:
            raise UserError(f"dvc repro failed in a copy of this project:\n{''.join(said)}")
        return run


def kept(lines: Iterable[str], last: deque[str]) -> Iterator[str]:
    """``lines`` as they come; ``last`` keeps the newest of them."""
    for line in lines:
        last.append(line)
        yield line


def timed(lines: Iterable[str], clock: Callable[[], float] = time.perf_counter) -> Run:
    """The times of the stages that ``lines``, the output of `dvc repro` as it comes, tell of."""
    began = clock()
    stages: dict[str, float] = {}
    running, since = "", began
    for line in lines:
        mark = _MARK.match(line)
        if mark:
            now = clock()
            if running:
                stages[running] = now - since
            running, since = (mark[2] if mark[1] == "Running stage" else ""), now
    end = clock()
    if running:
        stages[running] = end - since
    return Run(end - began, stages)


def run(args: argparse.Namespace) -> list[Row]:
    """Print what a run from nothing, more places and a new snapshot cost, stage by stage.

    Raises:
        UserError: the last level of order.levels is not of split gallery, or a stage failed.
    """
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        copy = Copy.make(Path.cwd(), Path(folder))
        params = load(args.params)
        polygon = rectangle(params, args.width, args.height)
        write_text(copy.folder / f"data/cities/{CITY}.geojson", json.dumps(polygon))
        changes: dict[str, Any] = {"provider": "simulated", "city.name": CITY, "photos.spots": args.spots}
        if args.steps:
            phases = [phase.model_copy(update={"steps": args.steps}) for phase in params.train.views.phases]
            changes["train.views.phases"] = [phase.model_dump() for phase in phases]
        copy.set(changes)
        collected = copy.repro("check_panoramas")
        fewer, more = levels(
            tables.read(tables.PANORAMAS, copy.folder / "data/panoramas.parquet"), copy.params(), args.percent / 100
        )
        copy.set({"order.levels": fewer})
        rest = copy.repro()
        nothing = Run(collected.seconds + rest.seconds, collected.stages | rest.stages)
        before = places(copy)
        copy.set({"order.levels": more})
        growth = copy.repro()
        after = places(copy)
        copy.set({"metadata.snapshot": f"{params.metadata.snapshot}-again"})
        snapshot = copy.repro()
    print(by_stage({"from nothing": nothing, f"{after - before} more places": growth, "new snapshot": snapshot}))
    share = growth.seconds / nothing.seconds
    print(f"\n{after - before} more places of the gallery, beside {before}, cost {share:.1%} of a run from nothing.")
    print(f"The goal is below {GOAL:.0%}. A new snapshot costs {snapshot.seconds / nothing.seconds:.1%}.\n")
    peer = ("a run from nothing", before / nothing.seconds)
    rows = [
        Row(f"{after / before - 1:.0%} more places", "gallery place", after / growth.seconds, *peer, f"{share:.1%}"),
        Row("a new snapshot of the same places", "gallery place", after / snapshot.seconds, *peer),
    ]
    print(show(rows))
    return rows


def by_stage(runs: dict[str, Run]) -> str:
    """The seconds of each stage in each of ``runs``; empty where it did not run."""
    names = list(dict.fromkeys(name for one in runs.values() for name in one.stages))
    lines = [[name, *(f"{r.stages[name]:.1f}" if name in r.stages else "" for r in runs.values())] for name in names]
    lines.append(["all, with DVC", *(f"{one.seconds:.1f}" for one in runs.values())])
    return plain_table(("stage", *(f"{name}, s" for name in runs)), lines, ruled=True)


def rectangle(params: Params, width_m: float, height_m: float) -> dict[str, Any]:
    """A polygon (GeoJSON, EPSG:4326) of that size around ``order.start``."""
    (x,), (y,) = project([params.order.start[0]], [params.order.start[1]], params.city.crs)
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    lat, lon = unproject(
        [x + east * width_m / 2 for east, _ in corners], [y + north * height_m / 2 for _, north in corners],
        params.city.crs,
    )  # fmt: skip
    ring = [[round(float(a), 6), round(float(b), 6)] for a, b in zip(lon, lat, strict=True)]
    return {"type": "Polygon", "coordinates": [ring]}


def levels(panoramas: pd.DataFrame, params: Params, share: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two lists for ``order.levels``: the last level with a larger radius, and the same with the last level added.

    The radius is chosen so that the second list has about ``share`` more places of split gallery than the first.

    Raises:
        UserError: the last level is not of split gallery, or no radius gives more places.
    """
    from streetrecall.stages.order import order

    *earlier, last = params.order.levels
    if last.split != "gallery":
        raise UserError("order.levels: the last level must be of split gallery; only such places are added")

    def count(chosen: list[Level]) -> int:
        settings = params.order.model_copy(update={"levels": chosen})
        return int((order(panoramas, params.model_copy(update={"order": settings}))["split"] == "gallery").sum())

    best: tuple[float, list[Level]] | None = None
    largest = earlier[-1].radius_m if earlier else 4 * last.radius_m  # levels have shrinking radii
    for radius in np.arange(last.radius_m + _STEP_M, largest + _STEP_M / 2, _STEP_M).tolist():
        fewer = [*earlier, last.model_copy(update={"radius_m": radius})]
        before = count(fewer)
        growth = count([*fewer, last]) / before - 1 if before else 0.0
        if growth > 0 and (best is None or abs(growth - share) < abs(best[0] - share)):
            best = growth, fewer
    if best is None:
        raise UserError("the city is too small: no places can be added; give a larger --width and --height")
    return [level.model_dump() for level in best[1]], [level.model_dump() for level in (*best[1], last)]


def places(copy: Copy) -> int:
    """Number of places of split gallery."""
    found = tables.read(tables.LOCATIONS, copy.folder / "data/locations.parquet")
    return int((found["split"] == "gallery").sum())
