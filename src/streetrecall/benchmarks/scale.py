"""Benchmark `scale`: the stage order over millions of panoramas, and the memory that it takes."""

from __future__ import annotations

import argparse
import re
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from streetrecall.benchmarks.rows import Row, show
from streetrecall.geo import project, unproject
from streetrecall.params.schema import Params, load
from streetrecall.stages.order import order

OPTIONS = [("panoramas", 1_000_000, "number of panoramas to order")]
SPACING_M = 11.0  # between neighbouring panoramas
JITTER_M = 2.0  # standard deviation of their positions
_IDS = "{:022d}"  # as long as the ids of Google


def run(args: argparse.Namespace) -> list[Row]:
    """Print how fast panoramas all over a square are ordered by ``order.levels``, and this process's peak memory."""
    params = load(args.params)
    panoramas = over_a_square(params, args.panoramas)
    before = peak_gb()
    began = time.perf_counter()
    places = len(order(panoramas, params))
    took = time.perf_counter() - began
    note = f"{places:,} places; peak memory {peak_gb():.1f} GB, {before:.1f} GB of it for the table"
    rows = [Row(f"order of {len(panoramas):,} panoramas", "panorama", len(panoramas) / took, note=note)]
    print(show(rows))
    return rows


def over_a_square(params: Params, count: int) -> pd.DataFrame:
    """The columns of PANORAMAS that `order` reads: about ``count`` rows around ``order.start``, some 11 m apart."""
    side = int(count**0.5)
    rng = np.random.default_rng(0)
    (east,), (north,) = project([params.order.start[0]], [params.order.start[1]], params.city.crs)
    steps = (np.arange(side) - side / 2) * SPACING_M
    x = np.repeat(steps, side) + east + rng.normal(0, JITTER_M, side**2)
    y = np.tile(steps, side) + north + rng.normal(0, JITTER_M, side**2)
    lat, lon = unproject(x, y, params.city.crs)
    ids = [_IDS.format(number) for number in range(side**2)]
    return pd.DataFrame({"pano_id": ids, "lat": lat, "lon": lon, "month": "2020-01", "beyond": False})


def peak_gb() -> float:
    """The largest memory that this process has had, 10^9 bytes.

    Linux counts for ``ru_maxrss`` what the process was before it began this program, so the kernel's own file is read.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="ascii"), re.MULTILINE)
        return int(line) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
