"""The state of a training run between epochs, in one file: a killed run continues and ends with the same weights."""

from __future__ import annotations

import io
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.files import whole

FACTS = "facts"
Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class State:
    """``facts`` can be written as JSON; ``arrays`` are lists of arrays by name."""

    facts: dict[str, Any]
    arrays: dict[str, Arrays]


def save(path: Path, state: State) -> None:
    """Write ``state`` to one file, completely or not at all; on return it is safely on disk."""
    flat = {f"{name}/{i}": array for name, arrays in state.arrays.items() for i, array in enumerate(arrays)}
    facts = {"facts": state.facts, "counts": {name: len(arrays) for name, arrays in state.arrays.items()}}
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, **{FACTS: np.frombuffer(json.dumps(facts).encode(), np.uint8)}, **flat)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> bytes:
    """The file that `save` wrote, for `parse`; empty if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def parse(data: bytes) -> State | None:
    """The state in a file that `save` wrote; None if the file is empty or damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            facts = json.loads(stored[FACTS].tobytes())
            arrays = {name: [stored[f"{name}/{i}"] for i in range(count)] for name, count in facts["counts"].items()}
        return State(facts["facts"], arrays)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError):
        return None
