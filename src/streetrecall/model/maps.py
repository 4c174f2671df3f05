"""Feature maps of the frozen part of a backbone, computed once for each picture and cached on disk.

The cache is below the store's folder, outside DVC's outputs. Its key covers all that the values depend on: weights,
layers, code, versions of the libraries, threads, picture size, and the hashes of the pictures in order. The maps stay
on disk and are mapped into memory, so a training may have more of them than memory holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.imports import code_digest
from streetrecall.model import decoding, runtime
from streetrecall.model.backbone import Backbone
from streetrecall.model.shapes import Size
from streetrecall.progress import progress
from streetrecall.store.leases import lease

CHUNK = 512  # pictures that are computed between two marks of what is complete
BATCH = 32


def compute(
    backbone: Backbone, layers: list[str], crops: Path, images: pd.DataFrame, size: Size, threads: int, cache: Path
) -> list[NDArray[np.float16]]:
    """Outputs of ``layers`` for each picture of ``images`` (rows of IMAGES, VIEWS or PHOTOS).

    Each layer gives an array (rows, height, width, channels), float16, of a file below ``cache`` that is mapped into
    memory to be read. A run that was killed computes only the missing chunks of 512 pictures. Several runs may share
    the cache: a set of maps that a run computes stays, and of the others the three used last. A file that is removed
    while a run has it mapped stays readable for it.

    Raises:
        UserError: a picture cannot be read, or a map holds a value that is not finite.
    """
    frozen = backbone.frozen(layers)
    shapes = [tuple(int(n) for n in tensor.shape[1:]) for tensor in frozen.outputs]
    with lease(cache / key_of(frozen, backbone.name, layers, size, images, threads)) as home:
        files = [_reserve(home, number, len(images), shape) for number, shape in enumerate(shapes)]
        run = tf.function(lambda x: tf.nest.flatten(frozen(x, training=False)))
        missing = [s for s in range(0, len(images), CHUNK) if not _mark(home, s).exists()]
        with progress(sum(min(CHUNK, len(images) - s) for s in missing), "maps", "image") as bar:
            for start in missing:
                rows = images.iloc[start : start + CHUNK]
                parts = [np.empty((len(rows), *shape), np.float16) for shape in shapes]
                at = 0
                for pixels, count in decoding.batches(decoding.Pictures(crops, rows), size, BATCH, threads):
                    for part, value in zip(parts, run(pixels), strict=True):
                        part[at : at + count] = value.numpy()[:count]
                    at += count
                    bar.update(count)
                if not all(np.isfinite(part).all() for part in parts):
                    raise UserError("the backbone's maps hold values that are not finite: its weights are damaged")
                for file, part in zip(files, parts, strict=True):
                    _write(file, start, part)
                _mark(home, start).touch()
        return [
            np.memmap(file, np.float16, "r", shape=(len(images), *shape))
            for file, shape in zip(files, shapes, strict=True)
        ]


def key_of(
    frozen: keras.Model, backbone: str, layers: list[str], size: Size, images: pd.DataFrame, threads: int
) -> str:
    """What the maps depend on, as one hash."""
    facts = {
        "weights": runtime.weights_digest(frozen),
        "backbone": backbone,
        "maps": layers,
        "size": size,
        "batch": BATCH,
        "threads": threads,
        "code": code_digest(__name__),
        **runtime.facts(),
        "pictures": hashlib.sha256("".join(images["sha256"]).encode()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _mark(home: Path, start: int) -> Path:
    """The file that says that the maps of the chunk from ``start`` on are complete."""
    return home / f"{start:08d}.done"


def _reserve(home: Path, number: int, rows: int, shape: tuple[int, ...]) -> Path:
    """The file for the maps of one layer, of its whole size; where it has another size, no chunk is complete."""
    file, size = home / f"{number}.f16", rows * math.prod(shape) * np.dtype(np.float16).itemsize
    if not file.exists() or file.stat().st_size != size:
        for mark in home.glob("*.done"):
            mark.unlink(missing_ok=True)
        with file.open("ab") as opened:
            opened.truncate(size)  # takes no space on disk until it is written
    return file


def _write(file: Path, start: int, part: NDArray[np.float16]) -> None:
    """Write the maps of the pictures from ``start`` on, and wait until they are on disk."""
    with file.open("r+b") as opened:
        opened.seek(start * part[0].nbytes)
        opened.write(part.tobytes())
        opened.flush()
        os.fsync(opened.fileno())
