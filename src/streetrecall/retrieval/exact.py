"""Exact nearest neighbours by inner product, in blocks that fit into a processor's cache and memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_QUERIES = 512
BLOCK_GALLERY = 65_536


def exact(
    queries: NDArray, gallery: NDArray, k: int, mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``k`` gallery rows of greatest inner product with each query, best first.

    Args:
        queries: (q, d), any floating type.
        gallery: (g, d), any floating type; it may be a memory map.
        k: at most so many; fewer if the gallery is smaller.
        mask: (q, g), true where a gallery row may be returned for a query.

    Returns:
        Indices (q, k) int64 and similarities (q, k) float32. Where a mask leaves fewer than ``k``, the rest is -1 with
        similarity minus infinity. Equal similarities come in the order of the gallery.

    Raises:
        ValueError: shapes that do not fit, or a similarity that is plus infinity or no number.

    >>> exact(np.eye(2), np.array([[1.0, 0.0], [0.6, 0.8]]), 2)[0].tolist()
    [[0, 1], [1, 0]]
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {queries.shape} and gallery {gallery.shape} must be matrices of one width")
    if mask is not None and mask.shape != (len(queries), len(gallery)):
        raise ValueError(f"the mask is {mask.shape}, and must be {(len(queries), len(gallery))}")
    k = min(k, len(gallery))
    indices = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), -np.inf, np.float32)
    if k == 0:
        return indices, similarities
    for g in range(0, len(gallery), BLOCK_GALLERY):
        block = np.asarray(gallery[g : g + BLOCK_GALLERY], np.float32)
        for q in range(0, len(queries), BLOCK_QUERIES):
            rows = slice(q, q + BLOCK_QUERIES)
            found = np.asarray(queries[rows], np.float32) @ block.T
            if not np.isfinite(found.max(initial=-1.0)):
                raise ValueError("queries or gallery hold values that are not finite")
            if mask is not None:
                found[~mask[rows, g : g + BLOCK_GALLERY]] = -np.inf
            index, value = _top(found, min(k, found.shape[1]))
            values = np.concatenate([similarities[rows], value], axis=1)
            candidates = np.concatenate([indices[rows], np.where(np.isneginf(value), -1, index + g)], axis=1)
            best = np.argsort(-values, axis=1, kind="stable")[:, :k]
            similarities[rows] = np.take_along_axis(values, best, 1)
            indices[rows] = np.take_along_axis(candidates, best, 1)
    return indices, similarities


def _top(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Columns and values of the ``k`` greatest of each row, best first, ties by column."""
    width = scores.shape[1]
    if k * 4 < width:
        threshold = np.partition(scores, width - k, axis=1)[:, width - k, None]
        # Of equal scores at the threshold the first columns are due, which a partition does not promise.
        above = scores > threshold
        level = scores == threshold
        spare = k - above.sum(axis=1, keepdims=True)
        chosen = above | (level & (np.cumsum(level, axis=1) <= spare))
        index = np.nonzero(chosen)[1].reshape(len(scores), k)
    else:
        index = np.broadcast_to(np.arange(width), scores.shape)
    value = np.take_along_axis(scores, index, 1)
    order = np.argsort(-value, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(index, order, 1).astype(np.int64), np.take_along_axis(value, order, 1)
