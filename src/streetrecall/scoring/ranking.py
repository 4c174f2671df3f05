"""The best gallery rows of each query, and similarities without pairs of one place and month."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streetrecall.scoring.similarity import product_blocks

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_CELLS = 8_000_000  # similarities in memory at a time


@dataclass(frozen=True)
class Ranking:
    """The best gallery rows of each query, best first.

    ``indices`` (n, k) are row numbers of the gallery, -1 where the gallery has no further row for this query;
    ``similarities`` (n, k) are inner products, falling along a row, minus infinity where there is no row.
    """

    indices: Ints
    similarities: Floats

    def __post_init__(self) -> None:
        if self.indices.ndim != 2 or self.indices.shape != self.similarities.shape:
            raise ValueError(
                f"indices {self.indices.shape} and similarities {self.similarities.shape} must have one shape"
            )
        if np.any((self.indices < 0) != np.isneginf(self.similarities)):
            raise ValueError("a missing row has index -1 and similarity minus infinity, and no other has either")
        if self.indices.shape[1] > 1 and np.any(self.similarities[:, 1:] > self.similarities[:, :-1]):
            raise ValueError("similarities must fall along a row")

    @property
    def k(self) -> int:
        return self.indices.shape[1]

    def drop(self, unwanted: NDArray[np.bool_], k: int) -> Ranking:
        """The best ``k`` without the entries marked in ``unwanted`` (n, k).

        >>> r = Ranking(np.array([[4, 7, 2]]), np.array([[0.9, 0.8, 0.1]]))
        >>> r.drop(np.array([[True, False, False]]), 2).indices
        array([[7, 2]])
        """
        gone = unwanted | (self.indices < 0)
        order = np.argsort(gone, axis=1, kind="stable")[:, :k]
        indices = np.take_along_axis(np.where(gone, -1, self.indices), order, axis=1)
        return Ranking(indices, np.take_along_axis(np.where(gone, -np.inf, self.similarities), order, axis=1))


def same_group(query_group: Ints, gallery_group: Ints) -> tuple[Ints, Ints]:
    """All pairs (query row, gallery row) of the same group, as two arrays.

    >>> same_group(np.array([5, 3]), np.array([3, 5, 5]))
    (array([0, 0, 1]), array([1, 2, 0]))
    """
    order = np.argsort(gallery_group, kind="stable")
    ordered = gallery_group[order]
    first = np.searchsorted(ordered, query_group, "left")
    count = np.searchsorted(ordered, query_group, "right") - first
    rows = np.repeat(np.arange(len(query_group)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return rows, order[np.repeat(first, count) + within]


def similarity_blocks(
    queries: NDArray[np.floating], gallery: NDArray[np.floating], query_group: Ints, gallery_group: Ints
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Similarities of queries (n, d) with the whole gallery (m, d), some query rows at a time; pairs of one group are
    minus infinity."""
    step = max(1, _CELLS // max(1, len(gallery)))
    for rows, _, block in product_blocks(queries, gallery, step, max(1, len(gallery))):
        block[same_group(query_group[rows], gallery_group)] = -np.inf
        yield rows, block
