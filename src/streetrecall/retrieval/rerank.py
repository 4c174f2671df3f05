"""Local geometry between a photo and a view: RootSIFT points and the inliers of a fundamental matrix.

Two pictures of one scene from nearby standpoints agree in the positions of their points up to a fundamental matrix;
pictures of different scenes agree in few of them by chance. The number of inliers is therefore a second opinion on an
answer that descriptors found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from streetrecall.parallel import map_in_order
from streetrecall.retrieval.points import Pictures, Points, points_of_photos, points_of_views
from streetrecall.scoring.ranking import Ints

if TYPE_CHECKING:  # a bundle compares without them
    from streetrecall.params.schema import Rerank

RATIO = 0.85  # a match is kept if the second nearest descriptor is farther by this factor (Lowe 2004)
ERROR_PX = 1.5  # an inlier lies at most so far from its epipolar line
LEAST = 8  # matches that a fundamental matrix needs
TRIALS = 500  # of MAGSAC, at most; 2000 found no more photos and took twice the time
CONFIDENCE = 0.999  # MAGSAC stops when it has found the best matrix with this probability
FEW = 200  # so few pairs are not worth the start of processes
NONE = np.zeros(0, np.int64), np.zeros(0, np.int64)  # no matches


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


def compare(photos: Pictures, views: Pictures, candidates: Ints, settings: Rerank) -> Ints:
    """The most inliers of a photo with one of its candidates: (n, c) for ``candidates`` (n, c, v), rows of ``views``.

    A candidate of -1 has no inliers. Pairs that an earlier run compared are not compared again. The work is done on all
    cores.

    Raises:
        UserError: a picture cannot be read.
    """
    from streetrecall.imports import code_digest
    from streetrecall.progress import progress
    from streetrecall.store.results import kept

    asked, answering = (one.hashes(np.arange(len(one.rows))) for one in (photos, views))
    flat = candidates.reshape(len(candidates), -1)
    counts = np.zeros(flat.shape, np.int64)
    facts = settings.model_dump(include={"view_points", "photo_points", "photo_px"})
    versions = {"code": code_digest(__name__), "opencv": cv2.__version__, "numpy": np.__version__}
    with kept("inliers", **facts, **versions) as known:
        keys = {(i, j): asked[i] + answering[flat[i, j]] for i, j in np.argwhere(flat >= 0).tolist()}
        before = known.read(keys.values())
        new: dict[int, list[int]] = {}  # columns to compare, by photo
        for (i, j), key in keys.items():
            if key in before:
                counts[i, j] = int(before[key])
            else:
                new.setdefault(i, []).append(j)
        used = np.unique([flat[i, j] for i, columns in new.items() for j in columns]).astype(np.int64)
        packed = points_of_views(views, used, settings.view_points)
        points = {view: one.points() for view, one in zip(used.tolist(), packed, strict=True)}
        few = Pictures(photos.folder, photos.rows.iloc[list(new)])
        items = [
            (of_photo, [points[int(flat[i, j])] for j in new[i]])
            for i, of_photo in zip(new, points_of_photos(few, settings.photo_points, settings.photo_px), strict=True)
        ]
        with progress(len(items), "geometry", "photo") as bar:
            found = map_in_order(_count_all, items, use_processes=sum(map(len, new.values())) > FEW)
            for (i, columns), counted in zip(new.items(), found, strict=True):
                counts[i, columns] = counted
                known.write({keys[i, j]: str(count).encode() for j, count in zip(columns, counted, strict=True)})
                bar.update()
    return counts.reshape(candidates.shape).max(axis=2, initial=0)


def _count_all(item: tuple[Points, list[Points]]) -> list[int]:
    cv2.setNumThreads(1)
    photo, views = item
    return [count_inliers(photo, view) for view in views]
