"""The pictures that every system describes: those in use, the gallery's views, and the photos that ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import write_array
from streetrecall.retrieval.rows import GALLERY, descriptor_rows
from streetrecall.scoring import system

Describe = Callable[[Path, pd.DataFrame], NDArray[np.float16]]  # of pictures (n rows) in shards below a folder: (n, d)


@dataclass(frozen=True)
class InUse:
    """The pictures outside quarantine: ``rows`` has DESCRIPTORS columns, ``images`` the IMAGES rows in the same order.

    ``quarantined`` is the number of the others.
    """

    rows: pd.DataFrame
    images: pd.DataFrame
    quarantined: int


def pictures_in_use(crops: Path) -> InUse:
    """The pictures of ``crops``/images.parquet that are described.

    Raises:
        UserError: the table is missing or damaged, or every picture is in quarantine.
    """
    path = crops / "images.parquet"
    images = tables.read(tables.IMAGES, path)
    rows = descriptor_rows(images)
    if rows.empty:
        raise UserError(f"{path}: all {len(images)} pictures are in quarantine; see metrics/crop.json")
    used = images.set_index("image_id").loc[rows["image_id"]].reset_index()
    return InUse(rows, used, len(images) - len(used))


def gallery_views(views: Path) -> pd.DataFrame:
    """The VIEWS rows of the gallery in the folder ``views``, in order."""
    seen = tables.read(tables.VIEWS, views / "views.parquet")
    return seen[seen["use"] == GALLERY].reset_index(drop=True)


def write_descriptors(out: Path, rows: pd.DataFrame, descriptors: NDArray[np.float16]) -> None:
    """Write ``descriptors`` (n, d) of the pictures ``rows`` (DESCRIPTORS columns) to the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    write_array(out / system.DESCRIPTORS, descriptors)
    tables.write(tables.DESCRIPTORS, rows, out / system.ROWS)


def describe_asked(
    describe_views: Describe, describe_photos: Describe, views: Path, photos: Path, out: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write descriptors of the gallery's views and of the photos, and the tables of their rows, to the folder ``out``.

    ``views`` and ``photos`` are the folders of the tables and the shards. Returns the VIEWS and the PHOTOS rows.

    Raises:
        UserError: a table or a picture cannot be read.
    """
    seen = gallery_views(views)
    asked = tables.read(tables.PHOTOS, photos / "photos.parquet")
    write_array(out / system.VIEWS, describe_views(views, seen))
    tables.write(tables.VIEWS, seen, out / system.VIEW_ROWS)
    write_array(out / system.PHOTOS, describe_photos(photos, asked))
    tables.write(tables.PHOTOS, asked, out / system.PHOTO_ROWS)
    return seen, asked
