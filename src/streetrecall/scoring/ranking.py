"""Exact ranking of a gallery for each query: what every measure starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SPARE = 8  # candidates beyond k that are compared again at full precision
_TIE = 1e-6  # single precision tells no two similarities apart that are this near
_CELLS = 8_000_000  # similarities held at a time


@dataclass(frozen=True)
class Ranking:
    """The best gallery rows of each query, best first.

    ``indices`` (n, k) are row numbers of the gallery, -1 where the gallery has no further row for this query;
    ``similarities`` (n, k) are dot products, falling along a row, minus infinity where there is no row.
    """

    indices: Ints
    similarities: Floats

    def __post_init__(self) -> None:
        if self.indices.ndim != 2 or self.indices.shape != self.similarities.shape:
            raise ValueError(
                f"indices {self.indices.shape} and similarities {self.similarities.shape} must be one shape"
            )
        if np.any((self.indices < 0) != np.isneginf(self.similarities)):
            raise ValueError("a missing row has index -1 and similarity minus infinity, and no other has either")
        if self.indices.shape[1] > 1 and np.any(self.similarities[:, 1:] > self.similarities[:, :-1]):
            raise ValueError("similarities must fall along a row")

    @property
    def k(self) -> int:
        return self.indices.shape[1]

    def drop(self, unwanted: NDArray[np.bool_], k: int) -> Ranking:
        """Leave out the entries marked in ``unwanted`` (n, k), close the gaps, keep the best ``k``.

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
    """Dot products of queries (n, d) and gallery (m, d), some query rows at a time; pairs of one group are -inf."""
    step = max(1, _CELLS // max(1, len(gallery)))
    transposed = np.asarray(gallery, dtype=np.float32).T
    for start in range(0, len(queries), step):
        part = slice(start, min(start + step, len(queries)))
        block = np.asarray(queries[part], dtype=np.float32) @ transposed
        block[same_group(query_group[part], gallery_group)] = -np.inf
        yield part, block


def rank(
    queries: NDArray[np.floating], gallery: NDArray[np.floating], query_group: Ints, gallery_group: Ints, k: int
) -> Ranking:
    """The ``k`` gallery rows with the largest dot product, gallery rows of the query's own group left out.

    ``queries`` (n, d), ``gallery`` (m, d), groups (n,) and (m,): here a group is a place and month, so that no query
    is answered by what the same car saw on the same drive. Candidates found in single precision are compared again in
    double and ties go to the lower row, so the order does not depend on how a matrix product was split up.

    >>> gallery = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> rank(gallery[:1], gallery, np.array([0]), np.array([0, 1, 2]), 3).indices
    array([[ 2,  1, -1]])
    """
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    similarities = np.full((len(queries), k), -np.inf)
    wide = min(k + _SPARE, len(gallery))
    if not wide:
        return Ranking(indices, similarities)
    for part, block in similarity_blocks(queries, gallery, query_group, gallery_group):
        candidates = np.sort(np.argpartition(block, len(gallery) - wide, axis=1)[:, -wide:], axis=1)
        _prefer_lower_rows(block, candidates, k)
        valid = np.isfinite(np.take_along_axis(block, candidates, axis=1))
        exact = _dot(queries[part], gallery, candidates).round(9)
        exact[~valid] = -np.inf
        order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
        similarities[part, : order.shape[1]] = np.take_along_axis(exact, order, axis=1)
        indices[part, : order.shape[1]] = np.take_along_axis(np.where(valid, candidates, -1), order, axis=1)
    return Ranking(indices, similarities)


def _prefer_lower_rows(block: NDArray[np.float32], candidates: Ints, k: int) -> None:
    """Where more rows tie for the k-th place than are candidates, as collapsed descriptors do, take the lowest."""
    wide = candidates.shape[1]
    if wide == block.shape[1] or wide <= k:
        return
    found = np.sort(np.take_along_axis(block, candidates, axis=1), axis=1)
    last, least = found[:, wide - k], found[:, 0]
    with np.errstate(invalid="ignore"):
        crowded = np.flatnonzero(np.isfinite(last) & (last - least <= _TIE))
    for row in crowded:
        above = np.flatnonzero(block[row] > last[row] + _TIE)
        tied = np.flatnonzero(np.abs(block[row] - last[row]) <= _TIE)
        candidates[row] = np.sort(np.concatenate([above, tied])[:wide])


def _dot(queries: NDArray[np.floating], gallery: NDArray[np.floating], candidates: Ints) -> Floats:
    """Dot products of each query with its candidates, in double precision."""
    out = np.empty(candidates.shape)
    step = max(1, 500_000 // (candidates.shape[1] * gallery.shape[1]))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        chosen = gallery[candidates[part]].astype(np.float64)
        out[part] = np.matmul(chosen, queries[part].astype(np.float64)[:, :, None])[:, :, 0]
    return out
