"""Local geometry between a photo and a view: RootSIFT points and the inliers of a fundamental matrix.

Two pictures of one scene from nearby standpoints agree in the positions of their points up to a fundamental matrix;
pictures of different scenes agree in few of them by chance. The number of inliers is therefore a second opinion on an
answer that descriptors found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.parallel import map_in_order
from streetrecall.pictures.shards import ShardReader
from streetrecall.scoring.ranking import Ints

if TYPE_CHECKING:  # a bundle compares without them
    import pandas as pd

    from streetrecall.params.schema import Rerank

RATIO = 0.85  # a match is kept if the second nearest descriptor is farther by this factor (Lowe 2004)
ERROR_PX = 1.5  # an inlier lies at most so far from its epipolar line
LEAST = 8  # matches that a fundamental matrix needs
TRIALS = 500  # of MAGSAC, at most; 2000 found no more photos and took twice the time
CONFIDENCE = 0.999  # MAGSAC stops when it has found the best matrix with this probability
CHUNK = 32  # pictures that a process reads at a time
FEW = 200  # so few pictures or pairs are not worth the start of processes
_SQUARES = (np.arange(16, dtype=np.float32) / 15) ** 2
NONE = np.zeros(0, np.int64), np.zeros(0, np.int64)  # no matches
POINT_STEPS = 64  # positions of points are multiples of this part of a pixel
PACKED_SIZE = 64  # bytes of a point's descriptor that is stored
CONTRAST = 0.02  # OpenCV's default is 0.04; phone photos and reduced views have weaker points


@dataclass(frozen=True)
class Points:
    """Key points: ``xy`` (n, 2) float32, pixels; ``descriptors`` (n, 128) uint8, 255 times RootSIFT of unit norm."""

    xy: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


def find_points(picture: NDArray[np.uint8], most: int) -> Points:
    """The ``most`` strongest SIFT points of ``picture`` (h, w, 3) RGB, with RootSIFT descriptors (Arandjelović and
    Zisserman 2012, "Three things everyone should know to improve object retrieval")."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT_create(nfeatures=most, contrastThreshold=CONTRAST)  # type: ignore[attr-defined]
    keys, values = sift.detectAndCompute(grey, None)
    if values is None:
        return Points(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    # As a bundle stores them, so that its answers are those of the evaluation.
    xy = np.round(np.array([key.pt for key in keys[:most]], np.float32) * POINT_STEPS) / np.float32(POINT_STEPS)
    root = np.sqrt(values[:most] / np.maximum(values[:most].sum(axis=1, keepdims=True), 1e-6))
    return Points(xy, np.round(root * 255).astype(np.uint8))


def pack(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Descriptors (n, 128) of points in half the space, (n, 64): the square root of each number in four bits.

    The points of the gallery are stored so. Photos were recognised as often as with whole numbers.
    """
    codes = np.round(np.sqrt(descriptors / np.float32(255)) * 15).astype(np.uint8)
    return np.asarray(codes[:, 0::2] << 4 | codes[:, 1::2], np.uint8)


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Descriptors (n, 128), again of length 255, from those of `pack` (n, 64)."""
    codes = np.empty((len(packed), 2 * packed.shape[1]), np.uint8)
    codes[:, 0::2], codes[:, 1::2] = packed >> 4, packed & 15
    values = _SQUARES[codes]
    length = np.sqrt(np.einsum("ij,ij->i", values, values))
    return np.round(values * (255 / np.maximum(length, 1e-6))[:, None]).astype(np.uint8)


def count_inliers(a: Points, b: Points) -> int:
    """Number of matches of `match`."""
    return len(match(a, b)[0])


def match(a: Points, b: Points) -> tuple[Ints, Ints]:
    """Point matches of two pictures that one fundamental matrix explains (MAGSAC++, Barath et al. 2020).

    Returns the numbers of the points in ``a`` and in ``b``. A match is two points whose descriptors are each other's
    nearest, the second nearest in ``b`` being farther by the ratio. The result depends on the points alone, because the
    random generator starts from the same state each time.
    """
    if min(len(a.xy), len(b.xy)) < LEAST:
        return NONE
    similarity = a.descriptors.astype(np.float32) @ b.descriptors.astype(np.float32).T / np.float32(255**2)
    rows = np.arange(len(similarity))
    nearest = similarity.argmax(axis=1)
    best = similarity[rows, nearest]
    mutual = best >= similarity.max(axis=0)[nearest]
    similarity[rows, nearest] = -1.0
    second = similarity.max(axis=1)
    # Distances of unit vectors: |a - b|^2 = 2 - 2 a.b
    matched = mutual & (1 - np.minimum(best, 1) < RATIO**2 * (1 - np.minimum(second, 1)))
    if matched.sum() < LEAST:
        return NONE
    cv2.setRNGSeed(1)
    try:
        _, mask = cv2.findFundamentalMat(
            a.xy[matched], b.xy[nearest[matched]], cv2.USAC_MAGSAC, ERROR_PX, CONFIDENCE, TRIALS
        )
    except cv2.error:  # degenerate, such as all points on one line
        return NONE
    if mask is None:
        return NONE
    kept = np.flatnonzero(matched)[mask.ravel() > 0]
    return kept, nearest[kept]


@dataclass(frozen=True)
class Pictures:
    """Pictures in shards below ``folder``; ``rows`` (n rows) has the columns shard, offset and size."""

    folder: Path
    rows: pd.DataFrame

    def members(self, rows: Ints) -> list[tuple[str, int, int]]:
        """Shard, offset and size of some of the pictures."""
        chosen = self.rows.iloc[rows]
        return list(zip(chosen["shard"], chosen["offset"].tolist(), chosen["size"].tolist(), strict=True))


def compare(photos: Pictures, views: Pictures, candidates: Ints, settings: Rerank) -> Ints:
    """The most inliers of a photo with one of its candidates: (n, c) for ``candidates`` (n, c, v), rows of ``views``.

    A candidate of -1 has no inliers. The work is done on all cores.

    Raises:
        UserError: a picture cannot be read.
    """
    used = np.unique(candidates[candidates >= 0])
    found = points_of(views, used, settings.view_points, None)
    view_points = [Points(one.xy, unpack(pack(one.descriptors))) for one in found]
    photo_points = list(points_of(photos, np.arange(len(candidates)), settings.photo_points, settings.photo_px))
    at = np.where(candidates >= 0, np.searchsorted(used, np.maximum(candidates, 0)), -1).reshape(len(candidates), -1)
    items = [
        (a, [view_points[i] if i >= 0 else None for i in row]) for a, row in zip(photo_points, at.tolist(), strict=True)
    ]
    counts = np.zeros(at.shape, np.int64)
    from streetrecall.progress import progress

    with progress(len(items), "geometry", "photo") as bar:
        for row, counted in enumerate(map_in_order(_count_all, items, use_processes=at.size > FEW)):
            counts[row] = counted
            bar.update()
    return counts.reshape(candidates.shape).max(axis=2, initial=0)


def points_of(pictures: Pictures, rows: Ints, most: int, longest_px: int | None) -> Iterator[Points]:
    """The points of some of ``pictures``, in the order of ``rows``, computed on all cores.

    Raises:
        UserError: a picture cannot be read.
    """
    from streetrecall.progress import progress  # its import takes longer than a bundle's answer

    members = pictures.members(rows)
    parts = [members[start : start + CHUNK] for start in range(0, len(members), CHUNK)]
    find = partial(_points_of, pictures.folder, most, longest_px)
    with progress(len(members), "points", "picture") as bar:
        for part in map_in_order(find, parts, use_processes=len(members) > FEW):
            yield from part
            bar.update(len(part))


def _points_of(folder: Path, most: int, longest_px: int | None, members: list[tuple[str, int, int]]) -> list[Points]:
    """Points of the pictures at ``members``, reduced to ``longest_px`` on their longer side if larger."""
    cv2.setNumThreads(1)
    found = []
    with ShardReader(folder) as reader:
        for shard, offset, size in members:
            picture = cv2.imdecode(np.frombuffer(reader.read(shard, offset, size), np.uint8), cv2.IMREAD_COLOR)
            if picture is None:
                raise UserError(f"{folder / shard}: there is no picture at {offset}; dvc checkout restores the shard")
            scale = (longest_px or np.inf) / max(picture.shape)
            if scale < 1:
                picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            found.append(find_points(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), most))
    return found


def _count_all(item: tuple[Points, list[Points | None]]) -> list[int]:
    cv2.setNumThreads(1)
    photo, views = item
    return [0 if view is None else count_inliers(photo, view) for view in views]
