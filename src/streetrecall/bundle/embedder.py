"""The embedder of a bundle, run by LiteRT: from pixels to descriptors, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.bundle.layout import signature
from streetrecall.errors import UserError
from streetrecall.quiet import quiet


class Embedder:
    """The network in ``path``; it takes pictures of the given ``sizes`` (height, width).

    One instance serves one thread at a time.

    Raises:
        UserError: the file is missing or damaged.
    """

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]], threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        if not path.exists():
            raise UserError(f"{path}: there is no such file; run the stage bundle again")
        try:
            with quiet():
                self._interpreter = Interpreter(str(path), num_threads=threads)
            known = self._interpreter.get_signature_list()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: LiteRT cannot read it ({error}); run the stage bundle again") from error
        self.sizes = list(sizes)
        missing = [size for size in self.sizes if signature(*size) not in known]
        if missing:
            raise UserError(f"{path}: takes no pictures of {missing[0]}; run the stage bundle again")
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
