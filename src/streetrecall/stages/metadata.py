"""Stage `metadata`: ask the provider, point by point, where panoramas exist.

Each answer of a network provider is recorded in the ledger at once, so a killed run continues where it was and asks
nothing twice. The tables are a pure function of the grid and the answers. Answers belong to a snapshot
(``metadata.snapshot``): with a new label all points are asked again, and the older answers are kept beside.

A network provider is also asked at points beyond the grid (``metadata.beyond_m``). What is found there alone is only
for the gallery.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from streetrecall import geo, tables
from streetrecall.errors import UserError
from streetrecall.files import write_json
from streetrecall.params.schema import Params, load
from streetrecall.progress import progress
from streetrecall.providers import open_provider
from streetrecall.providers.base import FAILED, Coverage, Panorama, Provider
from streetrecall.store.ledger import Answer, Ledger

log = logging.getLogger(__name__)

CANDIDATES_AT_ONCE = 1_000_000  # points beyond the grid that are in memory before those found twice are removed


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grid", type=Path, required=True, help="GRID table to read")
    parser.add_argument("--panoramas", type=Path, required=True, help="PANORAMAS table to write")
    parser.add_argument("--no-coverage", type=Path, required=True, help="NO_COVERAGE table to write")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    run(load(args.params), args.grid, args.panoramas, args.no_coverage, args.metrics)


def run(params: Params, grid: Path, panoramas: Path, no_coverage: Path, metrics: Path) -> None:
    """Write the panoramas found, the points without imagery, and the counts of both.

    Raises:
        UserError: the provider cannot be used, kept refusing, or knows no panorama near any point.
    """
    points = tables.read(tables.GRID, grid)
    provider = open_provider(params)
    try:
        around = points_beyond(points, params) if provider.network else points.iloc[:0]
        answers = ask(params, provider, pd.concat([points, around], ignore_index=True))
    finally:
        provider.close()
    of_grid = set(points["point_id"])
    beyond = [answer for answer in answers if answer.point_id not in of_grid]
    answers = [answer for answer in answers if answer.point_id in of_grid]
    found, gaps, failed = assemble(points, answers, provider.name)
    failed_beyond = sum(answer.status == FAILED for answer in beyond)
    if found.empty:
        reasons = "; ".join(sorted({answer.reason for answer in failed})[:3])
        raise UserError(
            f"{grid}: no panorama within {params.metadata.radius_m} m of any of {len(points)} points"
            + (f"; {len(failed)} could not be asked ({reasons})" if failed else "")
        )
    further = find_beyond(points, beyond, found, provider.name, params)
    tables.write(tables.PANORAMAS, pd.concat([found, further], ignore_index=True), panoramas)
    tables.write(tables.NO_COVERAGE, gaps, no_coverage)
    write_json(
        metrics,
        measure(points, answers, found, gaps, failed)
        | {"points_beyond": len(around), "points_beyond_failed": failed_beyond, "panoramas_beyond": len(further)},
    )
    for answer in failed[:20]:
        log.warning("point %d: no answer: %s", answer.point_id, answer.reason)
    if len(failed) + failed_beyond:
        log.warning(
            "%d points got no answer; dvc repro --force metadata asks only for these again", len(failed) + failed_beyond
        )
    log.info(
        "%d panoramas and %d beyond the grid, %d points without imagery, %d never asked",
        *(len(found), len(further), len(gaps), len(points) - len(answers)),
    )


def points_beyond(points: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Points (GRID columns) beyond the edge of the grid ``points``, up to ``metadata.beyond_m`` from it.

    They lie on a square lattice of ``grid.spacing_m`` in ``city.crs``. Their ids follow those of the grid. A grid along
    streets has none: they would fill the courtyards between the streets.
    """
    reach_m, spacing_m = params.metadata.beyond_m, params.grid.spacing_m
    if not reach_m or params.grid.kind == "streets":
        return points.iloc[:0]
    x, y = geo.project(points["lat"], points["lon"], params.city.crs)
    xy = np.column_stack([x, y])
    tree = cKDTree(xy)
    # A point with all eight neighbours is inside; the others are the edge, and all points beyond are near it.
    edge = tree.query_ball_point(xy, 1.6 * spacing_m, return_length=True) < 9
    steps = math.ceil(reach_m / spacing_m)
    offsets = np.arange(-steps, steps + 1) * spacing_m
    disc = np.array([(dx, dy) for dx in offsets for dy in offsets if math.hypot(dx, dy) <= reach_m])
    cells = np.empty((0, 2), np.int64)
    for some in np.array_split(xy[edge], math.ceil(edge.sum() * len(disc) / CANDIDATES_AT_ONCE)):
        around = np.round((some[:, None] + disc[None]).reshape(-1, 2) / spacing_m).astype(np.int64)
        cells = np.unique(np.concatenate([cells, around]), axis=0)
    candidates = cells * spacing_m
    distance = tree.query(candidates)[0]
    chosen = candidates[(distance > spacing_m) & (distance <= reach_m)]
    lat, lon = geo.unproject(chosen[:, 0], chosen[:, 1], params.city.crs)
    first = int(points["point_id"].max()) + 1
    return pd.DataFrame({"point_id": np.arange(first, first + len(chosen)), "lat": lat, "lon": lon})


def find_beyond(
    points: pd.DataFrame, answers: list[Coverage], found: pd.DataFrame, provider: str, params: Params
) -> pd.DataFrame:
    """PANORAMAS rows of what the points beyond the grid found and the grid did not, each with its nearest grid point.

    Panoramas farther than ``metadata.beyond_m`` from the grid are left out.
    """
    known = set(found["pano_id"])
    new = {
        a.panorama.pano_id: a.panorama for a in answers if a.panorama is not None and a.panorama.pano_id not in known
    }
    rows = pd.DataFrame(
        [(p.pano_id, p.lat, p.lon, p.month, provider, p.licence, p.attribution) for p in new.values()],
        columns=["pano_id", "lat", "lon", "month", "provider", "licence", "attribution"],
    )
    if rows.empty:
        return found.iloc[:0]
    grid_xy = np.column_stack(geo.project(points["lat"], points["lon"], params.city.crs))
    xy = np.column_stack(geo.project(rows["lat"], rows["lon"], params.city.crs))
    nearest = points.iloc[cKDTree(grid_xy).query(xy)[1]]
    rows["point_id"], rows["beyond"] = nearest["point_id"].to_numpy(), True
    rows["offset_m"] = geo.distance_m(nearest["lat"], nearest["lon"], rows["lat"], rows["lon"])
    return rows[rows["offset_m"] <= params.metadata.beyond_m]


def ask(params: Params, provider: Provider, points: pd.DataFrame) -> list[Coverage]:
    """One answer for each point that the provider has information about: from the ledger if it is there already.

    Points with the same panorama share it, so memory grows by some 200 bytes a point.
    """
    radius, snapshot = params.metadata.radius_m, params.metadata.snapshot
    if not provider.network:
        return list(provider.coverage(points, radius))
    asked = points.assign(
        lat=points["lat"].round(params.metadata.decimals), lon=points["lon"].round(params.metadata.decimals)
    )
    with Ledger() as ledger, ledger.hold(provider.namespace, "metadata"):
        provider.notes = ledger.notes(provider.namespace, snapshot)
        known = ledger.answers(provider.namespace, snapshot, radius)
        keys = list(zip(asked["lat"].tolist(), asked["lon"].tolist(), strict=True))
        one: dict[Panorama | None, Panorama | None] = {}  # each panorama by its value
        answers = [
            _shared(_coverage(point_id, known[key]), one)
            for point_id, key in zip(asked["point_id"].tolist(), keys, strict=True)
            if key in known
        ]
        missing = asked[[key not in known for key in keys]]
        index, lat, lon = pd.Index(missing["point_id"]), missing["lat"].to_numpy(), missing["lon"].to_numpy()
        log.info(
            "%d grid points, %d of them known already in snapshot '%s', %d to ask",
            *(len(points), len(answers), snapshot, len(missing)),
        )
        coverage: Iterable[Coverage] = provider.coverage(missing, radius) if len(missing) else ()
        with progress(len(missing), "metadata", "point") as bar:
            for answer in coverage:
                if answer.status != FAILED:
                    row = index.get_loc(answer.point_id)
                    recorded = _answer(answer, float(lat[row]), float(lon[row]))
                    ledger.record_answers(provider.namespace, snapshot, radius, [recorded])
                answers.append(_shared(answer, one))
                bar.update()
    return answers


def assemble(
    points: pd.DataFrame, answers: list[Coverage], provider: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[Coverage]]:
    """The tables PANORAMAS and NO_COVERAGE, and the points without an answer.

    A panorama that several points found has one row, with the nearest point (of equally near ones, the lowest id).
    """
    position = points.set_index("point_id")[["lat", "lon"]]
    hits = [(a.point_id, a.panorama) for a in answers if a.panorama is not None]
    found = pd.DataFrame(
        [(p.pano_id, p.lat, p.lon, p.month, point_id, provider, p.licence, p.attribution) for point_id, p in hits],
        columns=["pano_id", "lat", "lon", "month", "point_id", "provider", "licence", "attribution"],
    )
    if any(p.split for _, p in hits):
        found["split"] = [p.split for _, p in hits]
    origin = position.loc[found["point_id"].to_numpy()]
    found["offset_m"] = geo.distance_m(origin["lat"], origin["lon"], found["lat"], found["lon"])
    found = found.sort_values(["pano_id", "offset_m", "point_id"]).drop_duplicates("pano_id").assign(beyond=False)
    empty = [a for a in answers if a.panorama is None and a.status != FAILED]
    gaps = pd.DataFrame({"point_id": [a.point_id for a in empty], "status": [a.status for a in empty]})
    origin = position.loc[gaps["point_id"].to_numpy()]
    gaps = gaps.assign(lat=origin["lat"].to_numpy(), lon=origin["lon"].to_numpy())
    return found, gaps, sorted((a for a in answers if a.status == FAILED), key=lambda a: a.point_id)


def measure(
    points: pd.DataFrame, answers: list[Coverage], found: pd.DataFrame, gaps: pd.DataFrame, failed: list[Coverage]
) -> dict[str, Any]:
    """Counts of points and panoramas, and distances of panoramas from their points in metres."""
    return {
        "points": len(points),
        "points_with_panorama": len(answers) - len(gaps) - len(failed),
        "points_without_coverage": len(gaps),
        "points_never_asked": len(points) - len(answers),
        "points_failed": len(failed),
        "panoramas": len(found),
        "panoramas_without_month": int((found["month"] == "").sum()),
        "offset_m": {
            "median": round(float(found["offset_m"].median()), 2),
            "p95": round(float(found["offset_m"].quantile(0.95)), 2),
            "max": round(float(found["offset_m"].max()), 2),
        },
    }


def _answer(coverage: Coverage, lat: float, lon: float) -> Answer:
    p = coverage.panorama
    if p is None:
        return Answer(lat, lon, coverage.status)
    return Answer(lat, lon, coverage.status, p.pano_id, p.lat, p.lon, p.month, p.licence, p.attribution)


def _shared(coverage: Coverage, one: dict[Panorama | None, Panorama | None]) -> Coverage:
    panorama = one.setdefault(coverage.panorama, coverage.panorama)
    return Coverage(coverage.point_id, sys.intern(coverage.status), panorama, coverage.reason)


def _coverage(point_id: int, answer: Answer) -> Coverage:
    if answer.pano_id is None or answer.pano_lat is None or answer.pano_lon is None:
        return Coverage(point_id, answer.status, None)
    panorama = Panorama(
        answer.pano_id,
        answer.pano_lat,
        answer.pano_lon,
        answer.month or "",
        answer.licence or "",
        answer.attribution or "",
    )
    return Coverage(point_id, answer.status, panorama)
