"""Stage `baseline`: describe pictures by histograms of oriented gradients, the mark that a trained model must beat."""

from __future__ import annotations

import argparse
import io
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import write_array
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Baseline
from streetrecall.pictures import shards
from streetrecall.retrieval.rows import descriptor_rows

log = logging.getLogger(__name__)

_BATCH = 256
_FEW = 800  # so many pictures are done before another process has started


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--baseline", type=Path, required=True, help="folder to write: descriptors.npy, rows.parquet")


def main(args: argparse.Namespace) -> None:
    run(parameters.load(args.params).baseline, args.crops, args.baseline)


def run(baseline: Baseline, crops: Path, out: Path) -> None:
    """Write ``descriptors.npy`` (n, d), float16 of unit norm, and the DESCRIPTORS table of its rows.

    Raises:
        UserError: no picture is left, or a shard is missing or damaged.
    """
    images = tables.read(tables.IMAGES, crops / "images.parquet")
    rows = descriptor_rows(images)
    if rows.empty:
        raise UserError(
            f"{crops / 'images.parquet'}: all {len(images)} pictures are in quarantine; see metrics/crop.json"
        )
    where = images.set_index("image_id").loc[rows["image_id"], ["shard", "offset", "size"]]
    descriptors = np.concatenate(list(describe(baseline, crops, where)))
    out.mkdir(parents=True, exist_ok=True)
    write_array(out / "descriptors.npy", descriptors)
    tables.write(tables.DESCRIPTORS, rows, out / "rows.parquet")
    log.info("%d pictures described by %d numbers each", *descriptors.shape)


def describe(baseline: Baseline, crops: Path, where: pd.DataFrame) -> Iterator[NDArray[np.float16]]:
    """Descriptors of the pictures at ``where`` (shard, offset, size), in that order, on all cores."""
    spots = list(zip(where["shard"].tolist(), where["offset"].tolist(), where["size"].tolist(), strict=True))
    batches = [spots[i : i + _BATCH] for i in range(0, len(spots), _BATCH)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    one = partial(describe_batch, baseline, crops)
    with tqdm(total=len(spots), desc="baseline", unit="picture", file=sys.stderr) as bar:
        if len(spots) <= _FEW or cores == 1:
            for part in map(one, batches):
                bar.update(len(part))
                yield part
            return
        with ProcessPoolExecutor(min(cores, len(batches)), multiprocessing.get_context("spawn")) as pool:
            for part in pool.map(one, batches):
                bar.update(len(part))
                yield part


def describe_batch(baseline: Baseline, crops: Path, spots: list[tuple[str, int, int]]) -> NDArray[np.float16]:
    """Descriptors (n, d) of a few pictures."""
    found = []
    with closing(shards.ShardReader(crops)) as reader:
        for shard, offset, size in spots:
            try:
                with Image.open(io.BytesIO(reader.read(shard, offset, size))) as picture:
                    grey = picture.convert("L").resize((baseline.size, baseline.size), Image.Resampling.BOX)
            except (OSError, SyntaxError, ValueError) as error:
                raise UserError(f"{crops / shard}: no picture at {offset} ({error}); dvc checkout mends it") from error
            found.append(hog(np.asarray(grey), baseline))
    return np.stack(found).astype(np.float16)


def hog(grey: NDArray[np.uint8], baseline: Baseline) -> NDArray[np.float32]:
    """Histogram of oriented gradients of a grey picture, of unit norm.

    ``baseline.cells`` x ``baseline.cells`` cells of ``baseline.orientations`` bins, normalised (L2-Hys) over
    blocks of 2 x 2 of them: Dalal and Triggs, CVPR 2005, as in scikit-image. A picture without any gradient
    gets equal numbers.
    """
    from skimage import feature

    side = grey.shape[0] // baseline.cells
    vector = feature.hog(grey, baseline.orientations, (side, side), (2, 2)).astype(np.float32)
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 0 else np.full_like(vector, len(vector) ** -0.5)
