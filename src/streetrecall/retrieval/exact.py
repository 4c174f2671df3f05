"""Exact nearest neighbours by inner product, in blocks that fit into memory and a processor's cache.

The evaluation ranks by `streetrecall.retrieval.rank`, which compares the best candidates again in double precision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streetrecall.scoring.similarity import product_blocks

BLOCK_QUERIES = 512
BLOCK_GALLERY = 65_536


def exact(
    queries: NDArray,
    gallery: NDArray,
    k: int,
    mask: NDArray[np.bool_] | None = None,
    dtype: DTypeLike = np.float32,
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """The ``k`` gallery rows with the largest inner product with each query, best first.

    Args:
        queries: (q, d), any floating type.
        gallery: (g, d), any floating type; it may be a memory map.
        k: number of rows to return; all rows if the gallery is smaller.
        mask: (q, g), true where a gallery row may be returned for a query.
        dtype: of the comparison.

    Returns:
        Indices (q, k) int64 and similarities (q, k) of ``dtype``. Where a mask allows fewer than ``k`` rows, the rest
        is -1 with similarity minus infinity. Of equal similarities the lower gallery row comes first.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.

    >>> exact(np.eye(2), np.array([[1.0, 0.0], [0.6, 0.8]]), 2)[0].tolist()
    [[0, 1], [1, 0]]
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {queries.shape} and gallery {gallery.shape} must be matrices of one width")
    if mask is not None and mask.shape != (len(queries), len(gallery)):
        raise ValueError(f"the mask is {mask.shape}, and must be {(len(queries), len(gallery))}")
    k = min(k, len(gallery))
    indices = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), -np.inf, dtype)
    if k == 0:
        return indices, similarities
    for rows, columns, block in product_blocks(queries, gallery, BLOCK_QUERIES, BLOCK_GALLERY, dtype):
        if not np.isfinite(block.max(initial=-1.0)):
            raise ValueError("queries or gallery hold values that are not finite")
        if mask is not None:
            block[~mask[rows, columns]] = -np.inf
        index, value = top(block, min(k, block.shape[1]))
        values = np.concatenate([similarities[rows], value], axis=1)
        candidates = np.concatenate([indices[rows], np.where(np.isneginf(value), -1, index + columns.start)], axis=1)
        best = np.argsort(-values, axis=1, kind="stable")[:, :k]
        similarities[rows] = np.take_along_axis(values, best, 1)
        indices[rows] = np.take_along_axis(candidates, best, 1)
    return indices, similarities


def top(scores: NDArray, k: int) -> tuple[NDArray[np.int64], NDArray]:
    """Columns (n, k) and values of the ``k`` largest of each row of ``scores`` (n, m), best first, ties by column.

    >>> top(np.array([[1.0, 3.0, 2.0, 3.0]]), 3)[0].tolist()
    [[1, 3, 2]]
    """
    width = scores.shape[1]
    if k * 4 < width:
        threshold = np.partition(scores, width - k, axis=1)[:, width - k, None]
        chosen = scores >= threshold
        # A partition may pick any of the columns that tie at the threshold: keep the first of them.
        for row in np.flatnonzero(chosen.sum(axis=1) > k):
            tied = np.flatnonzero(scores[row] == threshold[row])
            chosen[row, tied[k - int(chosen[row].sum()) :]] = False
        index = np.nonzero(chosen)[1].reshape(len(scores), k)
    else:
        index = np.broadcast_to(np.arange(width), scores.shape)
    value = np.take_along_axis(scores, index, 1)
    order = np.argsort(-value, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(index, order, 1).astype(np.int64), np.take_along_axis(value, order, 1)
