"""Where a phase takes its batches from: maps that are computed once and kept on disk, or augmented pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from streetrecall.model import decoding, maps
from streetrecall.model.augment import augment, augment_map
from streetrecall.model.collection import Collection, Ints
from streetrecall.model.network import DESCRIPTOR, HEAD, IMAGE, Network, as_input
from streetrecall.params.schema import Train

ALL = slice(None)
MAPS_BATCH = 128  # pictures at once, where a model runs on maps
Floats = NDArray[np.float32]
Graph = Callable[..., list[Any]]


class Source(Protocol):
    """The input of a phase.

    ``layer`` is the phase's ``trains_after``, ``model`` the part of the network after it, to the descriptor.
    """

    layer: str
    model: keras.Model

    def batches(self, rows: Ints, seed: tuple[int, int], part: slice = ALL) -> Iterable[Any]:
        """Pairs of a batch of inputs, augmented, and its rows, for ``rows`` (steps, n) of the collection's pictures.

        ``part`` are the pictures of each batch that are given; they are changed as in the whole batch.
        """

    def run(self, model: keras.Model, rows: Ints) -> list[Floats]:
        """Outputs of ``model``, which takes inputs of this source, for ``rows`` as they are, without augmentation."""


class Sources:
    """Opens the source of each phase.

    Args:
        cache_folder: where maps are cached on disk.
    """

    def __init__(self, params: Train, collection: Collection, network: Network, cache_folder: Path) -> None:
        self._params, self._collection, self._network, self._folder = params, collection, network, cache_folder
        self.tail = cache(network.tail)  # each model is built once
        self._graph: Callable[[keras.Model], Graph] = cache(_graph)
        self._maps = cache(self._make_maps)

    def open(self, layer: str) -> Source:
        """The source of a phase that trains what comes after ``layer``."""
        if layer == IMAGE:
            self._maps.cache_clear()  # the phase trains all layers, so maps of before are of no more use
            return PixelSource(self._params, self._collection, self._network.whole, self._graph)
        return MapSource(self._params, layer, self._maps(layer), self.tail(layer, DESCRIPTOR), self._graph)

    def _make_maps(self, layer: str) -> list[NDArray[np.float16]]:
        """Maps of all pictures after ``layer``, from the cache or computed."""
        return maps.compute(
            self._network.backbone,
            self._network.layers(layer),
            self._collection.crops,
            self._collection.images,
            self._params.image_size,
            self._params.threads,
            self._folder,
        )


class MapSource:
    """Batches of maps; those of a layer within the backbone are augmented."""

    def __init__(
        self,
        params: Train,
        layer: str,
        arrays: list[NDArray[np.float16]],
        model: keras.Model,
        graph: Callable[[keras.Model], Graph],
    ) -> None:
        self.layer, self.maps, self.model = layer, arrays, model
        self._params, self._graph = params, graph

    def batches(self, rows: Ints, seed: tuple[int, int], part: slice = ALL) -> Iterable[Any]:
        seeds, rows = _seeds(seed, rows.shape, part), rows[:, part]
        shapes = [m.shape[1:] for m in self.maps]

        def gather(index: Any) -> Any:
            # Declared stateless: under deterministic ops tf.data does not run a stateful op ahead.
            kinds = [tf.float16] * len(shapes)
            parts = tf.numpy_function(lambda i: [m[i] for m in self.maps], [index], kinds, stateful=False)
            parts = [
                tf.cast(tf.ensure_shape(part, shape), tf.float32) for part, shape in zip(parts, shapes, strict=True)
            ]
            return tuple(parts), index

        def change(gathered: Any, seed: Any) -> Any:
            parts, index = gathered
            return tuple(augment_map(part, seed, self._params.augment) for part in parts), index

        data = tf.data.Dataset.from_tensor_slices(rows.ravel())
        data = data.map(gather, num_parallel_calls=1)
        if self.layer != HEAD:
            data = tf.data.Dataset.zip(data, seeds)
            data = data.map(change, num_parallel_calls=1)
        return decoding.without_autotune(data.batch(rows.shape[1], drop_remainder=True).prefetch(2))

    def run(self, model: keras.Model, rows: Ints) -> list[Floats]:
        run = self._graph(model)
        parts = []
        for start in range(0, len(rows), MAPS_BATCH):
            batch = rows[start : start + MAPS_BATCH]
            full = np.resize(batch, MAPS_BATCH)  # one shape, one graph
            values = run(*[tf.constant(m[full], tf.float32) for m in self.maps])
            parts.append([value.numpy()[: len(batch)] for value in values])
        return [np.concatenate(each) for each in zip(*parts, strict=True)]


class PixelSource:
    """Batches of augmented pictures, read from the shards, and the whole network."""

    layer = IMAGE

    def __init__(
        self, params: Train, collection: Collection, model: keras.Model, graph: Callable[[keras.Model], Graph]
    ) -> None:
        self.model = model
        self._params, self._collection, self._graph = params, collection, graph
        self._pictures = decoding.Pictures(collection.crops, collection.images)

    def batches(self, rows: Ints, seed: tuple[int, int], part: slice = ALL) -> Iterator[Any]:
        params = self._params
        seeds, rows = _seeds(seed, rows.shape, part), rows[:, part]

        def picture(row: Any, seed: Any) -> Any:
            image = decoding.decode(decoding.fetch(self._pictures, row), params.image_size)
            return augment(image, seed, params.augment), row

        data = tf.data.Dataset.zip(tf.data.Dataset.from_tensor_slices(rows.ravel()), seeds)
        data = data.map(picture, num_parallel_calls=params.threads, deterministic=True)
        with decoding.naming_broken(self._pictures):
            yield from decoding.without_autotune(data.batch(rows.shape[1], drop_remainder=True).prefetch(2))

    def run(self, model: keras.Model, rows: Ints) -> list[Floats]:
        run = self._graph(model)
        pictures = decoding.Pictures(self._collection.crops, self._collection.images.iloc[rows])
        data = decoding.batches(pictures, self._params.image_size, maps.BATCH, self._params.threads)
        parts = [[value.numpy()[:count].astype(np.float32) for value in run(pixels)] for pixels, count in data]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _seeds(seed: tuple[int, int], shape: tuple[int, ...], part: slice) -> tf.data.Dataset:
    """Seeds of augmentation, one for each picture of ``part`` of batches of ``shape`` (steps, n)."""
    seeds = tf.random.experimental.stateless_split(seed, math.prod(shape)).numpy()
    return tf.data.Dataset.from_tensor_slices(seeds.reshape(*shape, 2)[:, part].reshape(-1, 2))


def _graph(model: keras.Model) -> Graph:
    """``model`` as a compiled function that returns its outputs as a list."""
    return tf.function(lambda *inputs: tf.nest.flatten(model(as_input(inputs), training=False)))
