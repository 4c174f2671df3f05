"""Exact ranking of a gallery for each query of a protocol: what every measure starts from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streetrecall.retrieval.exact import top
from streetrecall.scoring.ranking import Floats, Ints, Ranking, similarity_blocks

SPARE = 8  # candidates beyond k that are compared again in double precision
TIE = 1e-6  # similarities closer than this count as equal in single precision


def rank(
    queries: NDArray[np.floating], gallery: NDArray[np.floating], query_group: Ints, gallery_group: Ints, k: int
) -> Ranking:
    """The ``k`` gallery rows with the largest inner product with each query, without rows of the query's own group.

    ``queries`` (n, d), ``gallery`` (m, d), groups (n,) and (m,). A group is a place and month, so that no query is
    answered by a picture of the same drive. Candidates are found in single precision and compared again in double; of
    equal similarities the lower gallery row comes first. So the order does not depend on how a matrix product is split
    into blocks.

    >>> gallery = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> rank(gallery[:1], gallery, np.array([0]), np.array([0, 1, 2]), 3).indices
    array([[ 2,  1, -1]])
    """
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    similarities = np.full((len(queries), k), -np.inf)
    wide = min(k + SPARE, len(gallery))
    if not wide:
        return Ranking(indices, similarities)
    for rows, block in similarity_blocks(queries, gallery, query_group, gallery_group):
        candidates = np.sort(top(block, wide)[0], axis=1)
        _prefer_lower_rows(block, candidates, k)
        valid = np.isfinite(np.take_along_axis(block, candidates, axis=1))
        similar = _double_precision(queries[rows], gallery, candidates).round(9)
        similar[~valid] = -np.inf
        order = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        similarities[rows, : order.shape[1]] = np.take_along_axis(similar, order, axis=1)
        indices[rows, : order.shape[1]] = np.take_along_axis(np.where(valid, candidates, -1), order, axis=1)
    return Ranking(indices, similarities)


def _prefer_lower_rows(block: NDArray[np.float32], candidates: Ints, k: int) -> None:
    """Take the lowest rows where more rows tie for the k-th place than there are candidates, as with collapsed
    descriptors. Changes ``candidates``."""
    wide = candidates.shape[1]
    if wide == block.shape[1] or wide <= k:
        return
    found = np.sort(np.take_along_axis(block, candidates, axis=1), axis=1)
    last, least = found[:, wide - k], found[:, 0]
    with np.errstate(invalid="ignore"):
        crowded = np.flatnonzero(np.isfinite(last) & (last - least <= TIE))
    for row in crowded:
        above = np.flatnonzero(block[row] > last[row] + TIE)
        tied = np.flatnonzero(np.abs(block[row] - last[row]) <= TIE)
        candidates[row] = np.sort(np.concatenate([above, tied])[:wide])


def _double_precision(queries: NDArray[np.floating], gallery: NDArray[np.floating], candidates: Ints) -> Floats:
    """Inner products (n, c) of each query with its candidates (n, c), in double precision."""
    out = np.empty(candidates.shape)
    step = max(1, 500_000 // (candidates.shape[1] * gallery.shape[1]))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        chosen = gallery[candidates[part]].astype(np.float64)
        out[part] = np.matmul(chosen, queries[part].astype(np.float64)[:, :, None])[:, :, 0]
    return out
