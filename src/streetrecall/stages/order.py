"""Stage `order`: pick places by levels of shrinking radius, from the start point outwards. Each level has a split."""

from __future__ import annotations

import argparse
import logging
from array import array
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import write_json
from streetrecall.geo import check_start, distance_m, in_disc, project
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Level, Params

log = logging.getLogger(__name__)

AT_ONCE = 1024  # most neighbourhoods that are queried together
WINDOW = 8192  # rows among which the next points without a pick nearby are looked for


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--panoramas", type=Path, required=True, help="PANORAMAS table to read")
    parser.add_argument("--locations", type=Path, required=True, help="LOCATIONS table to write")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    run(parameters.load(args.params), args.panoramas, args.locations, args.metrics)


def run(params: Params, panoramas: Path, locations: Path, metrics: Path) -> None:
    """Write the LOCATIONS table and its counts.

    Raises:
        UserError: there is no panorama, or one without a position, or `order.start` lies in another city.
    """
    found = tables.read(tables.PANORAMAS, panoramas)
    if found.empty:
        raise UserError(f"{panoramas}: has no panorama; see metrics/metadata.json for the answers of the provider")
    lost = np.flatnonzero(~np.isfinite(found[["lat", "lon"]].to_numpy()).all(axis=1))
    if len(lost):
        raise UserError(f"{panoramas}: panorama '{found['pano_id'].iloc[lost[0]]}' (row {lost[0]}) has no position")
    check_start(params.order.start, found["lat"], found["lon"])
    picked = order(found, params)
    tables.write(tables.LOCATIONS, picked, locations)

    levels = picked.groupby("level").size()
    counts = {
        "panoramas": len(found),
        "places": len(picked),
        "places_by_level": {
            f"{i}_{level.radius_m:g}m": int(levels.get(i, 0)) for i, level in enumerate(params.order.levels)
        },
        "places_by_split": {str(k): int(v) for k, v in picked.groupby("split").size().items()},
        "start_distance_max_m": round(float(picked["start_distance_m"].max()), 1),
    }
    write_json(metrics, counts)
    log.info("%d places from %d panoramas", len(picked), len(found))


def order(panoramas: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Pick places from ``panoramas`` (PANORAMAS columns, any order); returns LOCATIONS columns.

    Panoramas are sorted by geodesic distance to ``order.start``, and by id where distances are equal. In that order,
    each level picks every panorama that is outside the discs (`streetrecall.geo.in_disc`, metres of ``city.crs``) of
    the level's radius around all earlier picks, of this level and of those before, and at least the level's ``apart_m``
    from the earlier picks of other splits. Panoramas beyond the grid are for the levels of split gallery alone.

    Where a collection states splits (a column ``split``), every panorama is a place of its split: a test set of others
    is asked as a whole, or its numbers could not be compared. Its level is the first one of that split.
    """
    by_id = (
        panoramas if panoramas["pano_id"].is_monotonic_increasing else panoramas.sort_values("pano_id", kind="stable")
    )
    lat, lon = by_id["lat"].to_numpy(float), by_id["lon"].to_numpy(float)
    distance = distance_m(lat, lon, *params.order.start)
    near_first = np.argsort(distance, kind="stable")
    xy = np.column_stack(project(lat[near_first], lon[near_first], params.city.crs))
    levels = params.order.levels
    splits = pd.array([level.split for level in levels], dtype="str")
    if "split" in by_id.columns:
        first_level = {split: number for number, split in reversed(list(enumerate(splits)))}
        split = by_id["split"].array.take(near_first)
        level = np.array([first_level.get(each, 0) for each in split], np.int64)
        rank = np.arange(len(by_id))  # of each place
    else:
        rank, level = pick(xy, levels, params.order.quadrant_segments, by_id["beyond"].to_numpy(bool)[near_first])
        split = splits.take(level)
    # From here on there are only the places, which are often few among the panoramas.
    rows, x, y = near_first[rank], xy[rank, 0], xy[rank, 1]
    del near_first, xy  # of millions of panoramas, hundreds of megabytes
    values = {
        "place": np.arange(len(rank)),
        "pano_id": by_id["pano_id"].array.take(rows),  # not through Python's strings, of 70 bytes each
        "lat": lat[rows],
        "lon": lon[rows],
        "month": by_id["month"].array.take(rows),
        "x": x,
        "y": y,
        "level": level,
        "radius_m": np.array([each.radius_m for each in levels])[level],
        "split": split,
        "rank": rank,
        "start_distance_m": distance[rows],
    }
    return pd.DataFrame({name: values[name] for name in tables.LOCATIONS.columns}, copy=False)


def pick(
    xy: NDArray[np.float64],
    levels: Sequence[Level],
    quadrant_segments: int,
    beyond: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Greedy picks from points ``xy`` (n, 2) in metres, in row order, level by level.

    Points ``beyond`` (n,) are picked by levels of split gallery alone.

    Returns the rows of the picked points, in the order of the picks, and the level of each pick.
    The cost is O(n log n) for points of bounded density: a k-d tree is queried for the neighbourhood of each pick and
    of few other points, many at a time, and in each level for the earlier pick that is nearest to each point.

    >>> levels = [Level(radius_m=radius, split="train", apart_m=0.0) for radius in (10.0, 5.0)]
    >>> pick(np.array([[0.0, 0.0], [4.0, 0.0], [9.0, 0.0], [14.0, 0.0]]), levels, 16)
    (array([0, 3, 2]), array([0, 0, 1]))
    """
    n = len(xy)
    picked, level_of = array("q"), array("h")  # 10 bytes a pick; lists take 48
    tree = cKDTree(xy)
    for number, level in enumerate(levels):
        radius = level.radius_m
        taken = bytearray(n)  # the loop below reads single items, which is slow with numpy
        excluded = np.frombuffer(taken, dtype=np.uint8)
        earlier = np.array(picked, np.int64)
        excluded[_near_any(tree, earlier, radius, quadrant_segments)] = 1
        excluded[earlier] = 1
        if beyond is not None and level.split != "gallery":
            excluded[beyond] = 1
        if level.apart_m:
            other = np.array([each.split != level.split for each in levels])
            excluded[_nearer_than(tree, earlier[other[np.array(level_of, int)]], level.apart_m)] = 1
        row, at_once = 0, 1
        while row < n:
            free = row + np.flatnonzero(excluded[row : row + WINDOW] == 0)[:at_once]
            row = int(free[-1]) + 1 if len(free) == at_once else row + WINDOW
            around, ends = _in_discs(tree, free, radius, quadrant_segments)
            start, before = 0, len(picked)
            for i, end in zip(free.tolist(), ends.tolist(), strict=True):
                if not taken[i]:
                    picked.append(i)
                    level_of.append(number)
                    excluded[around[start:end]] = 1
                start = end
            # So at most half of the queries are of points that an earlier one of them takes.
            at_once = min(max(1, 2 * (len(picked) - before)), AT_ONCE)
    return np.array(picked, np.int64), np.array(level_of, np.int64)


def _in_discs(
    tree: cKDTree, rows: NDArray[np.int64], radius: float, quadrant_segments: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Points of ``tree`` inside the disc around each of its points ``rows``, and where those of each end."""
    if not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    found = tree.query_ball_point(tree.data[rows], radius, return_sorted=False)
    counts = np.fromiter(map(len, found), np.int64, len(found))
    near = np.fromiter(chain.from_iterable(found), np.int64, int(counts.sum()))
    offset = tree.data[near] - np.repeat(tree.data[rows], counts, axis=0)
    inside = in_disc(offset[:, 0], offset[:, 1], radius, quadrant_segments)
    return near[inside], np.cumsum(inside, dtype=np.int64)[np.cumsum(counts) - 1]


def _nearer_than(tree: cKDTree, others: NDArray[np.int64], apart_m: float) -> NDArray[np.int64]:
    """Points of ``tree`` that are nearer than ``apart_m`` metres to any of its points ``others``."""
    if not len(others):
        return np.empty(0, np.int64)
    nearest, _ = cKDTree(tree.data[others]).query(tree.data)
    return np.flatnonzero(nearest < apart_m)


def _near_any(tree: cKDTree, picked: NDArray[np.int64], radius: float, quadrant_segments: int) -> NDArray[np.int64]:
    """Points of ``tree`` inside the disc around any of ``picked``.

    A point within the inner circle of the disc around its nearest pick is inside, and one beyond the outer circle is
    outside. Only for points between the two circles are all picks around compared.
    """
    if not len(picked):
        return np.empty(0, np.int64)
    xy = tree.data
    picks = cKDTree(xy[picked])
    nearest, _ = picks.query(xy, distance_upper_bound=radius)
    inner = radius * np.cos(np.pi / (4 * quadrant_segments)) if quadrant_segments else radius
    inside = nearest < inner
    for i in np.flatnonzero(~inside & (nearest <= radius)):
        offset = xy[i] - picks.data[picks.query_ball_point(xy[i], radius)]
        inside[i] = in_disc(offset[:, 0], offset[:, 1], radius, quadrant_segments).any()
    return np.flatnonzero(inside)
