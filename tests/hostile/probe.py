"""What depends on a user's settings, in numbers: run in a process of its own by `test_environments.py`."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

import streetrecall  # noqa: F401  (fixes the settings)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def network(_: Path) -> list[object]:
    """Settings of Keras, and the output of a small network."""
    import keras

    keras.utils.set_random_seed(3)
    layers = [keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3), keras.layers.LayerNormalization()]
    pictures = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    output = np.asarray(keras.Sequential(layers)(pictures))
    settings = [keras.backend.backend(), keras.config.floatx(), keras.config.epsilon(), keras.__version__]
    return [*settings, str(output.dtype), digest(output.tobytes())]


def figure(folder: Path) -> str:
    """The bytes of a figure."""
    from streetrecall.figures.canvas import canvas

    with canvas(folder / "figure.png", (3, 2), 80, "white") as drawn:
        axes = drawn.add_subplot()
        axes.plot([1, 2], [3, 4])
        axes.set_title("a title")
    return digest((folder / "figure.png").read_bytes())


def position(_: Path) -> str:
    """Projected coordinates."""
    from streetrecall.geo import project

    east, north = project([59.3], [18.0], "EPSG:3006")
    return digest(east.tobytes() + north.tobytes())


PARTS = {"network": network, "figure": figure, "position": position}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](Path(sys.argv[2]))))
