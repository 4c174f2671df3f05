"""Stage `bundle`: all that answers a photo on another machine, in one folder (docs/locate.md)."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from streetrecall import tables
from streetrecall.bundle import layout
from streetrecall.bundle.layout import Calibration
from streetrecall.bundle.write import Answering, write
from streetrecall.errors import UserError
from streetrecall.files import require_in_project, write_json
from streetrecall.params.schema import Params, load
from streetrecall.retrieval import index as indexes
from streetrecall.retrieval import portable
from streetrecall.retrieval.photos import Photos, answer_photos, gallery_of
from streetrecall.scoring import photos as photo_scores
from streetrecall.scoring import system as systems
from streetrecall.scoring.calibration import conformal_quantile
from streetrecall.scoring.system import read_described, read_system

log = logging.getLogger(__name__)

CALIBRATED_ON = "validation"  # as in the stage evaluate
POSITION = "position"


def configure(parser: argparse.ArgumentParser) -> None:
    for name, text in {
        "model": "folder that the stage train wrote",
        "index": "folder with the model's descriptors",
        "images": "IMAGES table; its folder holds the pictures' shards",
        "views": "folder of the views' shards",
        "calibration": "JSON of the stage evaluate: thresholds and factors of radii",
        "evaluation": "JSON of the stage evaluate: all metrics",
        "bundle": "folder to write",
        "metrics": "JSON to write: what is in the bundle",
    }.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)


def main(args: argparse.Namespace) -> None:
    require_in_project(args.bundle)
    run(
        load(args.params), args.model, args.index, args.images, args.views, args.calibration, args.evaluation,
        args.bundle, args.metrics,
    )  # fmt: skip


def run(
    params: Params,
    model: Path,
    index: Path,
    images: Path,
    views: Path,
    calibration: Path,
    evaluation: Path,
    bundle: Path,
    metrics: Path,
) -> dict[str, Any]:
    """Write the bundle; returns its manifest.

    Its gallery is every view of the gallery that `index` describes. A collection that has views at less than half of
    its places answers with all its pictures, those that ask in the evaluation too.

    Raises:
        UserError: an input is missing or damaged, or there is no picture to answer with.
    """
    found: dict[str, Any] = _read_json(calibration)
    quick: dict[str, Any]
    content = _read_json(evaluation)
    answering = answering_views(index, views)
    if answering is None:
        answering, how = answering_pictures(index, images), {layout.SINGLE: POSITION, layout.SEVERAL: POSITION}
        quick = {many: found.get(name) for many, name in how.items()}
    else:
        how = {layout.SINGLE: photo_scores.SINGLE, layout.SEVERAL: photo_scores.THREE}
        quick = quick_calibration(index, params)
    coverage = params.evaluate.position.coverage
    unknown = {"threshold": None, "factor": None, "coverage": coverage, "queries": 0}
    calibrations = {
        layout.FULL: {many: Calibration(**(found.get(name) or unknown)) for many, name in how.items()},
        layout.QUICK: {many: Calibration(**(quick.get(many) or unknown)) for many in how},
    }
    measured = {"model": content.get("model", {}), "index": content.get("index", {})}
    network = portable.find(model)
    backbone = str(_read_json(model / portable.CONFIG)["backbone"])
    manifest = write(bundle, answering, network, calibrations, measured, params, backbone)
    facts = {name: manifest["gallery"][name] for name in ("pictures", "places", "panoramas", "points", "thumbnails")}
    write_json(
        metrics,
        facts
        | {
            "kind": manifest["kind"],
            "index": manifest["index"]["kind"],
            "embedder_bytes": manifest["files"][layout.EMBEDDER]["bytes"],
        }
        | {"bytes": sum(file["bytes"] for file in manifest["files"].values())},
    )
    return manifest


def answering_views(index: Path, views: Path) -> Answering | None:
    """The views of the gallery; None where less than half of the places have any."""
    rows, descriptors = read_described(tables.VIEWS, index / systems.VIEW_ROWS, index / systems.VIEWS)
    pictured = set(tables.read(tables.DESCRIPTORS, index / indexes.ROWS)["place"])
    without = pictured - set(rows["place"])
    if rows.empty or 2 * len(without) > len(pictured):
        return None
    if without:
        log.warning("%d of %d places have no view in the gallery and do not answer", len(without), len(pictured))
    return Answering(layout.VIEWS, views, rows, descriptors)


def answering_pictures(index: Path, images: Path) -> Answering:
    """All pictures that have a descriptor."""
    system = read_system("model", index)
    table = tables.read(tables.IMAGES, images).set_index("image_id")
    unknown = set(system.rows["image_id"]) - set(table.index)
    if unknown:
        raise UserError(f"{index}/rows.parquet: image_id {min(unknown)} is not in {images}; run the stage index again")
    rows = table.loc[system.rows["image_id"]].reset_index()
    return Answering(layout.PICTURES, images.parent, rows, system.descriptors)


def quick_calibration(index: Path, params: Params) -> dict[str, dict[str, Any]]:
    """The calibration of answers without the comparison of points, from the same photos as the other one."""
    asking = Photos(*read_described(tables.PHOTOS, index / systems.PHOTO_ROWS, index / systems.PHOTOS))
    gallery = gallery_of(*read_described(tables.VIEWS, index / systems.VIEW_ROWS, index / systems.VIEWS))
    if not len(asking.rows):
        return {}
    settings = params.evaluate
    without = settings.photos.model_copy(update={"rerank": settings.photos.rerank.model_copy(update={"places": 0})})
    out = {}
    for protocol, answered in answer_photos(asking, gallery, (index, index), without).items():
        table, difficulty_m = photo_scores.answer_table(
            protocol, answered, gallery.places, gallery.xy, settings, params.city.crs
        )
        found = photo_scores.calibrate_photos(table, difficulty_m, CALIBRATED_ON, settings)
        many = layout.SINGLE if protocol == photo_scores.SINGLE else layout.SEVERAL
        out[many] = {
            "threshold": found.threshold,
            "factor": conformal_quantile(found.radii.scores, settings.position.coverage),
            "coverage": settings.position.coverage,
            "queries": len(found.radii.scores),
        }
    return out


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run the stage evaluate (dvc repro)") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); run the stage evaluate again") from error
