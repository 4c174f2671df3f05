"""Benchmark `embed`: pictures per second from JPEG bytes to descriptors, by LiteRT and by TensorFlow."""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from streetrecall.benchmarks.rows import Row, best_of, show
from streetrecall.parallel import available_cores
from streetrecall.params.schema import load

OPTIONS = [("images", 2048, "number of pictures to describe"), ("batch", 64, "pictures in a batch of TensorFlow")]
DIFFERENT = 64  # pictures; they are described again and again
TIMES = 2  # in turns; the best counts


def run(args: argparse.Namespace) -> list[Row]:
    """Print pictures per second from JPEG bytes of the views' size to descriptors, by the embedder of params.yaml.

    It is not trained, because the speed does not depend on the values of the weights. LiteRT describes as the stage
    `index` does: in processes of one thread each, whose start counts. TensorFlow has the cores to itself too.
    """
    import cv2

    params = load(args.params)
    size, threads = params.views.size, params.train.threads
    from streetrecall.model import runtime

    runtime.configure(threads, params.train.seed)
    from streetrecall.model import embedder, network, recipes
    from streetrecall.pictures.shards import write_shard
    from streetrecall.retrieval import describing, portable

    train = recipes.for_views(recipes.effective(params.train))
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 256, (14, 14, 3)).astype(np.uint8), (size, size)) for _ in range(DIFFERENT)]
    jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    built = network.build(train.backbone, "none", train.image_size, train.head)
    model = embedder.Embedder(built, train.backbone, train.image_size, train.head, args.batch, threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["STREETRECALL_STORE"] = name
        embedder.save(model, folder)
        file = portable.find(folder)
        members = write_shard(folder / "x.tar", [(f"{i:02d}.jpg", jpeg) for i, jpeg in enumerate(jpegs)])
        keys = itertools.count()  # so that no picture is known

        def by_litert(images: int) -> None:
            places = itertools.islice(itertools.cycle(members), images)
            asked = [describing.Asked("x.tar", m.offset, m.size, str(next(keys))) for m in places]
            describing.describe(file, folder, asked, "pictures")

        def by_tensorflow(images: int) -> None:
            model.describe([jpegs[i % DIFFERENT] for i in range(images)])

        few = min(args.images, describing.FEW)  # by this process alone
        by_litert(few)
        by_tensorflow(args.batch)  # builds the graph
        work = (by_litert, few), (by_litert, args.images), (by_tensorflow, args.images)
        times = [[best_of(1, partial(f, n)) for f, n in work] for _ in range(TIMES)]
    one, several, peer = (n / min(taken) for (_, n), taken in zip(work, zip(*times, strict=True), strict=True))
    beside = f"TensorFlow, {threads} threads, batches of {args.batch}"
    cores = available_cores() if args.images > describing.FEW else 1
    rows = [
        Row(f"describe {few} JPEGs of {size} px, 1 process", "picture", one, beside, peer),
        Row(f"describe {args.images} JPEGs of {size} px, processes: {cores}", "picture", several, beside, peer),
    ]
    print(f"{train.backbone}, which sees {train.image_size} px\n{show(rows)}")
    return rows
