"""Benchmarks of describing and of searching, for `streetrecall bench embed` and `bench index`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.params import load

EMBED_OPTIONS = [("images", 1024, "pictures to describe"), ("batch", 64, "pictures at once")]
INDEX_OPTIONS = [
    ("gallery", 1_000_000, "vectors in the gallery"),
    ("dimensions", 256, "of a vector"),
    ("queries", 2000, "vectors to search for"),
    ("leaves", 2000, "leaves of ScaNN's tree and lists of faiss's"),
]
RECALL = 0.99
K = 10


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
    """Unit vectors (count, dimensions) in clusters of about ten, as the pictures of places are."""
    rng = np.random.default_rng(seed)
    result = np.empty((count, dimensions), np.float32)
    for start in range(0, count, 100_000):
        size = min(100_000, count - start)
        centres = rng.standard_normal((size // 10 + 1, dimensions), dtype=np.float32)
        part = centres[rng.integers(0, len(centres), size)]
        part += 0.7 * rng.standard_normal((size, dimensions), dtype=np.float32)
        result[start : start + size] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return result


def bench_index(args: argparse.Namespace) -> None:
    """Queries a second at recall@10 of at least 0.99 against exact search: ScaNN as the stage index builds it, faiss
    and hnswlib, each at its fastest setting that reaches it, all in this run with the same threads."""
    import faiss
    import hnswlib  # type: ignore[import-untyped]

    from streetrecall.retrieval import index as indexes
    from streetrecall.retrieval import search

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

    def build_scann() -> Callable[[int], NDArray[np.int64]]:
        settings = params.index.model_copy(update={"kind": "tree", "leaves": args.leaves})
        built = indexes.build(gallery, np.arange(len(gallery)), settings, threads)

        def run(effort: int) -> NDArray[np.int64]:
            built._settings = settings.model_copy(update={"leaves_to_search": effort})  # type: ignore[attr-defined]
            return built.search(queries, K)[0]

        return run

    def build_ivf() -> Callable[[int], NDArray[np.int64]]:
        ivf: Any = faiss.index_factory(args.dimensions, f"IVF{args.leaves},Flat", faiss.METRIC_INNER_PRODUCT)
        ivf.train(gallery[:: max(len(gallery) // (64 * args.leaves), 1)])
        ivf.add(gallery)

        def run(effort: int) -> NDArray[np.int64]:
            ivf.nprobe = effort
            return ivf.search(queries, K)[1]

        return run

    def build_hnsw() -> Callable[[int], NDArray[np.int64]]:
        graph: Any = faiss.IndexHNSWFlat(args.dimensions, 32, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = 100
        graph.add(gallery)

        def run(effort: int) -> NDArray[np.int64]:
            graph.hnsw.efSearch = max(effort, K)
            return graph.search(queries, K)[1]

        return run

    def build_hnswlib() -> Callable[[int], NDArray[np.int64]]:
        graph = hnswlib.Index("ip", args.dimensions)
        graph.init_index(len(gallery), ef_construction=100, M=32)
        graph.set_num_threads(threads)
        graph.add_items(gallery)

        def run(effort: int) -> NDArray[np.int64]:
            graph.set_ef(max(effort, K))
            return graph.knn_query(queries, K)[0].astype(np.int64)

        return run

    candidates: list[tuple[str, Callable[[], Callable[[int], NDArray[np.int64]]]]] = [
        ("ScaNN, tree", build_scann),
        ("faiss, IVF", build_ivf),
        ("faiss, HNSW32", build_hnsw),
        ("hnswlib, M 32", build_hnswlib),
    ]
    print(f"{'':16}{'build, s':>10}{'effort':>8}{'recall@10':>11}{'queries/s':>11}")
    for name, build in candidates:
        began = time.perf_counter()
        run = build()
        built_in = time.perf_counter() - began
        effort, recall, speed = _fastest(run, truth)
        print(f"{name:16}{built_in:>10.0f}{effort:>8}{recall:>11.4f}{speed:>11.0f}", flush=True)


def _fastest(run: Callable[[int], Any], truth: NDArray[np.int64]) -> tuple[int, float, float]:
    """The least effort of a rising series that reaches `RECALL`; the last one if none does."""
    effort, recall, speed = 0, 0.0, 0.0
    for effort in (4, 8, 16, 32, 64, 128, 256, 512):
        began = time.perf_counter()
        found = run(effort)
        speed = len(truth) / (time.perf_counter() - began)
        recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)]))
        if recall >= RECALL:
            break
    return effort, recall, speed
