"""Stage index: describe all pictures that are not quarantined, and index those of the gallery."""

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
from streetrecall.files import require_in_project, write_array, write_json
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
    parser.add_argument("--metrics", type=Path, required=True, help="facts about the index, JSON to write")


def main(args: argparse.Namespace) -> None:
    require_in_project(args.index)
    params = load(args.params)
    run(params.index, params.train.threads, args.crops, args.model, args.index, args.metrics)


def run(settings: Settings, threads: int, crops: Path, model: Path, index: Path, metrics: Path) -> None:
    """Write the descriptors of all pictures without quarantine, the table of their rows, and the index of the gallery.

    Raises:
        UserError: no picture to describe, no gallery, a picture that is no JPEG, or an embedder that cannot be read.
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
            f"{crops / 'images.parquet'}: no place has pictures of two dates in one direction, so there is no gallery; "
            "collect more dates"
        )
    descriptors = describe(settings, threads, crops, model, used)

    index.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(index / indexes.SCANN, ignore_errors=True)
    searched = descriptors[gallery]
    built = indexes.build(searched, gallery, settings, threads)
    write_array(index / indexes.DESCRIPTORS, descriptors)
    tables.write(tables.DESCRIPTORS, rows, index / indexes.ROWS)
    indexes.save(built, index)

    queries = descriptors[np.flatnonzero(rows["role"] == QUERY)]
    nearest = search.exact(queries, searched, RECALL_AT)[1]
    facts = {
        "described": len(rows),
        "gallery": len(gallery),
        "queries": len(queries),
        "quarantined": int((images["quarantine"] != "").sum()),
        "dimensions": int(descriptors.shape[1]),
        "kind": built.kind,
        f"recall@{RECALL_AT}_against_exact": round(indexes.recall(built, queries, searched, nearest), 4),
    }
    write_json(metrics, facts)


def describe(settings: Settings, threads: int, crops: Path, model: Path, images: pd.DataFrame) -> NDArray[np.float16]:
    """Descriptors (n, d) of the pictures of ``images`` (IMAGES rows), in order, by the embedder of ``model``.

    Raises:
        UserError: a picture is no JPEG, or the embedder cannot be read or gives values that are not finite.
    """
    from streetrecall.model import runtime

    runtime.configure(threads, 0)
    from streetrecall.model import decoding, embedder

    loaded = embedder.load(model, settings.batch_size, threads)
    descriptors = np.empty((len(images), loaded.dimensions), np.float16)
    done, began = 0, time.perf_counter()
    with progress(len(images), "describe", "image") as bar:
        for part in loaded.describe_all(decoding.Pictures(crops, images)):
            descriptors[done : done + len(part)] = part
            done += len(part)
            bar.update(len(part))
    print(f"{len(images)} pictures described, {len(images) / max(time.perf_counter() - began, 1e-9):.0f} a second")
    if not np.isfinite(descriptors).all():
        raise UserError(f"{model}: the embedder gives descriptors that are not finite; run the stage train again")
    return descriptors
