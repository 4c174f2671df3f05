"""Feature maps of the frozen part of a backbone, computed once for each picture and cached on disk.

The cache is below the store's folder, outside DVC's outputs. Its key covers all that the values depend on: weights,
layers, code, versions of the libraries, threads, picture size, and the hashes of the pictures in order.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.files import write_array
from streetrecall.imports import code_digest
from streetrecall.model import decoding, runtime
from streetrecall.model.backbone import Backbone
from streetrecall.model.shapes import Size
from streetrecall.progress import progress
from streetrecall.store.leases import lease

CHUNK = 512  # pictures in a file
BATCH = 32


def compute(
    backbone: Backbone, layers: list[str], crops: Path, images: pd.DataFrame, size: Size, threads: int, cache: Path
) -> list[NDArray[np.float16]]:
    """Outputs of ``layers`` for each picture of ``images`` (rows of IMAGES, VIEWS or PHOTOS).

    Each layer gives an array (rows, height, width, channels), float16. They are kept below ``cache`` in files of 512
    pictures, so a run that was killed computes only the missing files. Several runs may share the cache: a set of maps
    that a run reads or writes stays, and of the others the three used last.

    Raises:
        UserError: a picture cannot be read, or a map holds a value that is not finite.
    """
    frozen = backbone.frozen(layers)
    with lease(cache / key_of(frozen, backbone.name, layers, size, images, threads)) as home:
        outputs = [
            np.empty((len(images), *(int(n) for n in tensor.shape[1:])), np.float16) for tensor in frozen.outputs
        ]
        run = tf.function(lambda x: tf.nest.flatten(frozen(x, training=False)))
        starts = range(0, len(images), CHUNK)
        missing = [s for s in starts if not _read_chunk(home, s, outputs)]
        with progress(sum(min(CHUNK, len(images) - s) for s in missing), "maps", "image") as bar:
            for start in missing:
                rows = images.iloc[start : start + CHUNK]
                at = start
                for pixels, count in decoding.batches(decoding.Pictures(crops, rows), size, BATCH, threads):
                    values = run(pixels)
                    for output, value in zip(outputs, values, strict=True):
                        output[at : at + count] = value.numpy()[:count]
                    at += count
                    bar.update(count)
                parts = [output[start:at] for output in outputs]
                if not all(np.isfinite(part).all() for part in parts):
                    raise UserError("the backbone's maps hold values that are not finite: its weights are damaged")
                for number, part in enumerate(parts):
                    write_array(_chunk_path(home, start, number), part)
    return outputs


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


def _chunk_path(home: Path, start: int, number: int) -> Path:
    return home / f"{start:08d}-{number}.npy"


def _read_chunk(home: Path, start: int, outputs: list[NDArray[np.float16]]) -> bool:
    """Read the maps of the pictures from ``start`` on into ``outputs``; False if a file is missing or damaged."""
    for number, output in enumerate(outputs):
        try:
            part = np.load(_chunk_path(home, start, number))
        except (FileNotFoundError, ValueError, EOFError):
            return False
        if part.shape != output[start : start + CHUNK].shape:
            return False
        output[start : start + CHUNK] = part
    return True
