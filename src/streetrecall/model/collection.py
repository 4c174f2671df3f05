"""The pictures that a training uses, and which of them train, validate and are described after each epoch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.model.sampler import Sampler
from streetrecall.params.schema import Batch

Ints = NDArray[np.int64]
# What a training depends on of each picture.
COLUMNS = ["image_id", "place", "direction", "date_index", "month", "split", "sha256", "x", "y"]


class Collection:
    """Pictures of train and validation without quarantine, in image_id order.

    Attributes:
        images: their IMAGES rows. The other attributes number these rows.
        training: rows of the training pictures; ``sampler`` draws batches of them and numbers them from 0.
        validating: rows of the validation pictures.
        described: rows that are described after each epoch: all of validation, and of train the oldest and the newest
            of each view, since all of them would take several times as long.
        label, place, xy: of each row: a number for its place and direction, its place, and metres from the middle.

    Args:
        crops: folder of the shards.
        images: IMAGES rows of any split.
    """

    def __init__(self, crops: Path, images: pd.DataFrame, batch: Batch, seed: int) -> None:
        self.crops = crops
        used = images["split"].isin(["train", "validation"]) & (images["quarantine"] == "")
        self.images = images[used].sort_values("image_id", ignore_index=True)
        self.training = np.flatnonzero(self.images["split"] == "train")
        self.validating = np.flatnonzero(self.images["split"] == "validation")
        self.sampler = Sampler(self.images.iloc[self.training].reset_index(drop=True), batch, seed)
        self._first_and_last = self.sampler.first_and_last()
        self.described = np.sort(np.concatenate([self.validating, self.training[self._first_and_last]]))
        self.place = self.images["place"].to_numpy(np.int64)
        self.label = self.place * 64 + self.images["direction"].to_numpy(np.int64)
        xy = self.images[["x", "y"]].to_numpy(np.float64)
        self.xy = (xy - xy.mean(axis=0)).astype(np.float32)

    def digest(self) -> str:
        """SHA-256 of all that a training depends on here."""
        return hashlib.sha256(self.images[COLUMNS].to_csv().encode()).hexdigest()

    def validation_part(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the descriptors of ``described``, those of validation pictures."""
        return descriptors[np.isin(self.described, self.validating)]

    def update_confusions(self, descriptors: NDArray[np.float32]) -> None:
        """Let the sampler find hard negatives by the descriptors of ``described``."""
        self.sampler.update(descriptors[np.isin(self.described, self.training)], self._first_and_last)
