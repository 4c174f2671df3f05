"""Descriptors of pictures in shards, by the portable embedder, on all cores.

Each process describes with one thread, one picture at a time. So a descriptor depends on its picture alone, and not on
the number of processes or on the other pictures. Descriptors that an earlier run made are kept, and not made again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.imports import code_digest
from streetrecall.parallel import map_in_order
from streetrecall.pictures.codec import decode, encode_jpeg
from streetrecall.pictures.perturb import perturb
from streetrecall.pictures.photo import NotAPhotoError, read_photo, resize
from streetrecall.pictures.shards import ShardReader
from streetrecall.progress import progress
from streetrecall.retrieval.photo_descriptors import describe_photo
from streetrecall.retrieval.portable import PortableEmbedder, PortableFile
from streetrecall.store.results import kept

CHUNK = 64  # pictures that a process describes at a time
FEW = 200  # so few pictures are not worth the start of processes
_CHANGED_QUALITY = 92  # of the JPEG of a changed picture

Look = Literal["square", "photo"]


@dataclass(frozen=True)
class Asked:
    """A picture to describe: ``size`` bytes at ``offset`` of a ``shard``, whose SHA-256 is ``sha256``.

    With ``change``, one of `streetrecall.pictures.perturb.CHANGES`, it is changed first; ``seed`` decides how.
    """

    shard: str
    offset: int
    size: int
    sha256: str
    change: str = ""
    seed: int = 0

    @property
    def key(self) -> str:
        """All that decides its pixels."""
        return f"{self.sha256}/{self.change}/{self.seed}" if self.change else self.sha256


def describe(
    network: PortableFile, folder: Path, asked: Sequence[Asked], name: str, look: Look = "square"
) -> NDArray[np.float16]:
    """Descriptors (n, d) of pictures in shards below ``folder``, in order.

    ``look``: a ``square`` of the size of training is what `crop` and `views` write; a ``photo`` is read and resized as
    a bundle does it, and so is what a change makes of a square. ``name`` says what they are, for people.

    Raises:
        UserError: a picture cannot be read, or the embedder gives values that are not finite.
    """
    descriptors = np.empty((len(asked), network.dimensions), np.float16)
    if not asked:
        return descriptors
    digest = hashlib.sha256(network.path.read_bytes()).hexdigest()
    libraries = {name: version(name) for name in ("ai-edge-litert", "numpy", "opencv-python-headless", "pillow")}
    with kept("descriptors", network=digest, look=look, code=code_digest(__name__), libraries=libraries) as known:
        keys = [one.key for one in asked]
        before = known.read(keys)
        for row, key in enumerate(keys):
            if key in before:
                descriptors[row] = np.frombuffer(before[key], np.float16)
        new = [row for row, key in enumerate(keys) if key not in before]
        chunks = [new[start : start + CHUNK] for start in range(0, len(new), CHUNK)]
        work = partial(_describe, network, digest, folder, look)
        found = map_in_order(work, [[asked[row] for row in rows] for rows in chunks], use_processes=len(new) > FEW)
        began = time.perf_counter()
        with progress(len(new), f"describe {name}", "image") as bar:
            for rows, part in zip(chunks, found, strict=True):
                descriptors[rows] = part
                known.write({keys[row]: descriptors[row].tobytes() for row in rows})
                bar.update(len(rows))
        speed = len(new) / max(time.perf_counter() - began, 1e-9)
        print(f"{len(asked)} {name}: {len(new)} described, {speed:.0f} a second; the others are known")
    if not np.isfinite(descriptors).all():
        raise UserError("the embedder gives descriptors that are not finite; run the stage train again")
    return descriptors


def _describe(
    network: PortableFile, digest: str, folder: Path, look: Look, asked: Sequence[Asked]
) -> NDArray[np.float16]:
    embedder = _opened(network, digest, threading.get_ident())
    with ShardReader(folder) as reader:
        return np.stack([_described(embedder, reader, one, network, look) for one in asked]).astype(np.float16)


@cache
def _opened(network: PortableFile, digest: str, thread: int) -> PortableEmbedder:
    """The embedder of this process and ``thread``, of which a process of a cluster may have several."""
    return PortableEmbedder(network.path, network.sizes, 1, "train")


def _described(
    embedder: PortableEmbedder, reader: ShardReader, asked: Asked, network: PortableFile, look: Look
) -> NDArray[np.float32]:
    where = asked.shard, asked.offset, asked.size
    if look == "photo":
        try:
            photo = read_photo(reader.read(*where), f"{reader.root / asked.shard}, the photo at {asked.offset}")
        except NotAPhotoError as error:  # which cannot be sent from process to process
            raise UserError(str(error)) from error
        return describe_photo(embedder, photo.pixels)
    pixels = reader.read_picture(*where)
    if asked.change:
        changed = decode(encode_jpeg(perturb(pixels, asked.change, asked.seed), _CHANGED_QUALITY))
        assert changed is not None, "OpenCV decodes what it encoded"
        return describe_photo(embedder, changed)
    return embedder.describe(resize(pixels, *network.square))
