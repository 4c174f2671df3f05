"""A bundle of the tiny town, whose network is so small that a test can make it: each channel of a coarse grid of means.

Everything else is as in a real one: the LiteRT file with its signatures, the gallery, points, thumbnails, calibration.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from streetrecall import tables
from streetrecall.bundle import layout
from streetrecall.bundle.layout import Calibration
from streetrecall.bundle.write import Answering, write
from streetrecall.geo import project
from streetrecall.model.decoding import Pictures
from streetrecall.params.schema import Params
from streetrecall.pictures.photo import read_pixels
from streetrecall.retrieval.photo_descriptors import describe_photo
from streetrecall.retrieval.portable import FILE, PortableEmbedder, PortableFile, signature

SIZES = ((48, 64), (64, 48), (64, 64))
LAT, LON = 59.32, 18.06
NEVER, ALWAYS = 99.0, -99.0  # thresholds
ROWS = {"simulated": ("CC0-1.0", "the tiny town")}


@cache
def tiny_network() -> bytes:
    """A LiteRT file as the stage train writes it, with descriptors of 8 x 8 x 3 numbers."""
    import tensorflow as tf

    def describe(image: Any) -> Any:
        cells = [1, image.shape[1] // 8, image.shape[2] // 8, 1]
        coarse = tf.reshape(tf.nn.avg_pool2d(image / 255.0, cells, cells, "VALID"), (1, 192))
        return {"descriptor": tf.math.l2_normalize(coarse - tf.reduce_mean(coarse, axis=1, keepdims=True), axis=1)}

    module, signatures = tf.Module(), {}
    for height, width in SIZES:
        shape = tf.TensorSpec((1, height, width, 3), tf.float32, name="image")
        signatures[signature(height, width)] = tf.function(describe, input_signature=[shape]).get_concrete_function()
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=sorted(signatures)).convert())


def tiny_file(folder: Path) -> PortableFile:
    """The tiny network in a file of ``folder``."""
    (folder / FILE).write_bytes(tiny_network())
    return PortableFile(folder / FILE, SIZES, 192)


def described(rows: pd.DataFrame, folder: Path, network: PortableFile) -> np.ndarray:
    """Descriptors of pictures in shards, by the tiny network."""
    embedder = PortableEmbedder(network.path, SIZES, 1)
    return np.stack([describe_photo(embedder, read_pixels(data)) for data in Pictures(folder, rows)])


def tiny_params(params: Params, **rerank: int) -> Params:
    photos = params.evaluate.photos
    photos = photos.model_copy(update={"rerank": photos.rerank.model_copy(update={"places": 3, **rerank})})
    return params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"photos": photos})})


def town_views(folder: Path) -> pd.DataFrame:
    """The gallery's views of the town in ``folder``, at places 40 m apart in a row to the east."""
    views = tables.read(tables.VIEWS, folder / "views.parquet")
    views = views[views["use"] == "gallery"].reset_index(drop=True)
    east, north = project([LAT], [LON], "EPSG:3006")
    views["x"] = east[0] + 40.0 * views["place"]
    views["y"] = north[0]
    return views.assign(provider="simulated", licence="CC0-1.0", attribution="the tiny town")


def write_tiny(
    out: Path, views: pd.DataFrame, folder: Path, params: Params, kind: str = layout.VIEWS, threshold: float = ALWAYS
) -> Path:
    """A bundle in ``out`` of ``views`` (rows of the pictures that answer), whose shards are below ``folder``."""
    one = Calibration(threshold, 2.0, 0.9, 40)
    calibration = {
        how: {layout.SINGLE: one, layout.SEVERAL: replace(one, queries=20)} for how in (layout.FULL, layout.QUICK)
    }
    network = tiny_file(out.parent)
    answering = Answering(kind, folder, views, described(views, folder, network))
    write(out, answering, network, calibration, {"model": {"test": {}}}, params, "resnet50")
    return out
