"""A trained embedder: from pictures to descriptors, and on disk as ``config.json`` and ``embedder.weights.h5``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from streetrecall.errors import UserError
from streetrecall.files import whole, write_json
from streetrecall.imports import code_digest
from streetrecall.model import runtime  # first: it silences the log of TensorFlow's import
from streetrecall.model.shapes import LANDSCAPE, PORTRAIT, Size, sides
from streetrecall.params.schema import Head

CONFIG, WEIGHTS = "config.json", "embedder.weights.h5"
VERSION = 1


@dataclass
class Embedder:
    """Pictures to descriptors; see `load`."""

    network: Any  # network.Network
    backbone: str
    image_size: int
    head: Head
    batch_size: int = 64
    threads: int = 2

    def __post_init__(self) -> None:
        self._runs: dict[Size, Any] = {}
        self._runner(self.image_size)

    @property
    def dimensions(self) -> int:
        return self.head.dimensions

    @property
    def takes_any_shape(self) -> bool:
        """Whether it takes pictures that are not square; the branch ``grid`` does not."""
        return not any(branch.pool == "grid" for branch in self.head.branches)

    @property
    def photo_sizes(self) -> list[tuple[int, int]]:
        """The sizes (height, width) at which it sees photos: lying, upright and square ones."""
        square = sides(self.image_size)
        return [sides(LANDSCAPE), sides(PORTRAIT), square] if self.takes_any_shape else [square]

    def describe(self, jpegs: Sequence[bytes]) -> NDArray[np.float32]:
        """Descriptors of unit norm, (n, d) float32, of JPEG pictures of any size (best: 224 x 224, as from `crop`).

        Raises:
            UserError: a picture cannot be read or decoded; says which.
        """
        parts = list(self.describe_all(jpegs))
        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), np.float32)

    def describe_all(self, jpegs: Sequence[bytes], size: Size | None = None) -> Iterator[NDArray[np.float32]]:
        """As `describe`, batch by batch, for more pictures than fit into memory.

        ``size``: of the pictures, if the network is to see them at another size than ``image_size``.

        Raises:
            UserError: also if the embedder takes square pictures only, and ``size`` is another.
        """
        from streetrecall.model import decoding

        size = self.image_size if size is None else size
        run = self._runner(size)
        for pixels, count in decoding.batches(jpegs, size, self.batch_size, self.threads):
            yield run(pixels).numpy()[:count].astype(np.float32)

    def identity(self) -> dict[str, Any]:
        """All that decides a descriptor besides the picture and its size, as values that JSON can hold."""
        return {
            "weights": runtime.weights_digest(self.network.whole),
            "head": self.head.model_dump(mode="json"),
            "backbone": self.backbone,
            "image_size": self.image_size,
            "batch": self.batch_size,
            "threads": self.threads,
            "code": code_digest(__name__),
            **runtime.facts(),
        }

    def describe_pixels(self, pictures: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Descriptors (n, d) of pictures (h, w, 3), each of one of the sizes that the network takes."""
        descriptors = np.empty((len(pictures), self.dimensions), np.float32)
        by_size: dict[tuple[int, int], list[int]] = {}
        for number, picture in enumerate(pictures):
            height, width = picture.shape[:2]
            by_size.setdefault((height, width), []).append(number)
        for (height, width), numbers in by_size.items():
            run = self._runner(height if height == width == self.image_size else (height, width))
            for start in range(0, len(numbers), self.batch_size):
                part = numbers[start : start + self.batch_size]
                # Always a whole batch, filled with black: kernels depend on the size of the batch.
                pixels = np.zeros((self.batch_size, height, width, 3), np.float32)
                pixels[: len(part)] = [pictures[number] for number in part]
                descriptors[part] = run(pixels).numpy()[: len(part)]
        return descriptors

    def _runner(self, size: Size) -> Any:
        """The compiled network for pictures of ``size``."""
        if size not in self._runs:
            import tensorflow as tf

            from streetrecall.model import network

            same = size == self.image_size
            model = (self.network if same else network.resized(self.network, size, self.head)).inference()
            self._runs[size] = tf.function(lambda pixels: model(pixels, training=False))
        return self._runs[size]


def save(embedder: Embedder, folder: str | Path) -> None:
    """Write ``config.json`` and the weights to ``folder``. The same embedder gives the same bytes."""
    folder = Path(folder)
    facts = {
        "version": VERSION,
        "backbone": embedder.backbone,
        "image_size": embedder.image_size,
        "dimensions": embedder.dimensions,
        "head": embedder.head.model_dump(),
    }
    with whole(folder / WEIGHTS) as partial:
        embedder.network.whole.save_weights(partial)
    write_json(folder / CONFIG, facts)


def load(folder: str | Path, batch_size: int = 64, threads: int = 2) -> Embedder:
    """The embedder that `save` wrote. It needs no connection and no pretrained weights.

    Raises:
        UserError: a file is missing, damaged or of another version.
    """
    from streetrecall.model import network

    folder = Path(folder)
    path = folder / CONFIG
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["version"] != VERSION:
            raise UserError(f"{path}: version {facts['version']}, this program reads {VERSION}; train again")
        head = TypeAdapter(Head).validate_python(facts["head"])
        built = network.build(facts["backbone"], "none", facts["image_size"], head)
        path = folder / WEIGHTS
        built.whole.load_weights(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; the stage train writes it") from error
    except (KeyError, TypeError, ValueError, OSError, ValidationError) as error:
        raise UserError(f"{path}: not an embedder of this project: {error}; run the stage train again") from error
    return Embedder(built, facts["backbone"], facts["image_size"], head, batch_size, threads)
