"""Benchmark `embed`: pictures per second from JPEG bytes to descriptors, beside TensorFlow, LiteRT and ONNX Runtime."""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.benchmarks.rows import Row, best_of, show
from streetrecall.parallel import available_cores
from streetrecall.params.schema import load

OPTIONS = [
    ("images", 2048, "number of pictures to describe"),
    ("batch", 64, "pictures in a batch of TensorFlow"),
]
DIFFERENT = 64  # pictures; they are described again and again
FEW = 192  # pictures for all that run in one process
TIMES = 2  # in turns; the best counts
Describe = Callable[[NDArray[np.float32]], Any]


def run(args: argparse.Namespace) -> list[Row]:
    """Print pictures per second from JPEG bytes of the views' size to descriptors, by the embedder of params.yaml.

    It is not trained, because the speed does not depend on the values of the weights; all run the same ones. This
    project describes as the stage `index` does: in processes of one thread each, whose start counts. The peers have all
    threads in one process. Where the package tf2onnx is missing, there is no row for ONNX Runtime.
    """
    import cv2

    params = load(args.params)
    size, threads = params.views.size, params.train.threads
    from streetrecall.model import runtime

    runtime.configure(threads, params.train.seed)
    from streetrecall.model import embedder, network, recipes
    from streetrecall.pictures.codec import decode
    from streetrecall.pictures.photo import resize
    from streetrecall.pictures.shards import write_shard
    from streetrecall.retrieval import describing, portable

    train = recipes.for_views(recipes.effective(params.train))
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 256, (14, 14, 3)).astype(np.uint8), (size, size)) for _ in range(DIFFERENT)]
    jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    built = network.build(train.backbone, "none", train.image_size, train.head)
    model = embedder.Embedder(built, train.backbone, train.image_size, train.head, args.batch, threads)
    few = min(args.images, FEW)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["STREETRECALL_STORE"] = name
        embedder.save(model, folder)
        file = portable.find(folder)
        members = write_shard(folder / "x.tar", [(f"{i:02d}.jpg", jpeg) for i, jpeg in enumerate(jpegs)])
        keys = itertools.count()  # so that no picture is known

        def by_us(images: int) -> None:
            places = itertools.islice(itertools.cycle(members), images)
            asked = [describing.Asked("x.tar", m.offset, m.size, str(next(keys))) for m in places]
            describing.describe(file, folder, asked, "pictures")

        def by_tensorflow() -> None:
            model.describe([jpegs[i % DIFFERENT] for i in range(few)])

        def one_by_one(describe: Describe) -> None:
            for i in range(few):
                pixels = decode(jpegs[i % DIFFERENT])
                assert pixels is not None, "OpenCV decodes what it encoded"
                describe(resize(pixels, *file.square))

        lite = portable.PortableEmbedder(file.path, file.sizes, threads)
        peers: dict[str, Callable[[], None]] = {
            f"TensorFlow, {threads} threads, batches of {args.batch}": by_tensorflow,
            f"LiteRT, {threads} threads, loop": partial(one_by_one, lite.describe),
        }
        session = _onnx(built.inference(), file.square, folder, threads)
        if session is None:
            print("no row for ONNX Runtime: it needs the packages onnxruntime and tf2onnx")
        else:
            name = f"ONNX Runtime, {threads} threads, loop"
            peers[name] = partial(one_by_one, session)
            pixels = resize(pictures[0], *file.square)
            if not np.allclose(np.ravel(session(pixels)), lite.describe(pixels), atol=1e-4):
                raise AssertionError("ONNX Runtime gives other descriptors")
        own: dict[int, Callable[[], None]] = {1: partial(by_us, few)}
        cores = available_cores() if args.images > describing.FEW else 1
        if cores > 1:
            own[cores] = partial(by_us, args.images)
        for work in (own[1], *peers.values()):
            work()  # builds graphs
        ours, theirs = dict.fromkeys(own, np.inf), dict.fromkeys(peers, np.inf)
        for _ in range(TIMES):
            ours = {count: min(ours[count], best_of(1, work)) for count, work in own.items()}
            theirs = {peer: min(theirs[peer], best_of(1, work)) for peer, work in peers.items()}
    rows = []
    for count, took in ours.items():
        images = few if count == 1 else args.images
        task = f"describe {images} JPEGs of {size} px, processes: {count}"
        rows += [Row(task, "picture", images / took, peer, few / other) for peer, other in theirs.items()]
    print(f"{train.backbone}, which sees {train.image_size} px\n{show(rows)}")
    return rows


def _onnx(model: Any, size: tuple[int, int], folder: Path, threads: int) -> Describe | None:
    """The network in ONNX Runtime, for pictures of ``size`` (height, width); None if a package is missing."""
    try:
        import onnxruntime
        import tf2onnx  # noqa: F401
    except ImportError:
        return None
    import tensorflow as tf

    from streetrecall.quiet import quiet

    path, signature = folder / "embedder.onnx", tf.TensorSpec((1, *size, 3), tf.float32, name="image")
    with quiet():
        model.export(str(path), format="onnx", input_signature=[signature], verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: np.asarray(pixels[None], np.float32)})[0]
