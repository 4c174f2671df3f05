"""Suite of the descriptors: one a picture, in order, finite, of unit norm, and not all alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations.expectations.row_conditions import Column
from numpy.typing import NDArray

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.expectations.gate import Batch, expect
from streetrecall.params.schema import Params
from streetrecall.retrieval.rows import descriptor_rows

INPUTS = {
    "images": Path("data/crops/images.parquet"),
    "baseline": Path("models/baseline"),
    "index": Path("models/index"),
}
VALIDATED = ("baseline/descriptors.npy", "baseline/rows.parquet", "index/descriptors.npy", "index/rows.parquet")
_SEED = 20231


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """For the baseline and the index each: one row a descriptor, and one row a random pair of two places' pictures."""
    wanted = descriptor_rows(tables.read(tables.IMAGES, inputs["images"]))
    return [batch for name in ("baseline", "index") for batch in _of(params, name, inputs[name], wanted)]


def _of(params: Params, name: str, folder: Path, wanted: pd.DataFrame) -> list[Batch]:
    limits = params.checks.descriptors
    rows = tables.read(tables.DESCRIPTORS, folder / "rows.parquet")
    vectors = load(folder / "descriptors.npy")
    table = as_table(rows, vectors, wanted)
    pairs = similarities(vectors, rows["place"].to_numpy(), limits.pairs)
    again = (
        f"run the stage {name} again (dvc repro --force {name}): its rows are not those of data/crops/images.parquet"
    )
    retrain = (
        "train again with another learning rate or batch-norm momentum; the curves in metrics/plots show when it fell"
    )
    suite = [
        expect(
            gxe.ExpectTableRowCountToEqual,
            "Every picture that is not quarantined has a descriptor, and nothing else has.",
            again,
            figure=f"{name}_descriptors",
            value=len(wanted),
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "Row i describes picture i: another order gives every answer to the wrong place.",
            again,
            column_A="image_id",
            column_B="wanted_image_id",
            ignore_row_if="either_value_is_missing",
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "The newest picture of each view is the query, older ones are the gallery: no picture is both.",
            again,
            column_A="role",
            column_B="wanted_role",
            ignore_row_if="either_value_is_missing",
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "Each row has a vector.",
            again,
            column="non_finite",
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A vector with NaN or infinity is near to nothing, and silently lost.",
            "training diverged; lower train's learning rate",
            column="non_finite",
            value_set=[0],
            row_condition=Column("non_finite").is_not_null(),
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "Search by inner product ranks by angle only if all vectors have length 1.",
            again,
            column="norm",
            min_value=1 - limits.norm_tolerance,
            max_value=1 + limits.norm_tolerance,
            row_condition=Column("non_finite") == 0,
        ),
    ]
    pairs_suite = [
        expect(
            gxe.ExpectColumnStdevToBeBetween,
            "A collapsed network gives every picture the same descriptor: all similarities are then equal.",
            retrain,
            figure=f"{name}_similarity_spread",
            column="cosine",
            min_value=limits.min_similarity_spread,
        ),
        expect(
            gxe.ExpectColumnMeanToBeBetween,
            "Pictures of different places that are nearly parallel leave no room to tell places apart.",
            retrain,
            figure=f"{name}_similarity_mean",
            column="cosine",
            max_value=limits.max_similarity_mean,
        ),
    ]
    return [
        Batch(name, table, ("image_id", "place", "direction", "month"), suite),
        Batch(f"{name}_pairs", pairs, ("row_a", "row_b"), pairs_suite),
    ]


def load(path: Path) -> NDArray[np.float32]:
    """Descriptors (n, d) of a .npy file.

    Raises:
        UserError: the file is missing, not an array, or not two-dimensional.
    """
    try:
        vectors = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run the stage that writes it (dvc repro)") from error
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: not a readable .npy file ({error}); dvc checkout mends it") from error
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise UserError(f"{path}: holds {vectors.dtype} of shape {vectors.shape}; descriptors are floats, one row each")
    return vectors.astype(np.float32)


def as_table(rows: pd.DataFrame, vectors: NDArray[np.float32], wanted: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with each vector's norm and count of non-finite numbers, beside the rows that are ``wanted``.

    As long as the longer of rows and vectors; what one of them lacks is null.
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

    Rows that are not finite take no part: the suite reports them by themselves. The pairs are the same each time.
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
