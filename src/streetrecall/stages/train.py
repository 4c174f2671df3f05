"""Stage train: crops of train and validation -> an embedder, its curves and the facts of its training."""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import whole, write_json
from streetrecall.ledger import store_folder
from streetrecall.params import Train, load


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--model", type=Path, required=True, help="folder to write: config.json, embedder.weights.h5")
    parser.add_argument("--metrics", type=Path, required=True, help="facts of the training, JSON to write")
    parser.add_argument("--curves", type=Path, required=True, help="one row an epoch, CSV to write")


def main(args: argparse.Namespace) -> None:
    run(load(args.params).train, args.crops, args.model, args.metrics, args.curves)


def run(params: Train, crops: Path, model: Path, metrics: Path, curves: Path) -> None:
    """Train as ``params`` say. A run that was killed goes on from its last epoch, to the same weights.

    Raises:
        UserError: too few places, weights that cannot be had, or a training that collapsed.
    """
    images = tables.read(tables.IMAGES, crops / "images.parquet")

    from streetrecall.model import embedder, recipes, runtime

    params = recipes.effective(params)
    runtime.configure(params.threads, params.seed, params.precision)
    from streetrecall.model.trainer import Trainer

    began = time.perf_counter()
    trainer = Trainer(params, crops, images, store_folder(), lambda rows: _write_csv(curves, rows))
    result = trainer.run()
    model.mkdir(parents=True, exist_ok=True)
    embedder.save(embedder.Embedder(result.network, params.backbone, params.image_size, params.head), model)
    rows = result.progress.rows
    _write_csv(curves, rows)
    best = next(
        row for row in rows if (row["phase"], row["epoch"]) == (result.progress.best_phase, result.progress.best_epoch)
    )
    facts = {
        "training": {
            "images": len(trainer.training),
            "places": int(trainer.images["place"].iloc[trainer.training].nunique()),
            "views": len(result.sampler.groups),
        },
        "validation": {
            "images": len(trainer.validating),
            "queries": result.validation_queries,
            "recall@1": {
                name.removeprefix("validation_recall_"): round(best[name], 4)
                for name in best
                if name.startswith("validation_recall_")
            }
            | {"mean": round(best["validation_recall"], 4)},
        },
        "best": {"phase": best["phase"], "epoch": best["epoch"], "spread": round(best["spread"], 4)},
        "model": {
            "backbone": params.backbone,
            "dimensions": params.head.dimensions,
            "weights": int(result.network.whole.count_params()),
        },
        "epochs": sum(row["epoch"] > 0 for row in rows),
    }
    write_json(metrics, facts)
    trainer.forget()
    print(
        f"validation recall@1 {best['validation_recall']:.4f} after phase {best['phase']}, epoch {best['epoch']}; "
        f"{time.perf_counter() - began:.0f} s; {result.images_per_second:.0f} images a second while training, "
        f"{result.waiting:.1%} of that time spent waiting for data"
    )


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    if not rows:
        raise UserError("train.phases holds no epoch and no start to write a curve of")
    with whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
