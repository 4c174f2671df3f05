"""Stage train: views or crops of train and validation -> an embedder, its curves and facts about the training.

It trains on views where there are some, and photos of split validation to choose the best epoch by; else on crops.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import require_in_project, whole, write_json
from streetrecall.params.schema import Train, load
from streetrecall.store.folder import store_folder

if TYPE_CHECKING:
    import pandas as pd

    from streetrecall.model.embedder import Embedder
    from streetrecall.model.history import Progress, Speed
    from streetrecall.model.trainer import Result


NO_START = "none"  # value of train.start_from


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--views", type=Path, required=True, help="folder of training.parquet and its shards")
    parser.add_argument("--photos", type=Path, required=True, help="folder of validation.parquet and its shards")
    parser.add_argument("--model", type=Path, required=True, help="folder to write: config.json, embedder.weights.h5")
    parser.add_argument("--metrics", type=Path, required=True, help="facts about the training, JSON to write")
    parser.add_argument("--curves", type=Path, required=True, help="one row per epoch, CSV to write")
    parser.add_argument("--speed", type=Path, required=True, help="speed of each epoch, CSV to write")


def main(args: argparse.Namespace) -> None:
    require_in_project(args.model)
    inputs = (args.crops, args.views, args.photos)
    run(load(args.params).train, *inputs, args.model, args.metrics, args.curves, args.speed)


def run(
    params: Train, crops: Path, views: Path, photos: Path, model: Path, metrics: Path, curves: Path, speed: Path
) -> None:
    """Train as ``params`` say. A run that was killed continues after its last epoch and ends with the same weights.

    Raises:
        UserError: too few places, weights that are not available, or a training that collapsed.
    """
    images = tables.read(tables.IMAGES, crops / "images.parquet")
    require_splits(params, images, crops / "images.parquet")
    seen = tables.read(tables.VIEWS, views / "training.parquet")
    asked = tables.read(tables.PHOTOS, photos / "validation.parquet")

    from streetrecall.model import embedder, recipes, runtime

    params = recipes.effective(params)
    runtime.configure(params.threads, params.seed, params.precision)
    from streetrecall.model import distributed
    from streetrecall.model.collection import Collection, CropCollection, Source, ViewCollection, trains_on_views
    from streetrecall.model.trainer import Trainer

    with distributed.join(os.environ.get(distributed.VARIABLE)) as team:
        on_views = params.recipe == "streetrecall" and trains_on_views(seen, asked)
        if on_views:
            params = recipes.for_views(params)
        started = None
        if params.start_from != NO_START:
            trained = embedder.load(params.start_from)
            params = recipes.started(params, trained.backbone, trained.image_size, trained.head)
            if not params.phases:
                if team.chief:
                    _take_as_it_is(trained, params, model, metrics, curves, speed)
                return
            started = trained.network
        collection: Collection
        if on_views:
            collection = ViewCollection(params, Source(views, seen), Source(photos, asked))
        else:
            collection = CropCollection(crops, images, params.batch, params.seed)
        began = time.perf_counter()

        def on_progress(progress: Progress) -> None:
            if team.chief:
                _write_progress(progress, curves, speed)

        trainer = Trainer(params, collection, store_folder(), on_progress, started, team)
        result = trainer.run()
        if team.chief:
            model.mkdir(parents=True, exist_ok=True)
            embedder.save(embedder.Embedder(result.network, params.backbone, params.image_size, params.head), model)
            _write_progress(result.progress, curves, speed)
            write_json(metrics, _facts(result, params))
        team.wait()
        trainer.forget()
    best = _best_row(result.progress)
    print(
        f"validation recall@1 {best['validation_recall']:.4f} after phase {best['phase']}, epoch {best['epoch']}; "
        f"{time.perf_counter() - began:.0f} s; {_speed(result.progress.speeds)}"
    )


def require_splits(params: Train, images: pd.DataFrame, where: Path) -> None:
    """Make sure that there are pictures to train on and to choose the best epoch by, if anything is trained.

    Raises:
        UserError: a split has no picture in use.
    """
    used = set(images.loc[images["quarantine"] == "", "split"])
    missing = [split for split in ("train", "validation") if split in params.needed_splits and split not in used]
    if missing:
        raise UserError(
            f"{where}: no picture of split {' and '.join(missing)}, so nothing can be trained. Collect such places; or "
            "measure a trained embedder as it is: streetrecall set train.start_from=FOLDER train.phases=[] "
            "train.views.phases=[]"
        )


def _take_as_it_is(trained: Embedder, params: Train, model: Path, metrics: Path, curves: Path, speed: Path) -> None:
    """Write an embedder that nothing here has trained. Its curves have no row."""
    from streetrecall.model import embedder
    from streetrecall.model.history import Progress

    model.mkdir(parents=True, exist_ok=True)
    embedder.save(trained, model)
    progress = Progress()
    progress.add_row((0.0, 0.0), 0.0, {"mean": 0.0}, 0.0)
    columns = list(progress.rows[0])
    _write_csv(curves, columns, [])
    _write_csv(speed, ["phase", "epoch", "images_per_second", "waiting"], [])
    facts = {"backbone": trained.backbone, "dimensions": trained.dimensions}
    write_json(metrics, {"start_from": params.start_from, "zero_shot": True, "epochs": 0, "model": facts})
    print(f"{params.start_from} is used as it is; nothing was trained on this city")


def _facts(result: Result, params: Train) -> dict[str, Any]:
    """What metrics/train.json holds."""
    collection, best = result.collection, _best_row(result.progress)
    prefix = "validation_recall_"
    recall = {name.removeprefix(prefix): round(best[name], 4) for name in best if name.startswith(prefix)}
    return {
        "training": {
            "images": len(collection.training),
            "places": int(collection.images["place"].iloc[collection.training].nunique()),
            "views": len(collection.sampler.groups),
        },
        "validation": {
            "images": len(collection.validating),
            "queries": result.validation_queries,
            "recall@1": recall | {"mean": round(best["validation_recall"], 4)},
        },
        "best": {"phase": best["phase"], "epoch": best["epoch"], "spread": round(best["spread"], 4)},
        "model": {
            "backbone": params.backbone,
            **({} if params.start_from == NO_START else {"start_from": params.start_from}),
            "dimensions": params.head.dimensions,
            "weights": int(result.network.whole.count_params()),
        },
        "epochs": sum(row["epoch"] > 0 for row in result.progress.rows),
    }


def _best_row(progress: Progress) -> dict[str, Any]:
    """The row of the curve whose weights were kept."""
    best = (progress.best_phase, progress.best_epoch)
    return next(row for row in progress.rows if (row["phase"], row["epoch"]) == best)


def _speed(epochs: list[Speed]) -> str:
    images, seconds, waited = (sum(epoch[name] for epoch in epochs) for name in ("images", "seconds", "waited"))
    if not images:
        return "no epoch was trained"
    return f"{images / seconds:.0f} images a second while training, {waited / seconds:.1%} of it spent waiting for data"


def _write_progress(progress: Progress, curves: Path, speed: Path) -> None:
    """Write the curve and the speeds so far, so that they can be seen while a training runs or after it failed."""
    _write_csv(curves, list(progress.rows[0]), progress.rows)
    speeds = [
        {
            "phase": epoch["phase"],
            "epoch": epoch["epoch"],
            "images_per_second": round(epoch["images"] / epoch["seconds"], 2),
            "waiting": round(epoch["waited"] / epoch["seconds"], 5),
        }
        for epoch in progress.speeds
    ]
    _write_csv(speed, ["phase", "epoch", "images_per_second", "waiting"], speeds)


def _write_csv(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    with whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
