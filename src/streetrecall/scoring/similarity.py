"""Inner products of queries and gallery, some of them at a time: the one matrix product of search and scoring."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray


def product_blocks(
    queries: NDArray, gallery: NDArray, query_rows: int, gallery_rows: int, dtype: DTypeLike = np.float32
) -> Iterator[tuple[slice, slice, NDArray]]:
    """Inner products of queries (n, d) and gallery (m, d), as blocks of at most ``query_rows`` x ``gallery_rows``.

    Yields the query rows, the gallery rows and the block, which the caller may change. Memory is that of one block and
    of its gallery rows in ``dtype``, so the gallery may be a memory map of a smaller type.

    >>> for rows, columns, block in product_blocks(np.eye(2), np.ones((3, 2)), 2, 2):
    ...     print(rows, columns, block.tolist())
    slice(0, 2, None) slice(0, 2, None) [[1.0, 1.0], [1.0, 1.0]]
    slice(0, 2, None) slice(2, 3, None) [[1.0], [1.0]]
    """
    for g in range(0, len(gallery), gallery_rows):
        columns = slice(g, min(g + gallery_rows, len(gallery)))
        part = np.asarray(gallery[columns], dtype)
        for q in range(0, len(queries), query_rows):
            rows = slice(q, min(q + query_rows, len(queries)))
            yield rows, columns, np.asarray(queries[rows], dtype) @ part.T
