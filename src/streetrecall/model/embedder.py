"""A trained embedder, and on disk: ``config.json``, ``embedder.weights.h5``, and the same weights for LiteRT."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from streetrecall.errors import UserError
from streetrecall.files import whole, write_json
from streetrecall.model import runtime  # noqa: F401  first: it silences the log of TensorFlow's import
from streetrecall.model.shapes import LANDSCAPE, PORTRAIT, sides
from streetrecall.params.schema import Head
from streetrecall.retrieval.portable import CONFIG, FILE

WEIGHTS = "embedder.weights.h5"
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
        import tensorflow as tf

        model = self.network.inference()
        self._run = tf.function(lambda pixels: model(pixels, training=False))

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
        """Descriptors of unit norm, (n, d) float32, of JPEG pictures at ``image_size``, by TensorFlow.

        The pipeline describes by the file for LiteRT instead (`streetrecall.retrieval.describing`), which is faster on
        processor cores.

        Raises:
            UserError: a picture cannot be read or decoded; says which.
        """
        from streetrecall.model import decoding

        parts = [
            self._run(pixels).numpy()[:count].astype(np.float32)
            for pixels, count in decoding.batches(jpegs, self.image_size, self.batch_size, self.threads)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), np.float32)


def save(embedder: Embedder, folder: str | Path) -> None:
    """Write the embedder to ``folder``: its configuration, its weights and the file for LiteRT.

    The same embedder gives the same bytes.
    """
    from streetrecall.model.conversion import convert

    folder = Path(folder)
    facts = {
        "version": VERSION,
        "backbone": embedder.backbone,
        "image_size": embedder.image_size,
        "dimensions": embedder.dimensions,
        "head": embedder.head.model_dump(),
        "photo_sizes": [list(size) for size in embedder.photo_sizes],
    }
    with whole(folder / WEIGHTS) as partial:
        embedder.network.whole.save_weights(partial)
    with whole(folder / FILE) as partial:
        partial.write_bytes(convert(embedder.network, embedder.head, embedder.photo_sizes))
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
