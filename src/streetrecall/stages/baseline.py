"""Stage `baseline`: describe pictures by histograms of oriented gradients (HOG), without any training.

The trained model is compared with these descriptors.
"""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from streetrecall.errors import UserError
from streetrecall.files import require_in_project
from streetrecall.parallel import map_in_order
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Baseline
from streetrecall.pictures import shards
from streetrecall.progress import progress
from streetrecall.retrieval.described import pictures_in_use, write_descriptors

log = logging.getLogger(__name__)

_BATCH = 256  # pictures described by one call
_FEW = 800  # up to so many pictures are described in this process: others take seconds to start


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--baseline", type=Path, required=True, help="folder to write: descriptors.npy, rows.parquet")


def main(args: argparse.Namespace) -> None:
    require_in_project(args.baseline)
    run(parameters.load(args.params).baseline, args.crops, args.baseline)


def run(settings: Baseline, crops: Path, out: Path) -> None:
    """Write ``descriptors.npy`` (n, d), float16 of unit norm, and the DESCRIPTORS table of its rows.

    Raises:
        UserError: every picture is in quarantine, or a shard is missing or damaged.
    """
    used = pictures_in_use(crops)
    descriptors = np.concatenate(list(describe(settings, crops, used.images)))
    write_descriptors(out, used.rows, descriptors)
    log.info("described %d pictures by %d numbers each", *descriptors.shape)


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
