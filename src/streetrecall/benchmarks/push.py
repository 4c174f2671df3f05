"""Benchmark `push`: `dvc push` of pictures in shards, as the stages write them, beside the same pictures as files."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from streetrecall.benchmarks.rows import Row, best_of, show
from streetrecall.external import dvc, git
from streetrecall.pictures.shards import write_shard

OPTIONS = [("pictures", 4000, "number of pictures to push"), ("size", 15_000, "bytes of a picture")]
PER_SHARD = 500
TIMES = 2  # in turns, each to an empty remote; the best counts


def run(args: argparse.Namespace) -> list[Row]:
    """Print pictures per second of `dvc push` to a remote in a folder, the start of DVC included.

    A remote in a folder has no latency, so the ratio is larger where each file takes a request.

    Raises:
        UserError: git or DVC failed.
    """
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as home:
        project = Path(home) / "project"
        loose = project / "loose"
        loose.mkdir(parents=True)
        pictures = [(f"{number:06d}.jpg", rng.bytes(args.size)) for number in range(args.pictures)]
        for name, data in pictures:
            (loose / name).write_bytes(data)
        for start in range(0, args.pictures, PER_SHARD):
            write_shard(project / f"shards/{start:06d}.tar", pictures[start : start + PER_SHARD])
        git(project, "init", "-q")
        dvc(project, "init", "-q")
        dvc(project, "config", "core.analytics", "false")
        dvc(project, "add", "-q", "shards", "loose")
        ours, peer = float("inf"), float("inf")
        for turn in range(TIMES):
            dvc(project, "remote", "add", "-q", f"remote{turn}", str(Path(home) / f"remote{turn}"))
            ours = min(ours, best_of(1, partial(_push, project, turn, "shards.dvc")))
            peer = min(peer, best_of(1, partial(_push, project, turn, "loose.dvc")))
    rows = [
        Row(f"dvc push of {args.pictures:,} pictures in shards of {PER_SHARD}", "picture", args.pictures / ours,
            "dvc push of loose files", args.pictures / peer, "to a folder; both with DVC's start"),
    ]  # fmt: skip
    print(show(rows))
    return rows


def _push(project: Path, turn: int, target: str) -> None:
    dvc(project, "push", "-q", "-r", f"remote{turn}", target)
