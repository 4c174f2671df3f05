"""Stage index: describe all pictures that are not quarantined, and index those of the gallery.

It also describes the views of the gallery and the photos that are asked against them.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.files import require_in_project, write_array, write_json
from streetrecall.params.schema import Index as Settings
from streetrecall.params.schema import load
from streetrecall.retrieval import describing, portable
from streetrecall.retrieval import exact as search
from streetrecall.retrieval import index as indexes
from streetrecall.retrieval.changed import perturbed_rows
from streetrecall.retrieval.described import describe_asked, pictures_in_use, write_descriptors
from streetrecall.retrieval.portable import PortableFile
from streetrecall.retrieval.rows import GALLERY, QUERY
from streetrecall.scoring import system

RECALL_AT = 10


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
        UserError: no picture to describe, no gallery, or a picture or an embedder that cannot be read.
    """
    used = pictures_in_use(crops)
    rows = used.rows
    gallery = np.flatnonzero(rows["role"] == GALLERY)
    if not len(gallery):
        raise UserError(
            f"{crops / 'images.parquet'}: no place has pictures of two dates in one direction, so there is no gallery; "
            "collect more dates"
        )
    network = portable.find(model)
    descriptors = describe(network, crops, used.images, "pictures")

    index.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(index / indexes.SCANN, ignore_errors=True)
    searched = descriptors[gallery]
    built = indexes.build(searched, gallery, settings, threads)
    write_descriptors(index, rows, descriptors)
    indexes.save(built, index)
    of_views, of_photos = partial(describe, network, name="views"), partial(describe_photos, network)
    seen, asked = describe_asked(of_views, of_photos, views, photos, index)
    write_array(index / system.PERTURBED, describe_perturbed(network, crops, used.images, rows, asked))

    queries = descriptors[np.flatnonzero(rows["role"] == QUERY)]
    nearest = search.exact(queries, searched, RECALL_AT)[1]
    facts = {
        "described": len(rows),
        "views": len(seen),
        "photos": len(asked),
        "gallery": len(gallery),
        "queries": len(queries),
        "quarantined": used.quarantined,
        "dimensions": int(descriptors.shape[1]),
        "kind": built.kind,
        f"recall@{RECALL_AT}_against_exact": round(indexes.recall(built, queries, searched, nearest), 4),
    }
    write_json(metrics, facts)


def describe(network: PortableFile, folder: Path, pictures: pd.DataFrame, name: str) -> NDArray[np.float16]:
    """Descriptors (n, d) of ``pictures`` (n rows of IMAGES or VIEWS, in shards below ``folder``), in order.

    Raises:
        UserError: a picture cannot be read, or the embedder gives values that are not finite.
    """
    return describing.describe(network, folder, _asked(pictures), name)


def describe_photos(network: PortableFile, folder: Path, photos: pd.DataFrame) -> NDArray[np.float16]:
    """Descriptors (n, d) of ``photos`` (PHOTOS rows), in order, read and resized as a bundle does it.

    Raises:
        UserError: a photo cannot be read.
    """
    if len(photos) and not network.takes_any_shape:
        print("the branch 'grid' takes square pictures only, so a photo of another shape is described as three squares")
    return describing.describe(network, folder, _asked(photos), "photos", "photo")


def describe_perturbed(
    network: PortableFile, folder: Path, images: pd.DataFrame, rows: pd.DataFrame, photos: pd.DataFrame
) -> NDArray[np.float16]:
    """Descriptors (n, d) of the changed queries, in the order of `perturbed_rows`; none where there are photos.

    ``images`` has IMAGES columns, ``rows`` are the DESCRIPTORS rows of the collection.
    """
    changed = perturbed_rows(rows) if photos.empty else perturbed_rows(rows.iloc[:0])
    pictures = images.set_index("image_id").loc[changed["image_id"]]
    asked = [
        replace(one, change=str(change), seed=int(seed))
        for one, change, seed in zip(_asked(pictures), changed["change"], changed["image_id"], strict=True)
    ]
    return describing.describe(network, folder, asked, "changed queries")


def _asked(pictures: pd.DataFrame) -> list[describing.Asked]:
    columns = (pictures[name].tolist() for name in ("shard", "offset", "size", "sha256"))
    return [
        describing.Asked(str(shard), int(offset), int(size), str(sha256))
        for shard, offset, size, sha256 in zip(*columns, strict=True)
    ]
