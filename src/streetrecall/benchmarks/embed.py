"""Benchmark `embed`: pictures per second from JPEG bytes to descriptors."""

from __future__ import annotations

import argparse
import time

import numpy as np

from streetrecall.benchmarks.rows import Row
from streetrecall.params.schema import load

OPTIONS = [("images", 1024, "number of pictures to describe"), ("batch", 64, "pictures per batch")]


def run(args: argparse.Namespace) -> list[Row]:
    """Print pictures per second from JPEG bytes to descriptors, by the embedder that params.yaml describes.

    It is not trained, because the speed does not depend on the values of the weights.
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
    speed = args.images / (time.perf_counter() - began)
    print(
        f"{params.backbone}, {size} px, {params.threads} threads, batches of {args.batch}: "
        f"{speed:.0f} pictures per second"
    )
    return [Row(f"describe {args.images} JPEGs of {size} px", "picture", speed)]
