"""Benchmarks of describing and of searching, for `streetrecall bench embed` and `bench index`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.params.schema import load

EMBED_OPTIONS = [("images", 1024, "pictures to describe"), ("batch", 64, "pictures at once")]
INDEX_OPTIONS = [
    ("gallery", 1_000_000, "vectors in the gallery"),
    ("dimensions", 256, "of a vector"),
    ("queries", 2000, "vectors to search for"),
    ("lists", 2000, "lists of faiss's IVF"),
]
RECALL = 0.99
K = 10
TIMES = 3  # that each search is timed; the fastest counts
EFFORTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# The effort that an index was tuned to, if it was, and the ten nearest of all queries at an effort.
Run = tuple[int | None, Callable[[int], NDArray[np.int64]]]


def bench_embed(args: argparse.Namespace) -> None:
    """Pictures a second from JPEG bytes to descriptors, by the embedder that params.yaml describes, untrained.

    Speed does not depend on what the weights are.
    """
    import cv2

    params = load(args.params).train
    from streetrecall.model import runtime

    runtime.configure(params.threads, params.seed, params.precision)
    from streetrecall.model import embedder, network, recipes

    params = recipes.effective(params)
    size = params.image_size
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 256, (14, 14, 3)).astype(np.uint8), (size, size)) for _ in range(64)]
    jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    built = network.build(params.backbone, "none", size, params.head)
    model = embedder.Embedder(built, params.backbone, size, params.head, args.batch, params.threads)
    model.describe(jpegs[: args.batch])  # builds the graph
    began = time.perf_counter()
    model.describe([jpegs[i % 64] for i in range(args.images)])
    print(
        f"{params.backbone}, {size} px, {params.threads} threads, batches of {args.batch}: "
        f"{args.images / (time.perf_counter() - began):.0f} pictures a second"
    )


def clustered(count: int, dimensions: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors (count, dimensions) about as a city's: some ten pictures a view, a hundred views of a kind.

    Expected cosine similarity is 0.67 between pictures of one view, 0.34 of two views of one kind.
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


def bench_index(args: argparse.Namespace) -> None:
    """Queries a second at recall@10 of at least 0.99 against exact search, all in this run with the same threads.

    ScaNN as the stage index builds and tunes it, on gallery pictures alone; faiss and hnswlib at the fastest setting
    that reaches the recall on the very queries that are asked.
    """
    import faiss
    import hnswlib  # type: ignore[import-untyped]

    from streetrecall.retrieval import exact as search
    from streetrecall.retrieval import index as indexes

    params = load(args.params)
    threads = params.train.threads
    faiss.omp_set_num_threads(threads)
    gallery = clustered(args.gallery, args.dimensions, 0)
    rng = np.random.default_rng(1)
    queries = gallery[rng.choice(len(gallery), args.queries, replace=False)]
    queries = queries + 0.5 / args.dimensions**0.5 * rng.standard_normal(queries.shape, dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    began = time.perf_counter()
    truth, _ = search.exact(queries, gallery, K)
    print(f"exact, NumPy: {len(queries) / (time.perf_counter() - began):.0f} queries a second")

    def build_scann() -> Run:
        settings = params.index.model_copy(
            update={"kind": "tree", "neighbours": K, "recall": RECALL}
            | dict.fromkeys(("leaves", "leaves_to_search", "reorder"), "auto")
        )
        built = indexes.build(gallery, np.arange(len(gallery)), settings, threads)
        return int(built.settings.leaves_to_search), lambda effort: built.search(queries, K)[0]

    def build_ivf() -> Run:
        ivf: Any = faiss.index_factory(args.dimensions, f"IVF{args.lists},Flat", faiss.METRIC_INNER_PRODUCT)
        ivf.train(gallery[:: max(len(gallery) // (64 * args.lists), 1)])
        ivf.add(gallery)

        def run(effort: int) -> NDArray[np.int64]:
            ivf.nprobe = effort
            return ivf.search(queries, K)[1]

        return None, run

    def build_hnsw() -> Run:
        graph: Any = faiss.IndexHNSWFlat(args.dimensions, 32, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = 100
        graph.add(gallery)

        def run(effort: int) -> NDArray[np.int64]:
            graph.hnsw.efSearch = max(effort, K)
            return graph.search(queries, K)[1]

        return None, run

    def build_hnswlib() -> Run:
        graph = hnswlib.Index("ip", args.dimensions)
        graph.init_index(len(gallery), ef_construction=100, M=32)
        graph.set_num_threads(threads)
        graph.add_items(gallery)

        def run(effort: int) -> NDArray[np.int64]:
            graph.set_ef(max(effort, K))
            return graph.knn_query(queries, K)[0].astype(np.int64)

        return None, run

    candidates: list[tuple[str, Callable[[], Run]]] = [
        ("ScaNN, tree", build_scann),
        ("faiss, IVF", build_ivf),
        ("faiss, HNSW32", build_hnsw),
        ("hnswlib, M 32", build_hnswlib),
    ]
    print(f"{'':16}{'build, s':>10}{'effort':>8}{'recall@10':>11}{'queries/s':>11}")
    for name, build in candidates:
        began = time.perf_counter()
        effort, run = build()
        built_in = time.perf_counter() - began
        effort, recall, speed = _fastest(run, truth, EFFORTS if effort is None else (effort,))
        print(f"{name:16}{built_in:>10.0f}{effort:>8}{recall:>11.4f}{speed:>11.0f}", flush=True)
        del run  # one index at a time fits into memory


def _fastest(
    run: Callable[[int], NDArray[np.int64]], truth: NDArray[np.int64], efforts: tuple[int, ...]
) -> tuple[int, float, float]:
    """The least of rising ``efforts`` that reaches `RECALL`, or the last one, its recall and queries a second."""
    effort, recall, speed = 0, 0.0, 0.0
    for effort in efforts:
        found = run(effort)
        recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)]))
        if recall >= RECALL:
            break
    for _ in range(TIMES):
        began = time.perf_counter()
        run(effort)
        speed = max(speed, len(truth) / (time.perf_counter() - began))
    return effort, recall, speed
