"""Stage `metadata`: ask the provider, point by point, where panoramas exist.

Each answer of a network provider is recorded in the ledger at once, so a killed run continues where it was and asks
nothing twice. The tables are a pure function of the grid and the answers. Answers belong to a snapshot
(``metadata.snapshot``): with a new label all points are asked again, and the older answers are kept beside.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from streetrecall import geo, tables
from streetrecall.errors import UserError
from streetrecall.files import write_json
from streetrecall.params.schema import Params, load
from streetrecall.progress import progress
from streetrecall.providers import open_provider
from streetrecall.providers.base import FAILED, Coverage, Panorama, Provider
from streetrecall.store.ledger import Answer, Ledger

log = logging.getLogger(__name__)


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
        answers = ask(params, provider, points)
    finally:
        provider.close()
    found, gaps, failed = assemble(points, answers, provider.name)
    if found.empty:
        reasons = "; ".join(sorted({answer.reason for answer in failed})[:3])
        raise UserError(
            f"{grid}: no panorama within {params.metadata.radius_m} m of any of {len(points)} points"
            + (f"; {len(failed)} could not be asked ({reasons})" if failed else "")
        )
    tables.write(tables.PANORAMAS, found, panoramas)
    tables.write(tables.NO_COVERAGE, gaps, no_coverage)
    write_json(metrics, measure(points, answers, found, gaps, failed))
    for answer in failed[:20]:
        log.warning("point %d: no answer: %s", answer.point_id, answer.reason)
    if failed:
        log.warning("%d points got no answer; dvc repro --force metadata asks only for these again", len(failed))
    log.info(
        "%d panoramas, %d points without imagery, %d never asked", len(found), len(gaps), len(points) - len(answers)
    )


def ask(params: Params, provider: Provider, points: pd.DataFrame) -> list[Coverage]:
    """One answer for each point that the provider has information about: from the ledger if it is there already."""
    radius, snapshot = params.metadata.radius_m, params.metadata.snapshot
    if not provider.network:
        return list(provider.coverage(points, radius))
    asked = points.assign(
        lat=points["lat"].round(params.metadata.decimals), lon=points["lon"].round(params.metadata.decimals)
    )
    with Ledger() as ledger, ledger.hold(provider.namespace, "metadata"):
        provider.notes = ledger.notes(provider.namespace, snapshot)
        known = ledger.answers(provider.namespace, snapshot, radius)
        keys = list(zip(asked["lat"], asked["lon"], strict=True))
        answers = [
            _coverage(point_id, known[key])
            for point_id, key in zip(asked["point_id"], keys, strict=True)
            if key in known
        ]
        missing = asked[[key not in known for key in keys]]
        position = dict(zip(missing["point_id"], zip(missing["lat"], missing["lon"], strict=True), strict=True))
        log.info(
            "%d grid points, %d of them known already in snapshot '%s', %d to ask",
            *(len(points), len(answers), snapshot, len(missing)),
        )
        coverage: Iterable[Coverage] = provider.coverage(missing, radius) if len(missing) else ()
        with progress(len(missing), "metadata", "point") as bar:
            for answer in coverage:
                if answer.status != FAILED:
                    row = _answer(answer, *position[answer.point_id])
                    ledger.record_answers(provider.namespace, snapshot, radius, [row])
                answers.append(answer)
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
    found = found.sort_values(["pano_id", "offset_m", "point_id"]).drop_duplicates("pano_id")
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
