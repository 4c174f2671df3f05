"""How well an embedder does on photos of the validation places while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from streetrecall.model import decoding, network
from streetrecall.model.shapes import photo_sizes
from streetrecall.params.schema import Train
from streetrecall.retrieval.exact import top
from streetrecall.scoring.protocols import positions
from streetrecall.tables import RIGHT_M

BATCH = 32  # photos at once
KS = (1, 5)


class PhotoValidation:
    """Recall of validation photos at 1 and 5 within 25 m, over the places of some views. Training selects by the mean
    of both, because 5 tells models apart that 1 does not.

    A place answers by its best view, but not by those of the photo's month. The photos are seen at their own shape, by
    networks of these shapes that get the trained weights each time.

    Args:
        network: that is trained.
        folder: of the photos' shards.
        photos, views: rows of PHOTOS and VIEWS.

    Attributes:
        query_counts: the number of photos.

    Raises:
        UserError: the network takes square pictures only.
    """

    def __init__(
        self, params: Train, trained: network.Network, folder: Path, photos: pd.DataFrame, views: pd.DataFrame
    ) -> None:
        self._trained, self._threads, self._dimensions = trained, params.threads, params.head.dimensions
        self._shapes: list[tuple[Any, Any, tuple[int, int], decoding.Pictures, NDArray[np.int64]]] = []
        for size, rows in photo_sizes(photos["width"].to_numpy(), photos["height"].to_numpy()).items():
            shaped = network.resized(trained, size, params.head)
            pictures = decoding.Pictures(folder, photos.iloc[rows])
            self._shapes.append((shaped, _graph(shaped), size, pictures, rows))
        self._places, self._place = np.unique(views["place"].to_numpy(np.int64), return_inverse=True)
        near = np.hypot(*(positions(photos)[:, None] - positions(views)[None]).transpose(2, 0, 1)) <= RIGHT_M
        self._near = self._of_places(near.astype(np.float32)) > 0
        self._own_month = photos["month"].to_numpy(str)[:, None] == views["month"].to_numpy(str)[None]
        self.query_counts = {"photos": len(photos)}

    def recall(self, descriptors: NDArray[np.float32]) -> dict[str, float]:
        """Recall at 1 and 5, and their mean; ``descriptors`` (n, d), of unit norm, are those of the views."""
        similarity = np.where(self._own_month, -2.0, self._describe() @ descriptors.T)
        best, _ = top(self._of_places(similarity), min(max(KS), len(self._places)))
        hits = np.take_along_axis(self._near, best, axis=1)
        found = {f"photos_{k}": float(hits[:, :k].any(axis=1).mean()) for k in KS}
        return found | {"mean": sum(found.values()) / len(found)}

    def _describe(self) -> NDArray[np.float32]:
        """Descriptors of the photos by the current weights."""
        out = np.zeros((len(self._near), self._dimensions), np.float32)
        for shaped, run, size, pictures, rows in self._shapes:
            network.copy_weights(self._trained, shaped)
            batches = decoding.batches(pictures, size, BATCH, self._threads)
            out[rows] = np.concatenate([run(pixels).numpy()[:count] for pixels, count in batches])
        return out

    def _of_places(self, values: NDArray) -> NDArray:
        """The largest of each place's columns, (photos, places)."""
        order = np.argsort(self._place, kind="stable")
        starts = np.searchsorted(self._place[order], np.arange(len(self._places)))
        return np.maximum.reduceat(values[:, order], starts, axis=1)


def _graph(shaped: network.Network) -> Any:
    """The whole network as a compiled function of pixels."""
    return tf.function(lambda pixels: shaped.whole(pixels, training=False))
