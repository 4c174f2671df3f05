"""Benchmark `index`: queries per second at a recall@10 of 0.99, beside faiss and hnswlib."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.benchmarks.rows import Row
from streetrecall.params.schema import Params, load
from streetrecall.printing import plain_table

OPTIONS = [
    ("gallery", 1_000_000, "number of vectors in the gallery"),
    ("dimensions", 256, "dimensions of a vector"),
    ("queries", 2000, "number of queries"),
    ("lists", 2000, "number of lists of the IVF index of faiss"),
]
RECALL = 0.99
K = 10
TIMES = 3  # each search is timed so often; the fastest counts
EFFORTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# The effort to which an index was tuned (None: not tuned), and a function that finds the ten nearest at an effort.
Run = tuple[int | None, Callable[[int], NDArray[np.int64]]]


def clustered(count: int, dimensions: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors (count, dimensions) that are grouped as those of a city: ten pictures per view, 100 views per kind.

    The expected cosine similarity is 0.67 between pictures of one view, and 0.34 between two views of one kind.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((max(count // 1000, 1), dimensions), dtype=np.float32)
    views = kinds[rng.integers(0, len(kinds), max(count // 10, 1))]
    views += rng.standard_normal(views.shape, dtype=np.float32)
    result = (views / 2**0.5)[rng.integers(0, len(views), count)]
    for start in range(0, count, 100_000):
        part = result[start : start + 100_000]
        part += 0.7 * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return result


def run(args: argparse.Namespace) -> list[Row]:
    """Print queries per second at a recall@10 of 0.99 or more against exact search; all use the same threads.

    ScaNN is built and tuned as the stage index does it, from gallery vectors alone. faiss and hnswlib run at the
    fastest setting that reaches the recall on the queries themselves.
    """
    import faiss

    from streetrecall.retrieval import exact

    params = load(args.params)
    threads = params.train.threads
    faiss.omp_set_num_threads(threads)
    gallery = clustered(args.gallery, args.dimensions, 0)
    queries = _queries(gallery, args.queries)
    began = time.perf_counter()
    truth, _ = exact.exact(queries, gallery, K)
    rows = [("exact, NumPy", "", "", "1.0000", f"{len(queries) / (time.perf_counter() - began):.0f}")]
    for name, build in (
        ("ScaNN", partial(_scann, params, threads)),
        ("faiss IVF", partial(_faiss_ivf, args.lists)),
        ("faiss HNSW32", _faiss_hnsw),
        ("hnswlib, M 32", partial(_hnswlib, threads)),
    ):
        began = time.perf_counter()
        effort, search = build(gallery, queries)
        built_in = time.perf_counter() - began
        effort, recall, speed = _fastest(search, truth, EFFORTS if effort is None else (effort,))
        rows.append((name, f"{built_in:.0f}", str(effort), f"{recall:.4f}", f"{speed:.0f}"))
        del search  # one index at a time fits into memory
    print(plain_table(("", "build, s", "effort", "recall@10", "queries per second"), rows, ruled=True))
    exactly, ours, *peers = [(name, float(recall), float(speed)) for name, _, _, recall, speed in rows]
    task = f"search of {args.gallery:,} x {args.dimensions}"
    return [
        Row(task, "query", ours[2], name, speed, f"recall@{K} {ours[1]:.3f}, peer {recall:.3f}")
        for name, recall, speed in (exactly, *peers)
    ]


def _queries(gallery: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """``count`` unit vectors near vectors of the gallery."""
    rng = np.random.default_rng(1)
    queries = gallery[rng.choice(len(gallery), count, replace=False)]
    queries = queries + 0.5 / gallery.shape[1] ** 0.5 * rng.standard_normal(queries.shape, dtype=np.float32)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True)


def _scann(params: Params, threads: int, gallery: NDArray[np.float32], queries: NDArray[np.float32]) -> Run:
    """A tree of ScaNN. A gallery that is too small for one is searched exactly, and then there is no effort to tune."""
    from streetrecall.retrieval import index as indexes

    tuned = dict.fromkeys(("leaves", "leaves_to_search", "reorder"), "auto")
    settings = params.index.model_copy(update={"kind": "tree", "neighbours": K, "recall": RECALL} | tuned)
    built = indexes.build(gallery, np.arange(len(gallery)), settings, threads)
    leaves = built.settings.leaves_to_search
    return leaves if isinstance(leaves, int) else 0, lambda effort: built.search(queries, K)[0]


def _faiss_ivf(lists: int, gallery: NDArray[np.float32], queries: NDArray[np.float32]) -> Run:
    import faiss

    ivf: Any = faiss.index_factory(gallery.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    ivf.train(gallery[:: max(len(gallery) // (64 * lists), 1)])
    ivf.add(gallery)

    def search(effort: int) -> NDArray[np.int64]:
        ivf.nprobe = effort
        return ivf.search(queries, K)[1]

    return None, search


def _faiss_hnsw(gallery: NDArray[np.float32], queries: NDArray[np.float32]) -> Run:
    import faiss

    graph: Any = faiss.IndexHNSWFlat(gallery.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 100
    graph.add(gallery)

    def search(effort: int) -> NDArray[np.int64]:
        graph.hnsw.efSearch = max(effort, K)
        return graph.search(queries, K)[1]

    return None, search


def _hnswlib(threads: int, gallery: NDArray[np.float32], queries: NDArray[np.float32]) -> Run:
    import hnswlib  # type: ignore[import-untyped]

    graph = hnswlib.Index("ip", gallery.shape[1])
    graph.init_index(len(gallery), ef_construction=100, M=32)
    graph.set_num_threads(threads)
    graph.add_items(gallery)

    def search(effort: int) -> NDArray[np.int64]:
        graph.set_ef(max(effort, K))
        return graph.knn_query(queries, K)[0].astype(np.int64)

    return None, search


def _fastest(
    search: Callable[[int], NDArray[np.int64]], truth: NDArray[np.int64], efforts: tuple[int, ...]
) -> tuple[int, float, float]:
    """The first of the rising ``efforts`` that reaches `RECALL` (or the last), its recall and queries per second."""
    effort, recall, speed = 0, 0.0, 0.0
    for effort in efforts:
        found = search(effort)
        recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)]))
        if recall >= RECALL:
            break
    for _ in range(TIMES):
        began = time.perf_counter()
        search(effort)
        speed = max(speed, len(truth) / (time.perf_counter() - began))
    return effort, recall, speed
