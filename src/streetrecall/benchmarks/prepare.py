"""Benchmark `prepare`: grid, order of places and cropping, beside what a user would write with a library."""

from __future__ import annotations

import argparse
import io
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.benchmarks.rows import Row, best_of, show
from streetrecall.params.schema import Params, load

OPTIONS = [
    ("candidates", 850_000, "number of points of the grid's bounding box"),
    ("panoramas", 6_500, "number of panoramas to order"),
    ("frames", 450, "number of captures to crop"),
]
RADIUS_M = 35.0
TIMES = 3


def run(args: argparse.Namespace) -> list[Row]:
    """Print the speeds of grid, order and crop beside their peers."""
    params = load(args.params)
    rows = [grid(args.candidates), *order(params, args.panoramas), crop(params, args.frames)]
    print(show(rows))
    return rows


def grid(candidates: int) -> Row:
    """Points inside a polygon, beside ``GeoSeries.within`` of geopandas."""
    import geopandas as gpd
    import shapely

    from streetrecall.stages.grid import points_inside

    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    radius = 0.05 * (1 + 0.3 * np.sin(5 * angle) + 0.1 * np.sin(31 * angle))
    star = shapely.Polygon(np.stack([18.0 + radius * np.cos(angle), 59.3 + radius * np.sin(angle)], axis=1))
    polygon = shapely.MultiPolygon([star])
    side = int(candidates**0.5)
    west, south, east, north = star.bounds
    columns, lines = np.linspace(west, east, side), np.linspace(south, north, side)

    def by_geopandas() -> int:
        lon, lat = np.meshgrid(columns, lines)
        return int(gpd.GeoSeries(gpd.points_from_xy(lon.ravel(), lat.ravel())).within(polygon).sum())

    def by_us() -> int:
        return len(points_inside(polygon, columns, lines))

    if by_us() != by_geopandas():
        raise AssertionError("the two grids differ")
    took, peer = best_of(TIMES, by_us), best_of(1, by_geopandas)
    return Row(f"grid of {side**2:,} candidates", "point", side**2 / took, "GeoSeries.within", side**2 / peer)


def order(params: Params, count: int) -> list[Row]:
    """Greedy picks, beside the union of buffers and beside a ball tree with a loop."""
    from sklearn.neighbors import BallTree  # type: ignore[import-untyped]

    from streetrecall.params.schema import Level
    from streetrecall.stages.order import pick

    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 35.0 * count**0.5, (count, 2))
    xy = xy[np.argsort(np.hypot(*(xy - xy.mean(axis=0)).T))]
    level = [Level(radius_m=RADIUS_M, split="train", apart_m=0.0)]

    def by_us() -> NDArray[np.int64]:
        return pick(xy, level, 0)[0]

    def by_tree() -> NDArray[np.int64]:
        around = BallTree(xy).query_radius(xy, RADIUS_M)
        free = np.ones(len(xy), bool)
        picked = []
        for row in range(len(xy)):
            if free[row]:
                picked.append(row)
                free[around[row]] = False
        return np.array(picked)

    few = xy[: min(count, 1500)]
    if not np.array_equal(by_us(), by_tree()):
        raise AssertionError("the two orders differ")
    ours = len(xy) / best_of(TIMES, by_us)
    union = len(few) / best_of(1, partial(_by_union, few))
    tree, task = len(xy) / best_of(TIMES, by_tree), f"order of {count:,} panoramas"
    return [
        Row(task, "panorama", ours, "BallTree of scikit-learn, loop", tree),
        Row(task, "panorama", ours, "unary_union of buffers", union, f"the peer ordered {len(few):,} of them"),
    ]


def _by_union(xy: NDArray[np.float64]) -> list[int]:
    """The way of the original: a point is picked if it is outside the union of the buffers of earlier picks."""
    import shapely

    covered: Any = shapely.Polygon()
    picked = []
    for row, point in enumerate(map(shapely.Point, xy.tolist())):
        if not covered.contains(point):
            picked.append(row)
            covered = shapely.unary_union([covered, point.buffer(RADIUS_M)])
    return picked


def crop(params: Params, count: int) -> Row:
    """Raw frames from shards to crops in shards with hashes, beside a loop of Pillow that writes files."""
    from PIL import Image

    from streetrecall.pictures import shards
    from streetrecall.stages.crop import Source, make_shards
    from streetrecall.store.results import Results

    settings = params.crop
    size = (params.scrape.width, params.scrape.height)
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(8):
        small = Image.fromarray(rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8))
        encoded = io.BytesIO()
        small.resize(size, Image.Resampling.BICUBIC).save(encoded, "PNG", compress_level=1)
        frames.append(encoded.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        captures, crops = Path(folder) / "captures", Path(folder) / "crops"
        sources: dict[str, list[Source]] = {}
        per_shard = max(1, count // 8)
        for number in range(0, count, per_shard):
            names = [f"{row:06d}.png" for row in range(number, min(number + per_shard, count))]
            members = shards.write_shard(
                captures / f"{number}.tar", [(name, frames[i % 8]) for i, name in enumerate(names)]
            )
            sources[f"{number}.tar"] = [
                Source(number + i, f"{number}.tar", m.offset, m.size, f"{number}-{i}", f"{m.name}.jpg")
                for i, m in enumerate(members)
            ]  # fmt: skip

        def by_us() -> None:
            nothing = Path(tempfile.mkdtemp(dir=folder))
            list(make_shards(settings, captures, crops, sources, Results(nothing)))

        def by_pillow() -> None:
            for row in range(count):
                with Image.open(io.BytesIO(frames[row % 8])) as frame:
                    left, top, right, bottom = settings.box
                    small = (
                        frame.crop((left, top, right, bottom))
                        .convert("RGB")
                        .resize((settings.size,) * 2, Image.Resampling.BICUBIC)
                    )
                    small.save(Path(folder) / f"{row}.jpg", quality=settings.quality)

        ours, peer = best_of(2, by_us), best_of(2, by_pillow)
    return Row(
        f"crop of {count:,} frames", "frame", count / ours, "Pillow, loop", count / peer,
        "ours also hashes them and writes shards",
    )  # fmt: skip
