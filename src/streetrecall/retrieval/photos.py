"""Answers to photos: places, ranked by their views and those of their neighbours, then by local geometry.

`answer_photos` does all of it, for single photos and for all photos of a spot together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from streetrecall.retrieval.exact import top
from streetrecall.scoring.ranking import Floats, Ints
from streetrecall.scoring.spots import place_scores, with_neighbours

if TYPE_CHECKING:  # a bundle scores without them
    import pandas as pd

    from streetrecall.params.schema import PhotoAnswering as Settings
    from streetrecall.scoring.photos import Answered


class Searched(Protocol):
    """Views that answer: ``month`` (m,) text, ``descriptors`` (m, d) of unit norm.

    ``place`` (m,) numbers the place of each view and ``date`` (m,) its panorama. ``places`` (p,) are the places' ids,
    and ``xy`` (p, 2) the mean positions of their panoramas, projected, metres.
    """

    @property
    def month(self) -> NDArray[np.str_]: ...
    @property
    def descriptors(self) -> NDArray[np.float32]: ...
    @property
    def place(self) -> Ints: ...
    @property
    def date(self) -> Ints: ...
    @property
    def places(self) -> Ints: ...
    @property
    def xy(self) -> Floats: ...


@dataclass(frozen=True)
class Gallery:
    """The views that may answer photos.

    ``rows`` (m rows) has VIEWS columns; the rest is that of `Searched`.
    """

    rows: pd.DataFrame
    descriptors: NDArray[np.float32]
    place: Ints
    date: Ints
    places: Ints
    xy: Floats

    @property
    def month(self) -> NDArray[np.str_]:
        return self.rows["month"].to_numpy(str)


def gallery_of(rows: pd.DataFrame, descriptors: NDArray[np.float32]) -> Gallery:
    """The gallery of the views in ``rows`` (VIEWS columns), whose descriptors are ``descriptors`` (m, d)."""
    from streetrecall.scoring.protocols import positions

    places, place = np.unique(rows["place"].to_numpy(np.int64), return_inverse=True)
    panoramas = rows["place"].astype(str) + "/" + rows["pano_id"].astype(str)
    _, first, date = np.unique(panoramas.to_numpy(str), return_index=True, return_inverse=True)
    xy = np.zeros((len(places), 2))
    np.add.at(xy, place[first], positions(rows.iloc[first]))
    xy /= np.bincount(place[first], minlength=len(places))[:, None]
    return Gallery(rows, descriptors, place, date, places, xy)


@dataclass(frozen=True)
class Photos:
    """The n photos that are asked: ``rows`` has PHOTOS columns, ``descriptors`` (n, d) unit norm."""

    rows: pd.DataFrame
    descriptors: NDArray[np.float32]


def answer_photos(
    photos: Photos, gallery: Gallery, pictures: tuple[Path, Path], settings: Settings
) -> dict[str, Answered]:
    """Answers to single photos and to all photos of each spot together, by protocol.

    ``pictures`` are the folders of the photos' and the views' shards.

    Raises:
        UserError: a picture cannot be read.
    """
    from streetrecall.retrieval.points import Pictures
    from streetrecall.retrieval.rerank import compare
    from streetrecall.scoring.photos import SINGLE, THREE, Answered

    scores = score(photos.rows["month"].to_numpy(str), photos.descriptors, gallery, settings)
    inliers = np.zeros(scores.of_places.shape, np.int64)
    if settings.rerank.places:
        asked, answering = (Pictures(f, r) for f, r in zip(pictures, (photos.rows, gallery.rows), strict=True))
        found = compare(asked, answering, scores.views, settings.rerank)
        rows, columns = np.nonzero(scores.best >= 0)
        inliers[rows, scores.best[rows, columns]] = found[rows, columns]
    values = scores.of_places + (settings.rerank.weight * np.log1p(inliers)).round(9)
    single = photos.rows.assign(query=photos.rows["photo_id"])
    firsts, index = np.unique(photos.rows["spot"].to_numpy(np.int64), return_index=True, return_inverse=True)[1:]
    several = photos.rows.iloc[firsts].assign(query=photos.rows["spot"], angle_deg=np.nan, fov_deg=np.nan)
    return {
        SINGLE: Answered(single, values, inliers),
        THREE: Answered(several, together(values, index).round(9), together(inliers, index).round().astype(np.int64)),
    }


@dataclass(frozen=True)
class Scores:
    """Scores of the gallery's p places for each of n photos.

    ``of_places`` (n, p): minus infinity where no view of the place may answer. ``best`` (n, c) are the c places with
    the largest scores, best first, and ``views`` (n, c, v) the gallery rows of the v most similar views of each, most
    similar first; -1 where there is no more.
    """

    of_places: Floats
    best: Ints
    views: Ints


def score(month: NDArray[np.str_], descriptors: NDArray[np.float32], gallery: Searched, settings: Settings) -> Scores:
    """Score each place for each photo, of ``month`` (n,), by the similarity of its descriptor (n, d).

    Views of the photo's own month do not count: they may be of the same drive.
    """
    count, views = max(settings.rerank.places, 1), max(settings.rerank.views, 1)
    values = np.full((len(month), len(gallery.places)), -np.inf)
    best = np.full((len(month), min(count, len(gallery.places))), -1, np.int64)
    nearest = np.full((*best.shape, views), -1, np.int64)
    for asking, allowed in _by_month(month, gallery.month):
        similarity = descriptors[asking] @ gallery.descriptors[allowed].T
        dates, date = np.unique(gallery.date[allowed], return_inverse=True)
        place_of_date = np.zeros(len(dates), np.int64)
        place_of_date[date] = gallery.place[allowed]
        present, place_of_date = np.unique(place_of_date, return_inverse=True)
        scores = place_scores(similarity, date, place_of_date, settings.over_dates)
        scores = with_neighbours(scores, gallery.xy[present], settings.neighbour_weight, settings.neighbour_m).round(9)
        values[np.ix_(asking, present)] = scores
        chosen = present[top(scores, min(count, len(present)))[0]]
        best[asking, : chosen.shape[1]] = chosen
        place = gallery.place[allowed]
        for c in range(chosen.shape[1]):
            of_place = np.where(place[None] == chosen[:, c, None], similarity, -np.inf)
            index, value = top(of_place, min(views, len(allowed)))
            nearest[asking, c, : index.shape[1]] = np.where(np.isfinite(value), allowed[index], -1)
    return Scores(values, best, nearest)


def together(values: NDArray, group: Ints) -> Floats:
    """The mean of ``values`` (n, p) over the rows of each group (n,), which are numbered 0, 1, ...

    It ranks as the sum does, and is comparable between groups of different size.

    >>> together(np.array([[0.5, 0.25], [0.25, 0.125], [0.25, 0.5]]), np.array([0, 1, 0])).tolist()
    [[0.375, 0.375], [0.25, 0.125]]
    """
    summed = np.zeros((int(group.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(summed, group, values)
    return summed / np.bincount(group)[:, None]


def _by_month(photo_month: NDArray[np.str_], view_month: NDArray[np.str_]) -> Iterator[tuple[Ints, Ints]]:
    """The photos of each month, and the views of other months, as row numbers; months without such views are left
    out."""
    for month in np.unique(photo_month):
        allowed = np.flatnonzero(view_month != month)
        if len(allowed):
            yield np.flatnonzero(photo_month == month), allowed
