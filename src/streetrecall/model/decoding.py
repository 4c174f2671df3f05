"""From JPEG files in shards to batches of pixels, by TensorFlow's data pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow as tf

from streetrecall.errors import UserError
from streetrecall.model.shapes import Size, sides
from streetrecall.pictures.shards import ShardReader

STAGES = {"image_id": "crop", "view_id": "views", "photo_id": "photos"}  # by the first column of their tables


class Pictures(Sequence[bytes]):
    """The JPEGs of ``images``, in order. Each is read from its shard below ``crops`` on access.

    ``images`` has the columns shard, offset and size; its first column is the id that errors name.

    Raises:
        UserError: a shard is missing or too short.
    """

    def __init__(self, crops: Path, images: pd.DataFrame) -> None:
        self._reader = ShardReader(crops)
        self._crops, self._id, self._names = crops, images.columns[0], images.iloc[:, 0].to_numpy()
        self._where = list(zip(images["shard"], images["offset"].astype(int), images["size"].astype(int), strict=True))

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, position: Any) -> Any:
        return self._reader.read(*self._where[position])

    def close(self) -> None:
        """Close the open shards. A later access opens them again."""
        self._reader.close()

    def __del__(self) -> None:
        self.close()

    def name(self, position: int) -> str:
        """Shard and id of that picture, for error messages."""
        return f"{self._crops / self._where[position][0]}: {self._id} {self._names[position]}"

    @property
    def stage(self) -> str:
        """The stage that wrote the pictures, for error messages."""
        return STAGES.get(self._id, "that wrote it")


def decode(data: Any, size: Size) -> Any:
    """A JPEG as (height, width, 3) float32 of 0-255, resized if it has another size. A TensorFlow op."""
    height, width = sides(size)
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    image = tf.cast(image, tf.float32)
    shape = tf.shape(image)
    fits = tf.logical_and(shape[0] == height, shape[1] == width)
    image = tf.cond(fits, lambda: image, lambda: tf.image.resize(image, (height, width), antialias=True))
    return tf.ensure_shape(image, (height, width, 3))


def fetch(jpegs: Sequence[bytes], position: Any) -> Any:
    """The JPEG at ``position`` as a scalar string tensor. A TensorFlow op.

    It is declared stateless: under deterministic ops tf.data does not run a stateful op ahead or in parallel.
    """
    return tf.ensure_shape(tf.numpy_function(lambda i: jpegs[int(i)], [position], tf.string, stateful=False), ())


def batches(jpegs: Sequence[bytes], size: Size, batch: int, threads: int) -> Iterator[tuple[Any, int]]:
    """Decoded pictures in batches of exactly ``batch``, and how many of them are real; black ones fill the last batch.

    Raises:
        UserError: a picture cannot be read or is no JPEG; says which.
    """
    data = tf.data.Dataset.range(len(jpegs))
    data = data.map(lambda i: decode(fetch(jpegs, i), size), num_parallel_calls=threads, deterministic=True)
    data = data.batch(batch).map(
        lambda x: (tf.pad(x, [[0, batch - tf.shape(x)[0]], [0, 0], [0, 0], [0, 0]]), tf.shape(x)[0])
    )
    data = data.map(lambda x, n: (tf.ensure_shape(x, (batch, *sides(size), 3)), n))
    with naming_broken(jpegs):
        for pixels, real in without_autotune(data.prefetch(2)):
            yield pixels, int(real)


@contextmanager
def naming_broken(jpegs: Sequence[bytes]) -> Iterator[None]:
    """Turn TensorFlow's error about one of ``jpegs`` into a UserError that names the picture.

    At the end the block closes the shards: TensorFlow never releases the objects that `fetch` uses.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError):
        name: Callable[[int], str] = getattr(jpegs, "name", "picture {} (counted from 0)".format)
        stage = getattr(jpegs, "stage", "that wrote it")
        for position in range(len(jpegs)):
            try:
                tf.io.decode_jpeg(jpegs[position])
            except tf.errors.InvalidArgumentError as fault:
                raise UserError(
                    f"{name(position)} is no JPEG: {fault.message.splitlines()[0]}; run the stage {stage} again"
                ) from fault
        raise
    finally:
        if isinstance(jpegs, Pictures):
            jpegs.close()


def without_autotune(data: tf.data.Dataset) -> tf.data.Dataset:
    """``data`` with tf.data's autotuning off; nothing here needs it.

    With it (TensorFlow 2.20) a loop over a dataset sometimes ended up to a minute after its data, when the tuning
    thread woke up: that thread's pauses double up to 60 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)
