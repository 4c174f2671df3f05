"""Pictures to pixels, and pixels to the maps of a backbone's frozen part, computed once and kept.

The cache lies outside DVC's outputs (below the store's folder) and is keyed by all that its values depend on: weights,
layers, code, TensorFlow's version, threads, picture size and the pictures' hashes in order.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from streetrecall.errors import UserError
from streetrecall.files import write_array
from streetrecall.shards import ShardReader

CHUNK = 512  # pictures a file
BATCH = 32
KEPT = 3  # sets of maps


def decode(data: Any, size: int) -> Any:
    """A JPEG as (size, size, 3) float32 of 0-255, resized if it has another size. A TensorFlow op."""
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    image = tf.cast(image, tf.float32)
    shape = tf.shape(image)
    fits = tf.logical_and(shape[0] == size, shape[1] == size)
    image = tf.cond(fits, lambda: image, lambda: tf.image.resize(image, (size, size), antialias=True))
    return tf.ensure_shape(image, (size, size, 3))


def read_pictures(crops: Path, images: pd.DataFrame) -> Iterator[bytes]:
    """The JPEGs of ``images`` (IMAGES rows), in order."""
    with ShardReader(crops) as reader:
        for shard, offset, size in zip(images["shard"], images["offset"], images["size"], strict=True):
            yield reader.read(shard, int(offset), int(size))


def untuned(data: tf.data.Dataset) -> tf.data.Dataset:
    """``data`` without tf.data's autotuning, to which nothing is left here.

    With it (TensorFlow 2.20) a loop over a dataset now and then did not end with its data, but up to a minute later:
    when the tuning thread, whose pauses double up to 60 s, woke up.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def batches(jpegs: Iterable[bytes], size: int, batch: int, threads: int) -> tf.data.Dataset:
    """Decoded pictures in batches of exactly ``batch`` (the last one filled up with black), and how many are real."""
    data = tf.data.Dataset.from_generator(
        lambda: iter(jpegs), output_signature=tf.TensorSpec(shape=(), dtype=tf.string)
    )
    data = data.map(lambda jpeg: decode(jpeg, size), num_parallel_calls=threads, deterministic=True)
    data = data.batch(batch).map(
        lambda x: (tf.pad(x, [[0, batch - tf.shape(x)[0]], [0, 0], [0, 0], [0, 0]]), tf.shape(x)[0])
    )
    return untuned(data.map(lambda x, n: (tf.ensure_shape(x, (batch, size, size, 3)), n)).prefetch(2))


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of a model's weights, in order."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(str(tuple(weight.shape)).encode())
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return digest.hexdigest()


def key_of(frozen: keras.Model, backbone: str, maps: list[str], size: int, images: pd.DataFrame, threads: int) -> str:
    """What the maps depend on, as one hash."""
    facts = {
        "weights": weights_digest(frozen),
        "backbone": backbone,
        "maps": maps,
        "size": size,
        "batch": BATCH,
        "threads": threads,
        "code": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "tensorflow": tf.__version__,
        "policy": keras.config.dtype_policy().name,
        "pictures": hashlib.sha256("".join(images["sha256"]).encode()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def compute(
    frozen: keras.Model,
    backbone: str,
    maps: list[str],
    crops: Path,
    images: pd.DataFrame,
    size: int,
    threads: int,
    folder: Path,
) -> list[NDArray[np.float16]]:
    """Outputs of ``frozen`` for each picture, as float16 arrays (rows, height, width, channels), one per output.

    Args:
        frozen: from pixels to maps.
        backbone: its name.
        maps: the names of its outputs.

    Kept below ``folder`` in files of 512 pictures, so that a killed run goes on where it was. Of other models or
    pictures the sets used last are kept, so that a few experiments side by side do not undo each other's work.
    """
    home = folder / key_of(frozen, backbone, maps, size, images, threads)
    home.mkdir(parents=True, exist_ok=True)
    os.utime(home)
    for old in sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    outputs = [np.empty((len(images), *(int(n) for n in tensor.shape[1:])), np.float16) for tensor in frozen.outputs]
    run = tf.function(lambda x: tf.nest.flatten(frozen(x, training=False)))
    starts = range(0, len(images), CHUNK)
    missing = [s for s in starts if not _read_chunk(home, s, outputs)]
    with tqdm(total=sum(min(CHUNK, len(images) - s) for s in missing), unit="image", desc="maps") as bar:
        for start in missing:
            rows = images.iloc[start : start + CHUNK]
            at = start
            for pixels, real in batches(list(read_pictures(crops, rows)), size, BATCH, threads):
                count = int(real)
                values = run(pixels)
                for output, value in zip(outputs, values, strict=True):
                    output[at : at + count] = value.numpy()[:count]
                at += count
                bar.update(count)
            _write_chunk(home, start, [output[start:at] for output in outputs])
    for output in outputs:
        if not np.isfinite(output).all():
            raise UserError("the backbone's maps hold values that are not finite: its weights are damaged")
    return outputs


def _chunk_path(home: Path, start: int, number: int) -> Path:
    return home / f"{start:08d}-{number}.npy"


def _read_chunk(home: Path, start: int, outputs: list[NDArray[np.float16]]) -> bool:
    for number, output in enumerate(outputs):
        try:
            part = np.load(_chunk_path(home, start, number))
        except (FileNotFoundError, ValueError, EOFError):
            return False
        if part.shape != output[start : start + CHUNK].shape:
            return False
        output[start : start + CHUNK] = part
    return True


def _write_chunk(home: Path, start: int, parts: list[NDArray[np.float16]]) -> None:
    for number, part in enumerate(parts):
        write_array(_chunk_path(home, start, number), part)
