"""Stage `index`: describe every picture that is not in quarantine, and index the pictures of the gallery."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import write_array, write_json
from streetrecall.params.schema import Index as Settings
from streetrecall.params.schema import load
from streetrecall.progress import progress
from streetrecall.retrieval import exact as search
from streetrecall.retrieval import index as indexes
from streetrecall.retrieval.rows import GALLERY, QUERY, descriptor_rows

RECALL_AT = 10


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--model", type=Path, required=True, help="folder that the stage train wrote")
    parser.add_argument("--index", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--metrics", type=Path, required=True, help="JSON to write: numbers of pictures and the recall of the index"
    )


def main(args: argparse.Namespace) -> None:
    params = load(args.params)
    run(params.index, params.train.threads, args.crops, args.model, args.index, args.metrics)


def run(settings: Settings, threads: int, crops: Path, model: Path, index: Path, metrics: Path) -> None:
    """Write ``descriptors.npy`` (n, d), float16 of unit norm, the DESCRIPTORS table of its rows, and the index.

    Raises:
        UserError: there is no picture to describe or no gallery, a picture is no JPEG, or the embedder cannot be read.
    """
    images = tables.read(tables.IMAGES, crops / "images.parquet")
    rows = descriptor_rows(images)
    if rows.empty:
        raise UserError(
            f"{crops / 'images.parquet'}: all {len(images)} pictures are in quarantine; see metrics/crop.json"
        )
    used = images.set_index("image_id").loc[rows["image_id"]].reset_index()
    gallery = np.flatnonzero(rows["role"] == GALLERY)
    if not len(gallery):
        raise UserError(
            f"{crops / 'images.parquet'}: no place has pictures of two dates in one direction, so there is no gallery"
        )
    descriptors = _describe(settings, threads, crops, model, used)

    index.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(index / indexes.SCANN, ignore_errors=True)
    searched = descriptors[gallery]
    built = indexes.build(searched, gallery, settings, threads)
    write_array(index / indexes.DESCRIPTORS, descriptors)
    tables.write(tables.DESCRIPTORS, rows, index / indexes.ROWS)
    indexes.save(built, index)

    queries = descriptors[np.flatnonzero(rows["role"] == QUERY)]
    nearest = search.exact(queries, searched, RECALL_AT)[1]
    counts = {
        "described": len(rows),
        "gallery": len(gallery),
        "queries": len(queries),
        "quarantined": int((images["quarantine"] != "").sum()),
        "dimensions": int(descriptors.shape[1]),
        "kind": built.kind,
        f"recall@{RECALL_AT}_against_exact": round(indexes.recall(built, queries, searched, nearest), 4),
    }
    write_json(metrics, counts)


def _describe(settings: Settings, threads: int, crops: Path, model: Path, used: pd.DataFrame) -> NDArray[np.float16]:
    """Descriptors (n, d) of the n pictures ``used`` (IMAGES rows)."""
    from streetrecall.model import runtime

    runtime.configure(threads, 0)
    from streetrecall.model import embedder, features

    loaded = embedder.load(model, settings.batch_size, threads)
    descriptors = np.empty((len(used), loaded.dimensions), np.float16)
    done, began = 0, time.perf_counter()
    with progress(len(used), "describe", "picture") as bar:
        for part in loaded.describe_all(features.Pictures(crops, used)):
            descriptors[done : done + len(part)] = part
            done += len(part)
            bar.update(len(part))
    print(f"described {len(used)} pictures, {len(used) / max(time.perf_counter() - began, 1e-9):.0f} a second")
    if not np.isfinite(descriptors).all():
        raise UserError(f"{model}: the embedder gives descriptors that are not finite; run the stage train again")
    return descriptors
