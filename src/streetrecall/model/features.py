"""Pictures to pixels, and pixels to the maps of a backbone's frozen part, computed once and kept.

The cache lies outside DVC's outputs (below the store's folder) and is keyed by all that its values depend on: weights,
layers, code, the libraries' versions, threads, picture size and the pictures' hashes in order.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import keras_cv
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from streetrecall.errors import UserError
from streetrecall.files import write_array
from streetrecall.model import runtime
from streetrecall.pictures.shards import ShardReader

CHUNK = 512  # pictures a file
BATCH = 32
KEPT = 3  # sets of maps, and checkpoints of other runs
CODE = ("features.py", "backbone.py", "layers.py", "network.py")  # what decides a map's values


def decode(data: Any, size: int) -> Any:
    """A JPEG as (size, size, 3) float32 of 0-255, resized if it has another size. A TensorFlow op."""
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    image = tf.cast(image, tf.float32)
    shape = tf.shape(image)
    fits = tf.logical_and(shape[0] == size, shape[1] == size)
    image = tf.cond(fits, lambda: image, lambda: tf.image.resize(image, (size, size), antialias=True))
    return tf.ensure_shape(image, (size, size, 3))


class Pictures(Sequence[bytes]):
    """The JPEGs of ``images`` (IMAGES rows), in order, each read from its shard below ``crops`` when it is asked for.

    Raises:
        UserError: a shard is missing or too short.
    """

    def __init__(self, crops: Path, images: pd.DataFrame) -> None:
        self._reader = ShardReader(crops)
        self._crops, self._names = crops, images["image_id"].to_numpy()
        self._where = list(zip(images["shard"], images["offset"].astype(int), images["size"].astype(int), strict=True))

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, position: Any) -> Any:
        return self._reader.read(*self._where[position])

    def close(self) -> None:
        """Close the shards that are open; what is read later is opened again."""
        self._reader.close()

    def __del__(self) -> None:
        self.close()

    def name(self, position: int) -> str:
        """Where that picture is, for people."""
        return f"{self._crops / self._where[position][0]}: image_id {self._names[position]}"


def fetch(jpegs: Sequence[bytes], position: Any) -> Any:
    """One of ``jpegs``, a scalar string tensor. A TensorFlow op.

    It is called stateless, as which it is read ahead and in parallel also where ops are made deterministic.
    """
    return tf.ensure_shape(tf.numpy_function(lambda i: jpegs[int(i)], [position], tf.string, stateful=False), ())


@contextmanager
def named(jpegs: Sequence[bytes]) -> Iterator[None]:
    """Turns TensorFlow's complaint about one of ``jpegs`` into a UserError that names it, and in the end closes their
    shards: TensorFlow keeps what `fetch` hands it for good."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError):
        name: Callable[[int], str] = getattr(jpegs, "name", "picture {} (counted from 0)".format)
        for position in range(len(jpegs)):
            try:
                tf.io.decode_jpeg(jpegs[position])
            except tf.errors.InvalidArgumentError as fault:
                raise UserError(
                    f"{name(position)} is no JPEG: {fault.message.splitlines()[0]}; run the stage crop again"
                ) from fault
        raise
    finally:
        if isinstance(jpegs, Pictures):
            jpegs.close()


def untuned(data: tf.data.Dataset) -> tf.data.Dataset:
    """``data`` without tf.data's autotuning, to which nothing is left here.

    With it (TensorFlow 2.20) a loop over a dataset now and then did not end with its data, but up to a minute later:
    when the tuning thread, whose pauses double up to 60 s, woke up.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def batches(jpegs: Sequence[bytes], size: int, batch: int, threads: int) -> Iterator[tuple[Any, int]]:
    """Decoded pictures in batches of exactly ``batch`` (the last one filled up with black), and how many are real.

    Raises:
        UserError: a picture cannot be read or is no JPEG; says which.
    """
    data = tf.data.Dataset.range(len(jpegs))
    data = data.map(lambda i: decode(fetch(jpegs, i), size), num_parallel_calls=threads, deterministic=True)
    data = data.batch(batch).map(
        lambda x: (tf.pad(x, [[0, batch - tf.shape(x)[0]], [0, 0], [0, 0], [0, 0]]), tf.shape(x)[0])
    )
    data = data.map(lambda x, n: (tf.ensure_shape(x, (batch, size, size, 3)), n))
    with named(jpegs):
        for pixels, real in untuned(data.prefetch(2)):
            yield pixels, int(real)


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
        "code": [hashlib.sha256((Path(__file__).parent / name).read_bytes()).hexdigest() for name in CODE],
        "libraries": [tf.__version__, keras.__version__, keras_cv.__version__],
        "devices": runtime.devices(),
        "policy": keras.config.dtype_policy().name,
        "pictures": hashlib.sha256("".join(images["sha256"]).encode()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def keep_newest(folder: Path) -> None:
    """Remove all but the `KEPT` newest folders of ``folder``, if it is there."""
    for old in sorted(folder.glob("*"), key=lambda path: -path.stat().st_mtime)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


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
    keep_newest(folder)
    outputs = [np.empty((len(images), *(int(n) for n in tensor.shape[1:])), np.float16) for tensor in frozen.outputs]
    run = tf.function(lambda x: tf.nest.flatten(frozen(x, training=False)))
    starts = range(0, len(images), CHUNK)
    missing = [s for s in starts if not _read_chunk(home, s, outputs)]
    with tqdm(total=sum(min(CHUNK, len(images) - s) for s in missing), unit="image", desc="maps") as bar:
        for start in missing:
            rows = images.iloc[start : start + CHUNK]
            at = start
            for pixels, count in batches(Pictures(crops, rows), size, BATCH, threads):
                values = run(pixels)
                for output, value in zip(outputs, values, strict=True):
                    output[at : at + count] = value.numpy()[:count]
                at += count
                bar.update(count)
            parts = [output[start:at] for output in outputs]
            if not all(np.isfinite(part).all() for part in parts):
                raise UserError("the backbone's maps hold values that are not finite: its weights are damaged")
            _write_chunk(home, start, parts)
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
