"""Recall at K: which answers are right, and at which rank the first right one is.

This is the measure of the field: a query is found at K if at least one of its K best gallery pictures was taken within
a radius of it (Arandjelovic et al., NetVLAD, CVPR 2016, section 5.1, with 25 m). `streetrecall.tables` holds the values
of K and the radii.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streetrecall.scoring.ranking import Floats, Ints, Ranking, same_group


def distances(query_xy: Floats, gallery_xy: Floats, ranking: Ranking) -> Floats:
    """Metres from each query (n, 2) to its ranked gallery pictures (n, k), infinite where there is none.

    >>> r = Ranking(np.array([[1, -1]]), np.array([[0.5, -np.inf]]))
    >>> distances(np.array([[0.0, 0.0]]), np.array([[9.0, 9.0], [3.0, 4.0]]), r)
    array([[ 5., inf]])
    """
    if not len(gallery_xy):
        return np.full(ranking.indices.shape, np.inf)
    offset = gallery_xy[ranking.indices] - query_xy[:, None, :]
    return np.where(ranking.indices < 0, np.inf, np.hypot(offset[..., 0], offset[..., 1]))


def first_hit(hits: NDArray[np.bool_]) -> Ints:
    """Rank (from 1) of the first hit in each row of ``hits`` (n, k); 0 where there is none.

    >>> first_hit(np.array([[False, True, True], [False, False, False]]))
    array([2, 0])
    """
    if not hits.shape[1]:
        return np.zeros(len(hits), dtype=np.int64)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int64)


def found_at(first: Ints, k: int) -> NDArray[np.bool_]:
    """Whether the rank of the first hit is at most ``k``.

    >>> found_at(np.array([2, 0, 1]), 1)
    array([False, False,  True])
    """
    return (first >= 1) & (first <= k)


def pairs_within(query_xy: Floats, gallery_xy: Floats, radius_m: float) -> tuple[Ints, Ints]:
    """All pairs (query row, gallery row) at most ``radius_m`` apart, as two arrays ordered by query row.

    >>> pairs_within(np.array([[0.0, 0.0]]), np.array([[99.0, 0.0], [3.0, 4.0]]), 5.0)
    (array([0]), array([1]))
    """
    # Many pictures share a position: search among the distinct positions, then expand to pairs of pictures.
    query_points, query_point = np.unique(query_xy, axis=0, return_inverse=True)
    gallery_points, gallery_point = np.unique(gallery_xy, axis=0, return_inverse=True)
    if not len(query_points) or not len(gallery_points):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    near = cKDTree(gallery_points).query_ball_point(query_points, radius_m, return_sorted=True)
    near_query = np.repeat(np.arange(len(near)), [len(n) for n in near])
    near_gallery = np.concatenate([np.asarray(n, dtype=np.int64) for n in near])
    query, near_row = same_group(query_point.ravel(), near_query)
    expanded, gallery = same_group(near_gallery[near_row], gallery_point.ravel())
    return query[expanded], gallery
