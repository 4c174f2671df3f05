"""The state of a training run between epochs, so that a killed run ends with the weights of an undisturbed one."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.files import whole

FACTS = "facts"


def save(path: Path, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write ``facts`` (JSON) and ``arrays`` to one file; whole or not at all, and safely on disk on return."""
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, **{FACTS: np.frombuffer(json.dumps(facts).encode(), np.uint8)}, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """What `save` wrote; None if there is nothing, or nothing readable."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return json.loads(arrays.pop(FACTS).tobytes()), arrays
    except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError, EOFError):
        return None
