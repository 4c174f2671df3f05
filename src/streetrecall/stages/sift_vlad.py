"""Stage `sift_vlad`: describe pictures, views and photos by their SIFT points and VLAD, without training a network.

It is the second baseline, and made for free viewpoints. A codebook is learnt from points of split train by principal
components and k-means, then every picture is described by it.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.files import require_in_project
from streetrecall.model.closed_form import kmeans, principal_components
from streetrecall.params.schema import Rerank, load
from streetrecall.params.schema import SiftVlad as Settings
from streetrecall.retrieval.described import (
    InUse,
    describe_asked,
    gallery_views,
    pictures_in_use,
    write_descriptors,
)
from streetrecall.retrieval.points import Pictures, points_of_views
from streetrecall.retrieval.rows import GALLERY
from streetrecall.retrieval.vlad import Codebook, Floats, describe_photos, describe_views, root_sift

LEARNT_FROM = 1000  # pictures, and as many views, that the codebook is learnt from at most
POINTS_OF_EACH = 30  # of them


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--views", type=Path, required=True, help="folder of views.parquet and its shards")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos.parquet and its shards")
    parser.add_argument("--sift-vlad", type=Path, required=True, help="folder to write")


def main(args: argparse.Namespace) -> None:
    require_in_project(args.sift_vlad)
    params = load(args.params)
    run(params.sift_vlad, params.evaluate.photos.rerank, args.crops, args.views, args.photos, args.sift_vlad)


def run(settings: Settings, points: Rerank, crops: Path, views: Path, photos: Path, out: Path) -> None:
    """Write the descriptors of the pictures, of the gallery's views and of the photos, as the stage index does.

    The points are those of the local geometry in evaluation and bundle: ``points`` says how many, and what size photos
    are reduced to. They are found once for all of them.

    Raises:
        UserError: every picture is in quarantine, the codebook cannot be learnt, or a picture cannot be read.
    """
    used, seen = pictures_in_use(crops), gallery_views(views)
    codebook = learn(settings, learnt_from(settings, used, seen, crops, views), points.view_points)

    def of_views(folder: Path, rows: pd.DataFrame) -> NDArray[np.float16]:
        return describe_views(codebook, Pictures(folder, rows), points.view_points)

    def of_photos(folder: Path, rows: pd.DataFrame) -> NDArray[np.float16]:
        return describe_photos(codebook, Pictures(folder, rows), points.photo_points, points.photo_px)

    descriptors = of_views(crops, used.images)
    shutil.rmtree(out, ignore_errors=True)
    write_descriptors(out, used.rows, descriptors)
    describe_asked(of_views, of_photos, views, photos, out)


def learnt_from(settings: Settings, used: InUse, seen: pd.DataFrame, crops: Path, views: Path) -> list[Pictures]:
    """The pictures that the codebook is learnt from: pictures and gallery views of split train.

    Where there are none, as in a test set alone, they are of the gallery of all splits, which never asks.
    """
    of_pictures, of_views = (used.rows["split"] == "train").to_numpy(), (seen["split"] == "train").to_numpy()
    if not of_pictures.any() and not of_views.any():
        of_pictures, of_views = (used.rows["role"] == GALLERY).to_numpy(), np.ones(len(seen), bool)
    rng = np.random.default_rng((settings.seed, 0))
    chosen = []
    for folder, table, allowed in ((crops, used.images, of_pictures), (views, seen, of_views)):
        rows = np.flatnonzero(allowed)
        rows = np.sort(rng.choice(rows, min(LEARNT_FROM, len(rows)), replace=False))
        chosen.append(Pictures(folder, table.iloc[rows]))
    return chosen


def learn(settings: Settings, pictures: Iterable[Pictures], most: int) -> Codebook:
    """A codebook from the ``most`` strongest points of each of ``pictures``. The same input gives the same codebook.

    Raises:
        UserError: the pictures have no points.
    """
    rng = np.random.default_rng((settings.seed, 1))
    drawn: list[Floats] = []
    for some in pictures:
        for packed in points_of_views(some, np.arange(len(some.rows)), most):
            values = root_sift(packed.points())
            drawn.append(values[rng.permutation(len(values))[:POINTS_OF_EACH]])
    if not sum(map(len, drawn)):
        raise UserError(
            f"no SIFT point in the {len(drawn)} pictures that the codebook of sift_vlad is learnt from; look at the "
            "pictures of split train below data/crops and data/views"
        )
    values = np.concatenate(drawn)
    mean, axes = principal_components(values, settings.channels)
    components = ((values - mean) @ axes).astype(np.float32)
    return Codebook(mean, axes, kmeans(components, settings.clusters, rng))
