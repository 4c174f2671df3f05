"""The pictures that a training uses, and which of them train, validate and are described after each epoch.

`CropCollection` is of the pictures of places, `ViewCollection` of views of any direction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streetrecall.model import losses
from streetrecall.model.network import Network
from streetrecall.model.photo_validation import PhotoValidation
from streetrecall.model.sampler import Sampler
from streetrecall.model.validation import Recall, Validation
from streetrecall.params.schema import Batch, Train
from streetrecall.retrieval.rows import descriptor_rows
from streetrecall.tables import TRAINING_SPLITS, Use

Ints = NDArray[np.int64]
AROUND_M = 60.0  # views of the gallery so near to a photo validate
# What a training depends on of each picture.
COLUMNS = ["image_id", "place", "direction", "date_index", "month", "split", "sha256", "x", "y"]


class Collection(Protocol):
    """What a training needs to know of its pictures.

    Attributes:
        crops: folder of their shards.
        images: their rows, of IMAGES or VIEWS. The other attributes number these rows.
        training: rows of the training pictures; ``sampler`` draws batches of them and numbers them from 0.
        validating: rows of the pictures that validate.
        described: rows that are described after each epoch.
        label: (n,) for the linear discriminant: pictures of one label show the same.
    """

    crops: Path
    images: pd.DataFrame
    training: Ints
    validating: Ints
    described: Ints
    label: Ints
    sampler: Sampler

    def digest(self) -> str:
        """SHA-256 of all that a training depends on here."""

    def pairs(self, rows: Any, others: Any) -> tuple[Any, Any]:
        """Which of ``others`` are positive and which are negative for each of ``rows``: two masks (rows, others).

        Both are tensors of row numbers, -1 where there is no picture.
        """

    def validation(self, params: Train, network: Network) -> Recall:
        """The measure of `Trainer`, over descriptors of ``described``."""

    def validation_part(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the descriptors of ``described``, those of pictures that validate."""

    def update_confusions(self, descriptors: NDArray[np.float32]) -> None:
        """Let the sampler find hard negatives by the descriptors of ``described``."""


class CropCollection:
    """Pictures of train and validation without quarantine, in image_id order. See `Collection`.

    Described are all of validation, and of train the oldest and the newest of each view, since all of them would take
    several times as long.

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
        self._guard_m = batch.guard_m

    def pairs(self, rows: Any, others: Any) -> tuple[Any, Any]:
        return losses.masks(self._pictures(rows), self._pictures(others), self._guard_m)

    def _pictures(self, rows: Any) -> losses.Pictures:
        facts = (self.label, self.place, self.xy)
        return losses.Pictures(rows, *(tf.gather(values, tf.maximum(rows, 0)) for values in facts))

    def validation(self, params: Train, network: Network) -> Recall:
        return Validation(descriptor_rows(self.images.iloc[self.described]))

    def digest(self) -> str:
        return hashlib.sha256(self.images[COLUMNS].to_csv().encode()).hexdigest()

    def validation_part(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        return descriptors[np.isin(self.described, self.validating)]

    def update_confusions(self, descriptors: NDArray[np.float32]) -> None:
        self.sampler.update(descriptors[np.isin(self.described, self.training)], self._first_and_last)


@dataclass(frozen=True)
class Source:
    """Rows of VIEWS or PHOTOS, and the folder of their shards."""

    folder: Path
    rows: pd.DataFrame


class ViewCollection:
    """Views of the training places, and what validates them: near photos of split validation, and gallery views of the
    places of validation and train around these, of the newest date of each place. See `Collection`.

    Views that show the same (`same_sight`) have one label, and are one group of the sampler.

    Args:
        views: rows of VIEWS; those of other splits are left out.
        photos: rows of PHOTOS.
    """

    def __init__(self, params: Train, views: Source, photos: Source) -> None:
        self._params = params.views
        asking = photos.rows[(photos.rows["split"] == "validation") & photos.rows["near"]]
        self._photos = Source(photos.folder, asking.reset_index(drop=True))
        self.crops = views.folder
        training = views.rows[views.rows["use"] == Use.TRAIN]
        answering = _around(views.rows[_validates(views.rows)], asking)
        self.images = pd.concat([training, answering], ignore_index=True)
        self.training = np.arange(len(training))
        self.validating = self.described = np.arange(len(training), len(self.images))
        xy = self.images[["x", "y"]].to_numpy(np.float64)
        self._xy = (xy - xy.mean(axis=0)).astype(np.float32)
        self._heading = self.images["heading_deg"].to_numpy(np.float32)
        centre = same_sight(xy[self.training], self._heading[self.training], params.views.near_m, params.views.near_deg)
        self.label = np.concatenate([centre, np.full(len(answering), -1)])
        place = training["place"].to_numpy(np.int64)[centre]
        grouped = training.assign(place=place, direction=centre).reset_index(drop=True)
        self.sampler = Sampler(grouped, params.batch, params.seed)

    def digest(self) -> str:
        columns = ["sha256", "month", "x", "y"]
        parts = (
            self.images[["view_id", "use", "place", "pano_id", "heading_deg", *columns]],
            self._photos.rows[columns],
        )
        return hashlib.sha256("".join(part.to_csv() for part in parts).encode()).hexdigest()

    def pairs(self, rows: Any, others: Any) -> tuple[Any, Any]:
        return losses.masks_by_sight(self._sights(rows), self._sights(others), self._params)

    def _sights(self, rows: Any) -> losses.Sights:
        return losses.Sights(rows, *(tf.gather(values, tf.maximum(rows, 0)) for values in (self._xy, self._heading)))

    def validation(self, params: Train, network: Network) -> Recall:
        return PhotoValidation(
            params, network, self._photos.folder, self._photos.rows, self.images.iloc[self.described]
        )

    def validation_part(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        return descriptors

    def update_confusions(self, descriptors: NDArray[np.float32]) -> None:
        """Nothing: against a memory of all training views, batches need no hard groups."""


def trains_on_views(views: pd.DataFrame, photos: pd.DataFrame) -> bool:
    """Whether there are views to train on, and photos and gallery views to choose the best epoch by."""
    asking = (photos["split"] == "validation") & photos["near"]
    return bool((views["use"] == Use.TRAIN).any() and _validates(views).any() and asking.any())


def _validates(views: pd.DataFrame) -> pd.Series:
    """Which views may answer the photos of validation. Those of test have no say in which model is chosen, and those of
    split gallery may become more without training anew."""
    return (views["use"] == Use.GALLERY) & views["split"].isin(TRAINING_SPLITS)


def same_sight(xy: NDArray[np.float64], heading: NDArray[np.float32], near_m: float, near_deg: float) -> Ints:
    """For each view the number of the view that stands for what it sees, (n,).

    In order of rows, each view that has none yet stands for itself, and for all later ones without one that are within
    ``near_m`` metres and ``near_deg`` degrees of it.

    >>> same_sight(np.array([[0, 0], [9, 0], [18, 0], [0, 0]]), np.array([350, 5, 0, 90]), 14, 25).tolist()
    [0, 0, 2, 3]
    """
    centre = np.full(len(xy), -1, np.int64)
    near = cKDTree(xy).query_ball_point(xy, near_m, return_sorted=True)
    for row, found in enumerate(near):
        if centre[row] < 0:
            others = np.asarray(found)
            turned = np.abs((heading[others] - heading[row] + 180) % 360 - 180)
            others = others[(turned <= near_deg) & (centre[others] < 0)]
            centre[others] = row
    return centre


def _around(gallery: pd.DataFrame, photos: pd.DataFrame) -> pd.DataFrame:
    """The views of the newest date of the places around the photos."""
    newest = gallery.groupby("place")["month"].transform("max") == gallery["month"]
    distance, _ = cKDTree(photos[["x", "y"]]).query(gallery[["x", "y"]])
    return gallery[newest & (distance <= AROUND_M)]
