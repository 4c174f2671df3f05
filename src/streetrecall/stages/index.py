"""Stage index: describe all pictures that are not quarantined, and index those of the gallery.

It also describes the views of the gallery and the photos that are asked against them.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
import PIL
from numpy.typing import NDArray

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import require_in_project, write_array, write_json
from streetrecall.imports import code_digest
from streetrecall.params.schema import Index as Settings
from streetrecall.params.schema import load
from streetrecall.pictures import perturb as perturbing
from streetrecall.pictures import photo
from streetrecall.pictures.codec import encode_jpeg
from streetrecall.pictures.perturb import perturb
from streetrecall.pictures.photo import prepare, read_photo
from streetrecall.pictures.shards import ShardReader
from streetrecall.progress import progress
from streetrecall.retrieval import exact as search
from streetrecall.retrieval import index as indexes
from streetrecall.retrieval.changed import perturbed_rows
from streetrecall.retrieval.rows import GALLERY, QUERY, descriptor_rows
from streetrecall.scoring import system
from streetrecall.store.results import Results, kept

if TYPE_CHECKING:
    from streetrecall.model.embedder import Embedder

RECALL_AT = 10
_CHANGED_AT_ONCE = 512  # changed pictures in memory
_CHANGED_QUALITY = 92  # of a JPEG


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--views", type=Path, required=True, help="folder of views.parquet and its shards")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos.parquet and its shards")
    parser.add_argument("--model", type=Path, required=True, help="folder that the stage train wrote")
    parser.add_argument("--index", type=Path, required=True, help="folder to write")
    parser.add_argument("--metrics", type=Path, required=True, help="facts about the index, JSON to write")


def main(args: argparse.Namespace) -> None:
    require_in_project(args.index)
    params = load(args.params)
    run(params.index, params.train.threads, args.crops, args.views, args.photos, args.model, args.index, args.metrics)


def run(
    settings: Settings, threads: int, crops: Path, views: Path, photos: Path, model: Path, index: Path, metrics: Path
) -> None:
    """Write the descriptors of all pictures without quarantine, the table of their rows, and the index of the gallery.

    The descriptors of gallery views and of photos are in files of their own, with the tables of their rows. Where there
    are no photos, the newest pictures of validation and test are described changed as well.

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
    embedder = open_embedder(settings, threads, model)
    descriptors = describe(embedder, crops, used, "pictures")
    seen = tables.read(tables.VIEWS, views / "views.parquet")
    seen = seen[seen["use"] == GALLERY].reset_index(drop=True)
    asked = tables.read(tables.PHOTOS, photos / "photos.parquet")

    index.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(index / indexes.SCANN, ignore_errors=True)
    searched = descriptors[gallery]
    built = indexes.build(searched, gallery, settings, threads)
    write_array(index / indexes.DESCRIPTORS, descriptors)
    tables.write(tables.DESCRIPTORS, rows, index / indexes.ROWS)
    indexes.save(built, index)
    write_array(index / system.VIEWS, describe(embedder, views, seen, "views"))
    tables.write(tables.VIEWS, seen, index / system.VIEW_ROWS)
    write_array(index / system.PHOTOS, describe_photos(embedder, photos, asked))
    write_array(index / system.PERTURBED, describe_perturbed(embedder, crops, images, rows, asked))
    tables.write(tables.PHOTOS, asked, index / system.PHOTO_ROWS)

    queries = descriptors[np.flatnonzero(rows["role"] == QUERY)]
    nearest = search.exact(queries, searched, RECALL_AT)[1]
    facts = {
        "described": len(rows),
        "views": len(seen),
        "photos": len(asked),
        "gallery": len(gallery),
        "queries": len(queries),
        "quarantined": int((images["quarantine"] != "").sum()),
        "dimensions": int(descriptors.shape[1]),
        "kind": built.kind,
        f"recall@{RECALL_AT}_against_exact": round(indexes.recall(built, queries, searched, nearest), 4),
    }
    write_json(metrics, facts)


def open_embedder(settings: Settings, threads: int, model: Path) -> Embedder:
    """The embedder of ``model``, on so many threads."""
    from streetrecall.model import runtime

    runtime.configure(threads, 0)
    from streetrecall.model import embedder

    return embedder.load(model, settings.batch_size, threads)


def describe(
    embedder: Embedder, folder: Path, pictures: pd.DataFrame, name: str, size: tuple[int, int] | None = None
) -> NDArray[np.float16]:
    """Descriptors (n, d) of ``pictures``, in order.

    ``pictures`` (n rows of IMAGES, VIEWS or PHOTOS) are in shards below ``folder``; ``size`` is the height and width at
    which the network sees them, if it is not that of training. Descriptors that an earlier run made are not made again.

    Raises:
        UserError: a picture is no JPEG, or the embedder gives values that are not finite.
    """
    from streetrecall.model import decoding

    descriptors = np.empty((len(pictures), embedder.dimensions), np.float16)
    if pictures.empty:
        return descriptors
    with kept("descriptors", size=size, **embedder.identity()) as known:
        hashes = list(map(str, pictures["sha256"]))
        new = fill_known(descriptors, hashes, known)
        done, began = 0, time.perf_counter()
        with progress(len(new), f"describe {name}", "image") as bar:
            for part in embedder.describe_all(decoding.Pictures(folder, pictures.iloc[new]), size):
                rows = new[done : done + len(part)]
                descriptors[rows] = part
                known.write({hashes[row]: descriptors[row].tobytes() for row in rows})
                done += len(part)
                bar.update(len(part))
        speed = len(new) / max(time.perf_counter() - began, 1e-9)
        print(f"{len(pictures)} {name}: {len(new)} described, {speed:.0f} a second; the others are known")
    if not np.isfinite(descriptors).all():
        raise UserError("the embedder gives descriptors that are not finite; run the stage train again")
    return descriptors


def fill_known(descriptors: NDArray[np.float16], keys: Sequence[str], known: Results) -> list[int]:
    """Write what is ``known`` of ``keys`` (n) into the rows of ``descriptors`` (n, d); returns the other rows."""
    before = known.read(keys)
    for row, key in enumerate(keys):
        if key in before:
            descriptors[row] = np.frombuffer(before[key], np.float16)
    return [row for row, key in enumerate(keys) if key not in before]


def describe_photos(embedder: Embedder, folder: Path, photos: pd.DataFrame) -> NDArray[np.float16]:
    """Descriptors (n, d) of ``photos`` (PHOTOS rows), in order, read and resized as a bundle does it.

    Descriptors that an earlier run made are not made again.

    Raises:
        UserError: a photo cannot be read.
    """
    descriptors = np.empty((len(photos), embedder.dimensions), np.float16)
    if photos.empty:
        return descriptors
    if not embedder.takes_any_shape:
        print(
            "the branch 'grid' takes square pictures only, so it sees the middle of a photo; it is not made for photos"
        )
    taken = embedder.photo_sizes
    facts = {"sizes": taken, **_reading(photo.__name__), **embedder.identity()}
    with kept("descriptors", photos=facts) as known, ShardReader(folder) as reader:
        hashes = list(map(str, photos["sha256"]))
        new = fill_known(descriptors, hashes, known)
        where = list(zip(photos["shard"], photos["offset"].tolist(), photos["size"].tolist(), strict=True))
        with progress(len(new), "describe photos", "image") as bar:
            for start in range(0, len(new), embedder.batch_size):
                rows = new[start : start + embedder.batch_size]
                pictures = [
                    prepare(read_photo(reader.read(*at), f"{folder / at[0]}, the photo at {at[1]}").pixels, taken)
                    for at in (where[row] for row in rows)
                ]
                descriptors[rows] = embedder.describe_pixels(pictures)
                known.write({hashes[row]: descriptors[row].tobytes() for row in rows})
                bar.update(len(rows))
    return descriptors


def _reading(module: str) -> dict[str, str]:
    """What decides how ``module`` reads a picture or changes it, as values that JSON can hold."""
    return {"read": code_digest(module), "opencv": cv2.__version__, "pillow": PIL.__version__}


def describe_perturbed(
    embedder: Embedder, folder: Path, images: pd.DataFrame, rows: pd.DataFrame, photos: pd.DataFrame
) -> NDArray[np.float16]:
    """Descriptors (n, d) of the changed queries, in the order of `perturbed_rows`; none where there are photos.

    ``images`` has IMAGES columns, ``rows`` are the DESCRIPTORS rows of the collection. Descriptors that an earlier run
    made are not made again.
    """
    changed = perturbed_rows(rows) if photos.empty else perturbed_rows(rows.iloc[:0])
    descriptors = np.empty((len(changed), embedder.dimensions), np.float16)
    if changed.empty:
        return descriptors
    of = images.set_index("image_id").loc[changed["image_id"]]
    where = list(zip(of["shard"].astype(str), of["offset"].astype(int), of["size"].astype(int), strict=True))
    how = list(zip(changed["change"].astype(str), changed["image_id"].astype(int), strict=True))
    facts = {"quality": _CHANGED_QUALITY, **_reading(perturbing.__name__), **embedder.identity()}
    with kept("descriptors", changed=facts) as known, ShardReader(folder) as reader:
        keys = [f"{digest} {change} {seed}" for digest, (change, seed) in zip(of["sha256"], how, strict=True)]
        new = fill_known(descriptors, keys, known)
        with progress(len(new), "describe changed queries", "image") as bar:
            for start in range(0, len(new), _CHANGED_AT_ONCE):
                part = new[start : start + _CHANGED_AT_ONCE]
                pictures = (perturb(reader.read_picture(*where[row]), *how[row]) for row in part)
                descriptors[part] = embedder.describe([encode_jpeg(picture, _CHANGED_QUALITY) for picture in pictures])
                known.write({keys[row]: descriptors[row].tobytes() for row in part})
                bar.update(len(part))
    return descriptors
