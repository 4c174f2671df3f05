"""The descriptor of a photo of any shape, the same for the evaluation and for a bundle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streetrecall.pictures.photo import Bytes, prepare
from streetrecall.retrieval.portable import PortableEmbedder


def describe_photo(embedder: PortableEmbedder, picture: Bytes) -> NDArray[np.float32]:
    """The descriptor (d,), of unit norm, of a photo (h, w, 3): the mean over what `prepare` makes of it."""
    parts = [embedder.describe(part) for part in prepare(picture, embedder.sizes)]
    if len(parts) == 1:
        return parts[0]
    mean = np.mean(parts, axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)
