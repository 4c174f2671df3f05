"""Stage `evaluate`: measure recall, errors and calibration of the model beside the baselines and networks of others.

All systems answer every protocol with the same queries and the same gallery. docs/evaluation.md explains each number.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.figures.map import draw_map
from streetrecall.files import write_json, write_text
from streetrecall.params.schema import Params, load
from streetrecall.retrieval.changed import perturbed_rows
from streetrecall.retrieval.photos import Photos, answer_photos, gallery_of
from streetrecall.retrieval.rank import rank
from streetrecall.scoring import curves, measures, photos
from streetrecall.scoring import system as systems
from streetrecall.scoring.breakdown import compare
from streetrecall.scoring.calibration import calibrate, reliability, with_radius
from streetrecall.scoring.headline import headlines, photo_headlines
from streetrecall.scoring.outcome import Outcome, neighbours, outcome
from streetrecall.scoring.photos import PhotoEvaluation
from streetrecall.scoring.position import locate_queries
from streetrecall.scoring.protocols import CALIBRATION, TEST, Protocol, groups, perturbed_protocols, protocols, scopes
from streetrecall.scoring.system import System, read_described, read_perturbed, read_system
from streetrecall.tables import KS

MODEL, BASELINE, SIFT_VLAD = "model", "baseline", "sift_vlad"  # names of systems, beside those of networks of others
SPLITS = [CALIBRATION, TEST]
SHOWN = 5  # answers to each query in the NEIGHBOURS table
CALIBRATIONS = "calibration.json"  # what a bundle needs to know: thresholds and factors of radii, by protocol
POSITION = "position"  # in it, the calibration of positions from single pictures
SHOWN_PROTOCOLS = ("newest_vs_older", "city")


def configure(parser: argparse.ArgumentParser) -> None:
    for name, text in {
        "index": "folder with the model's descriptors and its index",
        "baseline": "folder with the baseline's descriptors (HOG)",
        "sift_vlad": "folder with the descriptors by SIFT and VLAD",
        "networks": "folder with the descriptors by networks of others",
        "images": "IMAGES table to read",
        "views": "folder of the views' shards",
        "photos": "folder of the photos' shards",
        "results": "folder to write: the tables of answers, positions and neighbours",
        "metrics": "JSON to write: all metrics",
        "headline": "JSON to write: the most important metrics",
        "plots": "folder to write: the curves (CSV) and the map (PNG)",
    }.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, help=text)


def main(args: argparse.Namespace) -> None:
    described = Described(args.index, args.baseline, args.sift_vlad, args.networks)
    pictures = (args.photos, args.views)
    outputs = (args.results, args.metrics, args.headline, args.plots)
    run(load(args.params), described, args.images, pictures, *outputs)


@dataclass(frozen=True)
class Described:
    """Folders of descriptors: of the model, of the baselines, and that of the folders of networks of others."""

    index: Path
    baseline: Path
    sift_vlad: Path
    networks: Path

    def seeing_photos(self, params: Params) -> dict[str, Path]:
        """The folders of all systems but the model that also describe views and photos, by name."""
        others = {network.name: self.networks / network.name for network in params.baseline.networks}
        return {SIFT_VLAD: self.sift_vlad, **others}


@dataclass(frozen=True)
class Evaluation:
    """What was measured of one system. ``outcomes`` is by scope and protocol, ``positions`` has POSITIONS columns."""

    outcomes: dict[tuple[str, str], Outcome]
    positions: pd.DataFrame
    metrics: dict[str, Any]
    curves: dict[str, pd.DataFrame]
    calibration: dict[str, Any]


def run(
    params: Params,
    described: Described,
    images: Path,
    pictures: tuple[Path, Path],
    results: Path,
    metrics: Path,
    headline: Path,
    plots: Path,
) -> dict[str, Any]:
    """Evaluate all systems that are ``described``; returns the content of ``metrics``.

    ``pictures`` are the folders of the photos' and the views' shards.

    Raises:
        UserError: descriptors and rows disagree, or two systems describe different pictures.
    """
    index, seeing = described.index, described.seeing_photos(params)
    model = read_system(MODEL, index)
    others = [read_system(name, folder) for name, folder in {BASELINE: described.baseline, **seeing}.items()]
    for system in others:
        if not model.rows.equals(system.rows):
            raise UserError(f"{index} and {system.name} describe different pictures; {_again(system.name)}")
    table = tables.read(tables.IMAGES, images).set_index("image_id")
    unknown = set(model.rows["image_id"]) - set(table.index)
    if unknown:
        raise UserError(f"{index}/rows.parquet: image_id {min(unknown)} is not in {images}; run the stage index again")

    found = {system.name: evaluate(system, table, params) for system in (model, *others)}
    outcomes = found[MODEL].outcomes
    content = {name: evaluation.metrics for name, evaluation in found.items()}
    asked = evaluate_photos(index, pictures, params)
    asked_of = {MODEL: asked}
    for name, folder in (seeing if asked.metrics else {}).items():
        asked_of[name] = evaluate_photos(folder, pictures, params)
        if not asked_of[name].answers["query"].equals(asked.answers["query"]):
            raise UserError(f"{index} and {name} describe different photos; {_again(name)}")
    for name, evaluation in asked_of.items():
        for (split, protocol), numbers in evaluation.metrics.items():
            content[name].setdefault(split, {})[protocol] = numbers
    for (split, protocol), numbers in evaluate_perturbed(index, model, params).items():
        content[MODEL].setdefault(split, {})[protocol] = numbers
    content["index"] = {split: check_index(index, model, outcomes[split, "city"]) for split in SPLITS}

    plots.mkdir(parents=True, exist_ok=True)
    drawn = {name: {system: e.curves[name] for system, e in found.items()} for name in found[MODEL].curves}
    drawn |= {name: {system: e.curves[name] for system, e in asked_of.items()} for name in asked.curves}
    for name, lines in drawn.items():
        write_text(plots / f"{name}.csv", curves.by_system(lines).to_csv(index=False, lineterminator="\n"))
    draw_map(model.rows, outcomes[TEST, "city"].predictions, plots / "map.png")
    results.mkdir(parents=True, exist_ok=True)
    answers = pd.concat([o.predictions for evaluation in found.values() for o in evaluation.outcomes.values()])
    tables.write(tables.PREDICTIONS, answers, results / "queries.parquet")
    tables.write(tables.POSITIONS, pd.concat([e.positions for e in found.values()]), results / "positions.parquet")
    tables.write(tables.PHOTO_ANSWERS, asked.answers, results / "photos.parquet")
    shown = [neighbours(outcomes[split, name], SHOWN) for split in SPLITS for name in SHOWN_PROTOCOLS]
    tables.write(tables.NEIGHBOURS, pd.concat(shown), results / "neighbours.parquet")
    write_json(results / CALIBRATIONS, {POSITION: found[MODEL].calibration, **asked.calibrations})
    write_json(metrics, content)
    protocol_names = [name for scope, name in outcomes if scope == TEST]
    headlined = {name: headlines(evaluation.metrics, protocol_names) for name, evaluation in found.items()}
    for name, evaluation in asked_of.items():
        headlined[name] |= photo_headlines(evaluation.metrics)
    write_json(headline, headlined)
    return content


def _again(system: str) -> str:
    stage = system if system in (BASELINE, SIFT_VLAD) else "networks"
    return f"run the stages {stage} and index again"


def evaluate(system: System, pictures: pd.DataFrame, params: Params) -> Evaluation:
    """Measure one system under every protocol of every scope; ``pictures`` has IMAGES columns by image_id."""
    settings = params.evaluate
    outcomes = {
        (scope, protocol.name): answer(system, protocol)
        for scope, inside in scopes(system.rows, SPLITS).items()
        for protocol in protocols(system.rows, scope, inside, settings.before_year)
    }
    metrics: dict[str, Any] = {}
    for (scope, name), result in outcomes.items():
        metrics.setdefault(scope, {})[name] = measures.measure(result, settings)

    # Positions come from the gallery of the whole city, because a user's photo may be from anywhere in it.
    located = {split: locate_queries(outcomes[split, "city"], settings.position, params.city.crs) for split in SPLITS}
    calibration = calibrate(located[CALIBRATION], settings.position.radius_floor_m)
    placed = {split: with_radius(located[split], calibration, settings.position.coverage) for split in SPLITS}
    for split, table in placed.items():
        metrics[split]["position"] = measures.measure_positions(table, settings) | {
            "calibration_queries": len(calibration.scores)
        }

    test = {name: result for (scope, name), result in outcomes.items() if scope == TEST}
    older, every_date, city = (test[name] for name in ("newest_vs_older", "leave_one_date_out", "city"))
    drawn = {
        "recall_at_k": curves.recall_by_k(list(test.values()), settings),
        "error_cdf": curves.error_distribution(older),
        "recall_by_heading": curves.recall_by_heading(older, pictures, settings),
        "recall_by_dates": curves.recall_by_dates(older, pictures, settings),
        "recall_by_gap": curves.recall_by_gap(older, compare(system, older), settings),
        "recall_by_season": curves.recall_by_season(every_date, compare(system, every_date), settings),
        "recall_by_gallery": curves.recall_by_gallery(city, compare(system, city), settings),
        "risk_coverage": curves.risk_by_coverage(placed[TEST][placed[TEST]["answerable"]]),
        "radius_coverage": reliability(located[TEST], calibration),
    }
    described = calibration.numbers(settings.position.agreement, settings.position.coverage)
    return Evaluation(outcomes, pd.concat(placed.values()), metrics, drawn, described)


def evaluate_photos(index: Path, pictures: tuple[Path, Path], params: Params) -> PhotoEvaluation:
    """Ask with the photos that are described in the folder ``index``; its views answer."""
    views = gallery_of(*read_described(tables.VIEWS, index / systems.VIEW_ROWS, index / systems.VIEWS))
    asking = Photos(*read_described(tables.PHOTOS, index / systems.PHOTO_ROWS, index / systems.PHOTOS))
    there = len(asking.rows) and len(views.rows)
    answered = answer_photos(asking, views, pictures, params.evaluate.photos) if there else {}
    return photos.evaluate_photos(answered, len(views.rows), views.places, views.xy, params.evaluate, params.city.crs)


def evaluate_perturbed(index: Path, model: System, params: Params) -> dict[tuple[str, str], dict[str, Any]]:
    """The metrics of changed queries, by split and protocol. Empty for a collection with photos."""
    system = read_perturbed(model, perturbed_rows(model.rows), index / systems.PERTURBED)
    if system is None:
        return {}
    return {
        (protocol.scope, protocol.name): measures.measure(answer(system, protocol), params.evaluate)
        for protocol in perturbed_protocols(system.rows, SPLITS)
    }


def answer(system: System, protocol: Protocol) -> Outcome:
    """Rank the gallery of ``protocol`` for each of its queries by exact search."""
    queries, gallery, group = protocol.queries, protocol.gallery, groups(system.rows)
    if protocol.as_published:  # every row is a group of its own, so nothing is left out
        group = np.arange(len(system.rows))
    descriptors = system.descriptors
    ranking = rank(descriptors[queries], descriptors[gallery], group[queries], group[gallery], max(KS))
    return outcome(system.name, system.rows, protocol, ranking)


def check_index(folder: Path, system: System, exact: Outcome) -> dict[str, Any]:
    """Compare the index in ``folder`` with exact search in the gallery of the whole city."""
    from streetrecall.retrieval import index

    queries, gallery = exact.protocol.queries, exact.protocol.gallery
    if not len(queries) or not len(gallery):
        return {"queries": 0}
    # Twice as many as needed, because answers of the query's own place and month are dropped.
    found, similarities = index.load(folder).search(system.descriptors[queries], min(len(gallery), 2 * max(KS)))
    return measures.measure_index(exact, measures.ranked(exact, found, similarities))
