"""Stage `train`: train the embedder on the pictures of train, and choose its best epoch on those of validation."""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetrecall import tables
from streetrecall.files import whole, write_json
from streetrecall.params.schema import Train, load
from streetrecall.store.ledger import store_folder

if TYPE_CHECKING:
    from streetrecall.model.trainer import Progress, Result, Speed, Trainer


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--model", type=Path, required=True, help="folder to write: config.json, embedder.weights.h5")
    parser.add_argument(
        "--metrics", type=Path, required=True, help="JSON to write: numbers of pictures, the best epoch and its recall"
    )
    parser.add_argument("--curves", type=Path, required=True, help="CSV to write: one row for each epoch")
    parser.add_argument("--speed", type=Path, required=True, help="CSV to write: images per second of each epoch")


def main(args: argparse.Namespace) -> None:
    run(load(args.params).train, args.crops, args.model, args.metrics, args.curves, args.speed)


def run(params: Train, crops: Path, model: Path, metrics: Path, curves: Path, speed: Path) -> None:
    """Train an embedder. A run that was killed resumes after its last complete epoch and gives the same weights.

    Raises:
        UserError: there are too few places, weights are not available, or the training collapsed.
    """
    images = tables.read(tables.IMAGES, crops / "images.parquet")

    from streetrecall.model import embedder, recipes, runtime

    params = recipes.effective(params)
    runtime.configure(params.threads, params.seed, params.precision)
    from streetrecall.model.trainer import Trainer

    began = time.perf_counter()
    trainer = Trainer(params, crops, images, store_folder(), lambda progress: _write_progress(progress, curves, speed))
    result = trainer.run()
    model.mkdir(parents=True, exist_ok=True)
    embedder.save(embedder.Embedder(result.network, params.backbone, params.image_size, params.head), model)
    _write_progress(result.progress, curves, speed)
    best = best_epoch(result.progress)
    write_json(metrics, summarise(params, trainer, result, best))
    trainer.forget()
    print(
        f"validation recall@1 {best['validation_recall']:.4f} after phase {best['phase']}, epoch {best['epoch']}; "
        f"{time.perf_counter() - began:.0f} s; {_speed(result.progress.speeds)}"
    )


def best_epoch(progress: Progress) -> dict[str, Any]:
    """The row of the epoch whose weights were kept."""
    best = (progress.best_phase, progress.best_epoch)
    return next(row for row in progress.rows if (row["phase"], row["epoch"]) == best)


def summarise(params: Train, trainer: Trainer, result: Result, best: dict[str, Any]) -> dict[str, Any]:
    """What metrics/train.json holds; ``best`` is the row of the best epoch."""
    prefix = "validation_recall_"
    recalls = {name.removeprefix(prefix): round(best[name], 4) for name in best if name.startswith(prefix)}
    return {
        "training": {
            "images": len(trainer.training),
            "places": int(trainer.images["place"].iloc[trainer.training].nunique()),
            "views": len(result.sampler.groups),
        },
        "validation": {
            "images": len(trainer.validating),
            "queries": result.validation_queries,
            "recall@1": recalls | {"mean": round(best["validation_recall"], 4)},
        },
        "best": {"phase": best["phase"], "epoch": best["epoch"], "spread": round(best["spread"], 4)},
        "model": {
            "backbone": params.backbone,
            "dimensions": params.head.dimensions,
            "weights": int(result.network.whole.count_params()),
        },
        "epochs": sum(row["epoch"] > 0 for row in result.progress.rows),
    }


def _speed(epochs: list[Speed]) -> str:
    images, seconds, waited = (sum(epoch[name] for epoch in epochs) for name in ("images", "seconds", "waited"))
    if not images:
        return "no epoch was trained"
    return f"{images / seconds:.0f} images a second while training, {waited / seconds:.1%} of it spent waiting for data"


def _write_progress(progress: Progress, curves: Path, speed: Path) -> None:
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
