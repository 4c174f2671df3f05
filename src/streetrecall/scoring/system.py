"""A system under evaluation: the descriptors of one method, and the pictures that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.months import month_numbers

DESCRIPTORS, ROWS = "descriptors.npy", "rows.parquet"  # the files of the pictures
# Files beside them: of the gallery's views, and of the photos asked against them.
VIEWS, VIEW_ROWS = "views.npy", "views.parquet"
PHOTOS, PHOTO_ROWS = "photos.npy", "photos.parquet"
# The changed queries of a collection without photos, in the order of `streetrecall.retrieval.changed.perturbed_rows`.
PERTURBED = "perturbed.npy"


@dataclass(frozen=True)
class System:
    """The descriptors (n, d), of unit norm, of the n pictures in ``rows`` (DESCRIPTORS columns)."""

    name: str
    rows: pd.DataFrame
    descriptors: NDArray[np.float32]


def read_system(name: str, folder: Path) -> System:
    """Read the descriptors in ``folder`` and their rows, and check that they fit.

    Raises:
        UserError: a file is missing, or holds something else than finite descriptors of unit norm, one for each row.
    """
    return System(name, *read_described(tables.DESCRIPTORS, folder / ROWS, folder / DESCRIPTORS))


def read_perturbed(system: System, changed: pd.DataFrame, path: Path) -> System | None:
    """``system`` with the changed queries ``changed``, whose descriptors are in ``path``; None if there are none.

    Raises:
        UserError: rows and descriptors disagree.
    """
    described = np.load(path) if path.exists() else np.zeros((0, 0), np.float16)
    if not len(described):
        return None
    if len(changed) != len(described):
        raise UserError(f"{path}: {len(described)} descriptors of {len(changed)} queries; run the stage index again")
    rows = pd.concat([system.rows, changed], ignore_index=True)
    return System(system.name, rows, np.concatenate([system.descriptors, described.astype(np.float32)]))


def read_described(table: tables.Table, rows_path: Path, path: Path) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """The rows of ``table`` in ``rows_path``, and the descriptors of the same pictures in ``path``.

    Raises:
        UserError: as `read_system`.
    """
    rows = tables.read(table, rows_path)
    (key,) = table.key
    picture = {"image_id": "image", "view_id": "view", "photo_id": "photo"}[key]
    try:
        descriptors = np.load(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run the stage that describes pictures (dvc repro)") from error
    if descriptors.ndim != 2 or len(descriptors) != len(rows):
        raise UserError(f"{path}: shape {descriptors.shape}, but {rows_path.name} beside it has {len(rows)} rows")
    if not np.issubdtype(descriptors.dtype, np.floating):
        raise UserError(f"{path}: holds {descriptors.dtype}, not floating-point numbers")
    bad = np.flatnonzero(~np.isfinite(descriptors).all(axis=1))
    if len(bad):
        raise UserError(f"{path}: the descriptor of {picture} {rows[key][bad[0]]} holds a value that is no number")
    descriptors = descriptors.astype(np.float32)
    norm = np.linalg.norm(descriptors, axis=1)
    bad = np.flatnonzero(np.abs(norm - 1) > 0.01)
    if len(bad):
        raise UserError(f"{path}: the descriptor of {picture} {rows[key][bad[0]]} has length {norm[bad[0]]:.3f}, not 1")
    try:
        month_numbers(rows["month"])
    except ValueError as error:
        raise UserError(f"{rows_path}: {error}") from error
    return rows, descriptors
