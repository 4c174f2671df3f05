"""Stage `metadata`: ask the provider, point by point, where panoramas exist.

Each answer of a network provider is in the ledger before the next is awaited, so a killed run goes on where it was and
asks nothing twice. The tables are a pure function of the grid and the answers.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from streetrecall import geo, tables
from streetrecall.errors import UserError
from streetrecall.files import write_json
from streetrecall.params.schema import Params, load
from streetrecall.providers import open_provider
from streetrecall.providers.base import FAILED, Coverage, Panorama, Provider
from streetrecall.store.ledger import Answer, Ledger

log = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grid", type=Path, required=True, help="table of grid points")
    parser.add_argument("--archive", type=Path, required=True, help="folder of the provider 'archive'")
    parser.add_argument("--panoramas", type=Path, required=True, help="table to write")
    parser.add_argument("--no-coverage", type=Path, required=True, help="table to write")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    run(load(args.params), args.grid, args.archive, args.panoramas, args.no_coverage, args.metrics)


def run(params: Params, grid: Path, archive: Path, panoramas: Path, no_coverage: Path, metrics: Path) -> None:
    """Write the panoramas found, the points without imagery, and the counts of both.

    Raises:
        UserError: the provider cannot be used, refused to go on, or knows no panorama near any point.
    """
    points = tables.read(tables.GRID, grid)
    provider = open_provider(params, archive)
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
        log.warning("%d points got no answer; dvc repro --force metadata asks these alone", len(failed))
    log.info(
        "%d panoramas, %d points without imagery, %d never asked", len(found), len(gaps), len(points) - len(answers)
    )


def ask(params: Params, provider: Provider, points: pd.DataFrame) -> list[Coverage]:
    """One answer for each point that the provider knows anything of, from the ledger where it is there already."""
    radius = params.metadata.radius_m
    if not provider.network:
        return list(provider.coverage(points, radius))
    asked = points.assign(
        lat=points["lat"].round(params.metadata.decimals), lon=points["lon"].round(params.metadata.decimals)
    )
    with Ledger() as ledger, ledger.hold(provider.namespace, "metadata"):
        known = ledger.answers(provider.namespace, radius)
        keys = list(zip(asked["lat"], asked["lon"], strict=True))
        answers = [
            _coverage(point_id, known[key])
            for point_id, key in zip(asked["point_id"], keys, strict=True)
            if key in known
        ]
        missing = asked[[key not in known for key in keys]]
        place = dict(zip(missing["point_id"], zip(missing["lat"], missing["lon"], strict=True), strict=True))
        log.info("%d grid points, %d of them known already, %d to ask", len(points), len(answers), len(missing))
        coverage: Iterable[Coverage] = provider.coverage(missing, radius) if len(missing) else ()
        pause = 0.2 if sys.stderr.isatty() else 10.0  # seconds between two lines of a log
        for answer in tqdm(coverage, "metadata", len(missing), unit="point", mininterval=pause, disable=missing.empty):
            if answer.status != FAILED:
                ledger.record_answers(provider.namespace, radius, [_answer(answer, *place[answer.point_id])])
            answers.append(answer)
    return answers


def assemble(
    points: pd.DataFrame, answers: list[Coverage], provider: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[Coverage]]:
    """The tables PANORAMAS and NO_COVERAGE, and the points without an answer.

    A panorama that several points found is told once, with the nearest of them (the lowest id of equally near ones).
    """
    place = points.set_index("point_id")[["lat", "lon"]]
    hits = [(a.point_id, a.panorama) for a in answers if a.panorama is not None]
    found = pd.DataFrame(
        [(p.pano_id, p.lat, p.lon, p.month, point_id, provider, p.licence, p.attribution) for point_id, p in hits],
        columns=["pano_id", "lat", "lon", "month", "point_id", "provider", "licence", "attribution"],
    )
    origin = place.loc[found["point_id"].to_numpy()]
    found["offset_m"] = geo.distance_m(origin["lat"], origin["lon"], found["lat"], found["lon"])
    found = found.sort_values(["pano_id", "offset_m", "point_id"]).drop_duplicates("pano_id")
    empty = [a for a in answers if a.panorama is None and a.status != FAILED]
    gaps = pd.DataFrame({"point_id": [a.point_id for a in empty], "status": [a.status for a in empty]})
    origin = place.loc[gaps["point_id"].to_numpy()]
    gaps = gaps.assign(lat=origin["lat"].to_numpy(), lon=origin["lon"].to_numpy())
    return found, gaps, sorted((a for a in answers if a.status == FAILED), key=lambda a: a.point_id)


def measure(
    points: pd.DataFrame, answers: list[Coverage], found: pd.DataFrame, gaps: pd.DataFrame, failed: list[Coverage]
) -> dict[str, Any]:
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
