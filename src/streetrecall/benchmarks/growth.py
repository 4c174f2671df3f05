"""Benchmark `growth`: what more places of split gallery, a new snapshot or no change cost, beside a run from nothing.

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
    ("snapshot", 1, "0: without a new snapshot"),
    ("quick", 0, "1: fewer dates and directions, a smaller head and at most two epochs"),
]
GOAL = 0.15  # of the time of a run from nothing
CITY = "benchmark"
SPEED = "metrics/plots/train_speed.csv"  # what the stage train says of its epochs
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
    """Print what a run from nothing, none, more places and a new snapshot cost, stage by stage.

    The speed of the training in the run from nothing is compared with that of its steps alone, without the waiting.

    Raises:
        UserError: the last level of order.levels is not of split gallery, or a stage failed.
    """
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        copy = Copy.make(Path.cwd(), Path(folder))
        params = load(args.params)
        polygon = rectangle(params, args.width, args.height)
        write_text(copy.folder / f"data/cities/{CITY}.geojson", json.dumps(polygon))
        changes: dict[str, Any] = {"provider": "simulated", "city.name": CITY, "photos.spots": args.spots}
        changes |= shortened(params, args.steps, bool(args.quick))
        copy.set(changes)
        collected = copy.repro("check_panoramas")
        fewer, more = levels(
            tables.read(tables.PANORAMAS, copy.folder / "data/panoramas.parquet"), copy.params(), args.percent / 100
        )
        copy.set({"order.levels": fewer})
        rest = copy.repro()
        nothing = Run(collected.seconds + rest.seconds, collected.stages | rest.stages)
        training = training_row(pd.read_csv(copy.folder / SPEED))
        before = places(copy)
        unchanged = copy.repro()
        if unchanged.stages:
            raise UserError(f"dvc repro without a change ran stages again: {', '.join(unchanged.stages)}")
        copy.set({"order.levels": more})
        growth = copy.repro()
        after = places(copy)
        runs = {"from nothing": nothing, "no change": unchanged, f"{after - before} more places": growth}
        if args.snapshot:
            copy.set({"metadata.snapshot": f"{params.metadata.snapshot}-again"})
            runs["new snapshot"] = copy.repro()
    print(by_stage(runs))
    share = growth.seconds / nothing.seconds
    print(f"\n{after - before} more places of the gallery, beside {before}, cost {share:.1%} of a run from nothing.")
    print(f"The goal is below {GOAL:.0%}.\n")
    peer = ("a run from nothing", before / nothing.seconds)
    rows = [
        training,
        Row("dvc repro without a change", "gallery place", before / unchanged.seconds, *peer,
            f"{unchanged.seconds:.1f} s, {nothing.seconds:.0f} s from nothing"),
        Row(f"{after / before - 1:.0%} more places", "gallery place", after / growth.seconds, *peer, f"{share:.1%}"),
    ]  # fmt: skip
    if args.snapshot:
        again = runs["new snapshot"].seconds
        note = f"{again / nothing.seconds:.1%}"
        rows.append(Row("a new snapshot of the same places", "gallery place", after / again, *peer, note))
    print(show(rows))
    return rows


def shortened(params: Params, steps: int, quick: bool) -> dict[str, Any]:
    """Changes of params.yaml for ``steps`` in each epoch (0: none), and for all that makes a ``quick`` run.

    A quick run spends a smaller part of its time in the training, which growth saves; so its ratios are smaller.
    """
    changes: dict[str, Any] = {}
    views = params.train.views
    if steps or quick:
        phases = [phase.model_dump() for phase in views.phases]
        for phase in phases:
            phase["steps"] = steps or phase["steps"]
            phase["epochs"] = min(phase["epochs"], 2) if quick else phase["epochs"]
        changes["train.views.phases"] = phases
    if quick:
        branches = [branch.model_dump() for branch in views.branches]
        for branch in branches:
            if "clusters" in branch:
                branch["clusters"] = min(branch["clusters"], 16)
        changes |= {
            "scrape.training_dates": min(params.scrape.training_dates, 4),
            "views.directions": min(params.views.directions, 6),
            "evaluate.bootstrap_draws": 200,
            "train.head.dimensions": min(params.train.head.dimensions, 256),
            "train.head.components": min(params.train.head.components, 512),
            "train.views.branches": branches,
        }
    return changes


def training_row(epochs: pd.DataFrame) -> Row:
    """The training's pictures per second beside those of its steps alone.

    ``epochs`` is what the stage train writes: for each epoch, of as many pictures, its speed and its share of waiting.

    >>> training_row(pd.DataFrame({"images_per_second": [50.0, 50.0], "waiting": [0.05, 0.15]})).note
    'waits 10.0% of its time for data'

    Raises:
        UserError: nothing was trained.
    """
    if epochs.empty:
        raise UserError("train.views.phases: no epoch is trained, so there is no speed of training to measure")
    seconds = 1 / epochs["images_per_second"]  # of a picture
    waiting = float((seconds * epochs["waiting"]).sum() / seconds.sum())
    speed = float(1 / seconds.mean())
    peer = ("its steps alone, without waiting for data", speed / (1 - waiting))
    return Row("train", "picture", speed, *peer, f"waits {waiting:.1%} of its time for data")


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
