"""Files that appear whole or not at all: written under another name beside the target, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when the block ends well; otherwise ``path`` stays what it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")  # some writers go by the suffix
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Sorted keys and a newline at the end, so that the same content is the same file; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def write_array(path: str | Path, array: NDArray) -> None:
    """In NumPy's own format (.npy)."""
    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, array)
