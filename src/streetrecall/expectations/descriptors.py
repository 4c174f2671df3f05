"""Suite of the descriptors: one per picture, in order, finite, of unit norm, and not all alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations.expectations.row_conditions import Column
from numpy.typing import NDArray

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.expectations.common.suite import Batch, expect
from streetrecall.params.checks import CheckDescriptors
from streetrecall.params.schema import Params
from streetrecall.retrieval.rows import descriptor_rows

INPUTS = {
    "images": Path("data/crops/images.parquet"),
    "baseline": Path("models/baseline"),
    "index": Path("models/index"),
    "sift_vlad": Path("models/sift_vlad"),
}
SYSTEMS = ("baseline", "index", "sift_vlad")
VALIDATED = tuple(f"{name}/{file}" for name in SYSTEMS for file in ("descriptors.npy", "rows.parquet"))
_SEED = 20231

# What to do if the descriptors themselves are bad.
REMEDY = {
    "index": "train again with a lower learning rate (`train.phases.0.learning_rate`); see the curves in metrics/plots",
    "baseline": "look at the pictures, then at `baseline.cells` and `baseline.orientations`",
    "sift_vlad": "look at the pictures, then at `sift_vlad.clusters` and `sift_vlad.channels`",
}


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """For each of the systems: one row per descriptor, and one row per random pair of pictures of two places."""
    wanted = descriptor_rows(tables.read(tables.IMAGES, inputs["images"]))
    return [batch for name in SYSTEMS for batch in _of(params, name, inputs[name], wanted)]


def _of(params: Params, name: str, folder: Path, wanted: pd.DataFrame) -> list[Batch]:
    limits = params.checks.descriptors
    rows = tables.read(tables.DESCRIPTORS, folder / "rows.parquet")
    vectors = load(folder / "descriptors.npy")
    pairs = similarities(vectors, rows["place"].to_numpy(), limits.pairs)
    ids = ("image_id", "place", "direction", "month")
    suite = [*_rows(name, len(wanted)), *_vectors(name, limits)]
    return [
        Batch(name, as_table(rows, vectors, wanted), ids, suite),
        Batch(f"{name}_pairs", pairs, ("row_a", "row_b"), _pairs(name, limits)),
    ]


def _again(name: str) -> str:
    return f"run the stage {name} again (`dvc repro --force {name}`): its rows differ from data/crops/images.parquet"


def _rows(name: str, count: int) -> list[Any]:
    return [
        expect(
            gxe.ExpectTableRowCountToEqual,
            "Every picture outside quarantine has a descriptor, and nothing else has one.",
            _again(name),
            figure=f"{name}_descriptors",
            value=count,
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "Row i describes picture i: in another order, every answer would name the wrong place.",
            _again(name),
            column_A="image_id",
            column_B="wanted_image_id",
            ignore_row_if="either_value_is_missing",
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "The newest picture of a place and direction is the query, older ones are the gallery; none is both.",
            _again(name),
            column_A="role",
            column_B="wanted_role",
            ignore_row_if="either_value_is_missing",
        ),
        expect(gxe.ExpectColumnValuesToNotBeNull, "Each row has a vector.", _again(name), column="non_finite"),
    ]


def _vectors(name: str, limits: CheckDescriptors) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A vector that holds NaN or infinity is near to nothing, so its picture is lost without notice.",
            REMEDY[name],
            column="non_finite",
            value_set=[0],
            row_condition=Column("non_finite").is_not_null(),
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "Search by inner product ranks by angle only if all vectors have length 1.",
            _again(name),
            column="norm",
            min_value=1 - limits.norm_tolerance,
            max_value=1 + limits.norm_tolerance,
            row_condition=Column("non_finite") == 0,
        ),
    ]


def _pairs(name: str, limits: CheckDescriptors) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnStdevToBeBetween,
            "A collapsed network gives every picture the same descriptor, and then all similarities are equal.",
            REMEDY[name],
            figure=f"{name}_similarity_spread",
            column="cosine",
            min_value=limits.min_similarity_spread,
        ),
        expect(
            gxe.ExpectColumnMeanToBeBetween,
            "If descriptors of different places are nearly parallel, places cannot be told apart.",
            REMEDY[name],
            figure=f"{name}_similarity_mean",
            column="cosine",
            max_value=limits.max_similarity_mean,
        ),
    ]


def load(path: Path) -> NDArray[np.float32]:
    """Descriptors (n, d) of a .npy file.

    Raises:
        UserError: the file is missing, not an array, or not two-dimensional.
    """
    try:
        vectors = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run the stage that writes it (`dvc repro`)") from error
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: not a readable .npy file ({error}); `dvc checkout` restores it") from error
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise UserError(f"{path}: holds {vectors.dtype} of shape {vectors.shape}; descriptors are floats, one row each")
    return vectors.astype(np.float32)


def as_table(rows: pd.DataFrame, vectors: NDArray[np.float32], wanted: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with the norm and the count of non-finite numbers of each vector, beside the rows that are ``wanted``.

    The table has as many rows as the longer of rows and vectors; values that one of them lacks are null.
    """
    length = max(len(rows), len(vectors))
    table = rows.reindex(range(length))
    sound = np.isfinite(vectors)
    norm = np.linalg.norm(np.where(sound, vectors, 0), axis=1)
    table["norm"] = pd.Series(norm).reindex(range(length))
    table["non_finite"] = pd.Series((~sound).sum(axis=1)).reindex(range(length))
    for column in ("image_id", "role"):
        table[f"wanted_{column}"] = wanted[column].reindex(range(length))
    return table


def similarities(vectors: NDArray[np.float32], places: NDArray[np.int64], count: int) -> pd.DataFrame:
    """Cosine similarity of ``count`` random pairs of rows of different places; columns row_a, row_b, cosine.

    Rows that are not finite are left out, because the suite reports them separately. The pairs are the same each time.
    """
    usable = np.flatnonzero(
        np.isfinite(vectors[: len(places)]).all(axis=1) & (np.abs(vectors[: len(places)]).sum(axis=1) > 0)
    )
    if len(usable) < 2:
        return pd.DataFrame({"row_a": [], "row_b": [], "cosine": []}, dtype="float64")
    rng = np.random.default_rng(_SEED)
    a, b = usable[rng.integers(0, len(usable), (2, count))]
    apart = places[a] != places[b]
    a, b = a[apart], b[apart]
    left, right = vectors[a], vectors[b]
    scale = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return pd.DataFrame(
        {"row_a": a, "row_b": b, "cosine": np.einsum("ij,ij->i", left, right, dtype=np.float64) / scale}
    )
