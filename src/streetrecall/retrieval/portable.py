"""The embedder as a file for LiteRT: from pixels to descriptors without TensorFlow.

The stage train writes the file beside the weights, the stage index describes with it, and a bundle holds a copy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.quiet import quiet

CONFIG, FILE = "config.json", "embedder.tflite"  # in the folder of a trained embedder


def signature(height: int, width: int) -> str:
    """Name of the network's signature for pictures of that size."""
    return f"size_{height}x{width}"


@dataclass(frozen=True)
class PortableFile:
    """The LiteRT file of a trained embedder.

    ``sizes`` (height, width) are those of the pictures that it takes; one of them is square. Descriptors have so many
    ``dimensions``.
    """

    path: Path
    sizes: tuple[tuple[int, int], ...]
    dimensions: int

    @property
    def square(self) -> tuple[int, int]:
        """The size of the pictures that it was trained with."""
        return next((height, width) for height, width in self.sizes if height == width)

    @property
    def takes_any_shape(self) -> bool:
        """Whether it takes pictures that are not square; the branch ``grid`` does not."""
        return len(self.sizes) > 1


def find(folder: Path) -> PortableFile:
    """The file in the ``folder`` that the stage train wrote.

    Raises:
        UserError: a file is missing or damaged.
    """
    path = folder / CONFIG
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        sizes = tuple((int(height), int(width)) for height, width in facts["photo_sizes"])
        found = PortableFile(folder / FILE, sizes, int(facts["dimensions"]))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; the stage train writes it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: does not say what the embedder takes ({error}); run the stage train again") from error
    if not found.path.is_file():
        raise UserError(f"{found.path}: there is no such file; the stage train writes it")
    return found


class PortableEmbedder:
    """The network in ``path``; it takes pictures of the given ``sizes`` (height, width).

    One instance serves one thread at a time. ``stage`` is the one that wrote the file, for error messages.

    Raises:
        UserError: the file is missing or damaged.
    """

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]], threads: int, stage: str = "bundle") -> None:
        from ai_edge_litert.interpreter import Interpreter

        if not path.exists():
            raise UserError(f"{path}: there is no such file; run the stage {stage} again")
        try:
            with quiet():
                self._interpreter = Interpreter(str(path), num_threads=threads)
            known = self._interpreter.get_signature_list()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: LiteRT cannot read it ({error}); run the stage {stage} again") from error
        self.sizes = list(sizes)
        missing = [size for size in self.sizes if signature(*size) not in known]
        if missing:
            raise UserError(f"{path}: takes no pictures of {missing[0]}; run the stage {stage} again")
        self._runners: dict[str, Any] = {}

    def describe(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The descriptor (d,), of unit norm, of a picture (h, w, 3), 0-255, of one of ``sizes``."""
        name = signature(*pixels.shape[:2])
        image = np.asarray(pixels[None], np.float32)
        if name in self._runners:
            out = self._runners[name](image=image)
        else:
            with quiet():
                self._runners[name] = self._interpreter.get_signature_runner(name)
                out = self._runners[name](image=image)
        return np.asarray(next(iter(out.values()))[0], np.float32)
