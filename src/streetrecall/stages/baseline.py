"""Stage `baseline`: describe pictures by histograms of oriented gradients (HOG), without any training.

The trained model is compared with these descriptors, and with those of networks of others (``baseline.networks``).
"""

from __future__ import annotations

import argparse
import io
import logging
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import require_in_project, write_array
from streetrecall.parallel import map_in_order
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Baseline
from streetrecall.pictures import shards
from streetrecall.progress import progress
from streetrecall.retrieval.others import OtherNetwork
from streetrecall.retrieval.rows import descriptor_rows
from streetrecall.scoring import system as systems

log = logging.getLogger(__name__)

OTHERS = "others"  # the folder of networks of others, in that of the baseline
_FED = 32  # pictures given to a network by one call
_BATCH = 256  # pictures described by one call
_FEW = 800  # up to so many pictures are described in this process: others take seconds to start


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--views", type=Path, required=True, help="folder of views.parquet and its shards")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos.parquet and its shards")
    parser.add_argument("--networks", type=Path, required=True, help="folder of the networks of others")
    parser.add_argument("--baseline", type=Path, required=True, help="folder to write: descriptors.npy, rows.parquet")


def main(args: argparse.Namespace) -> None:
    require_in_project(args.baseline)
    params = parameters.load(args.params)
    asked = (args.photos, args.views)
    run(params.baseline, args.crops, args.baseline, args.networks, params.train.threads, asked)


def run(
    settings: Baseline,
    crops: Path,
    out: Path,
    networks: Path = Path("data/networks"),
    threads: int = 1,
    asked: tuple[Path, Path] | None = None,
) -> None:
    """Write ``descriptors.npy`` (n, d), float16 of unit norm, and the DESCRIPTORS table of its rows.

    The same two files of each network of others are in ``others/NAME``, and its descriptors of the photos and of the
    gallery's views, as the stage index writes them for the model. ``asked`` are the folders of photos and views.

    Raises:
        UserError: every picture is in quarantine, a shard is missing or damaged, or a network cannot be used.
    """
    others = [OtherNetwork(network, networks, threads) for network in settings.networks]  # before any work
    images = tables.read(tables.IMAGES, crops / "images.parquet")
    rows = descriptor_rows(images)
    if rows.empty:
        raise UserError(
            f"{crops / 'images.parquet'}: all {len(images)} pictures are in quarantine; see metrics/crop.json"
        )
    where = images.set_index("image_id").loc[rows["image_id"], ["shard", "offset", "size"]]
    descriptors = np.concatenate(list(describe(settings, crops, where)))
    out.mkdir(parents=True, exist_ok=True)
    write_array(out / "descriptors.npy", descriptors)
    tables.write(tables.DESCRIPTORS, rows, out / "rows.parquet")
    log.info("described %d pictures by %d numbers each", *descriptors.shape)
    shutil.rmtree(out / OTHERS, ignore_errors=True)
    for network, other in zip(settings.networks, others, strict=True):
        folder = out / OTHERS / network.name
        found = describe_by(other, network.size, crops, where)
        folder.mkdir(parents=True)
        write_array(folder / "descriptors.npy", found)
        tables.write(tables.DESCRIPTORS, rows, folder / "rows.parquet")
        if asked is not None:
            describe_asked(other, network.size, asked, folder)
        log.info("%s: described %d pictures by %d numbers each", network.name, *found.shape)


def describe_asked(network: OtherNetwork, size: int, asked: tuple[Path, Path], out: Path) -> None:
    """Write descriptors (n, d) of the photos and of the gallery's views in the folders ``asked``, and their rows.

    Raises:
        UserError: a shard is missing or damaged.
    """
    photos, views = asked
    seen = tables.read(tables.VIEWS, views / "views.parquet")
    seen = seen[seen["use"] == tables.Use.GALLERY].reset_index(drop=True)
    taken = tables.read(tables.PHOTOS, photos / "photos.parquet")
    write_array(out / systems.VIEWS, describe_by(network, size, views, seen))
    tables.write(tables.VIEWS, seen, out / systems.VIEW_ROWS)
    write_array(out / systems.PHOTOS, describe_by(network, size, photos, taken))
    tables.write(tables.PHOTOS, taken, out / systems.PHOTO_ROWS)


def describe_by(network: OtherNetwork, size: int, crops: Path, where: pd.DataFrame) -> NDArray[np.float16]:
    """Descriptors (n, d) by a network of the pictures at ``where`` (shard, offset, size), in that order.

    Of a picture that is no square, the network sees the middle. Without pictures the shape is (0, 0).
    """
    members = list(zip(where["shard"].tolist(), where["offset"].tolist(), where["size"].tolist(), strict=True))
    parts = []
    with shards.ShardReader(crops) as reader, progress(len(members), network.path.stem, "picture") as bar:
        for start in range(0, len(members), _FED):
            pictures = np.stack([_coloured(reader, crops, m, size) for m in members[start : start + _FED]])
            parts.append(network.describe(pictures).astype(np.float16))
            bar.update(len(pictures))
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float16)


def _coloured(reader: shards.ShardReader, crops: Path, member: tuple[str, int, int], size: int) -> NDArray[np.uint8]:
    shard, offset, _ = member
    try:
        with Image.open(io.BytesIO(reader.read(*member))) as picture:
            return np.asarray(ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BICUBIC))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{crops / shard}: there is no picture at {offset} ({error}); dvc checkout restores the shard"
        ) from error


def describe(settings: Baseline, crops: Path, where: pd.DataFrame) -> Iterator[NDArray[np.float16]]:
    """Descriptors of the pictures at ``where`` (shard, offset, size), in that order, computed on all cores."""
    members = list(zip(where["shard"].tolist(), where["offset"].tolist(), where["size"].tolist(), strict=True))
    batches = [members[i : i + _BATCH] for i in range(0, len(members), _BATCH)]
    with progress(len(members), "baseline", "picture") as bar:
        for part in map_in_order(partial(describe_batch, settings, crops), batches, use_processes=len(members) > _FEW):
            bar.update(len(part))
            yield part


def describe_batch(settings: Baseline, crops: Path, members: list[tuple[str, int, int]]) -> NDArray[np.float16]:
    """Descriptors (n, d) of the n pictures at ``members`` (shard, offset, size)."""
    descriptors = []
    with shards.ShardReader(crops) as reader:
        for shard, offset, size in members:
            try:
                with Image.open(io.BytesIO(reader.read(shard, offset, size))) as picture:
                    grey = picture.convert("L").resize((settings.size, settings.size), Image.Resampling.BOX)
            except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: what Pillow raises for a broken PNG
                raise UserError(
                    f"{crops / shard}: there is no picture at {offset} ({error}); dvc checkout restores the shard"
                ) from error
            descriptors.append(hog(np.asarray(grey), settings))
    return np.stack(descriptors).astype(np.float16)


def hog(grey: NDArray[np.uint8], settings: Baseline) -> NDArray[np.float32]:
    """Histogram of oriented gradients of a square grey picture, of unit norm.

    The picture is divided into ``settings.cells`` x ``settings.cells`` cells with ``settings.orientations`` bins each,
    normalised (L2-Hys) over blocks of 2 x 2 cells: Dalal and Triggs, Histograms of oriented gradients for human
    detection, CVPR 2005, as in scikit-image. All numbers are equal for a picture without any gradient.
    """
    from skimage import feature

    side = grey.shape[0] // settings.cells
    vector = feature.hog(grey, settings.orientations, (side, side), (2, 2)).astype(np.float32)
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 0 else np.full_like(vector, len(vector) ** -0.5)
