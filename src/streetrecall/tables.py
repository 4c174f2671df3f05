"""The tables that pass from stage to stage: their columns, and the only code that reads and writes them.

Every table is a Parquet file. Months are ``YYYY-MM`` strings, positions are WGS 84 degrees (EPSG:4326) in ``lat`` and
``lon``, projected positions are metres in ``x`` (east) and ``y`` (north) of ``params.yaml: city.crs``. Text columns
hold the empty string where there is nothing to say; they are never null.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from streetrecall.errors import UserError
from streetrecall.files import whole

RADII_M = (25, 50, 100)  # an answer is right if it was taken within this distance of its query; 25 m is the standard


@dataclass(frozen=True)
class Table:
    """Name, columns (name -> pandas dtype) and key (the columns that identify a row, also its sort order)."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    doc: str


def _table(name: str, doc: str, key: tuple[str, ...], **columns: str) -> Table:
    return Table(name, columns, key, doc)


GRID = _table(
    "grid",
    "A point of the city's grid. Stored as GeoParquet with a point geometry; row order is the scan order.",
    ("point_id",),
    point_id="int64",  # running index of the points inside the polygon, in scan order
    lat="float64",
    lon="float64",
)

PANORAMAS = _table(
    "panoramas",
    "A panorama found near a grid point; each panorama once, with the grid point that found it.",
    ("pano_id",),
    pano_id="str",
    lat="float64",
    lon="float64",
    month="str",  # of the capture; empty where the provider does not say
    point_id="int64",
    offset_m="float64",  # geodesic distance from the grid point
    provider="str",
    licence="str",
    attribution="str",
)

NO_COVERAGE = _table(
    "no_coverage",
    "A grid point that was asked and has no imagery.",
    ("point_id",),
    point_id="int64",
    lat="float64",
    lon="float64",
    status="str",  # the provider's word for it
)

LOCATIONS = _table(
    "locations",
    "A place to collect, picked by the levels of shrinking radius.",
    ("place",),
    place="int64",  # running index over all levels, in picking order
    rank="int64",  # index among all panoramas sorted by distance to the start point
    pano_id="str",
    lat="float64",
    lon="float64",
    x="float64",
    y="float64",
    month="str",
    start_distance_m="float64",
    radius_m="float64",  # of the level that picked it
    level="int64",  # 0 is the widest
    split="str",  # train, validation or test
)

CAPTURES = _table(
    "captures",
    "A picture asked of the provider: one row a (place, panorama, direction), whether it could be had or not.",
    ("place", "direction", "month", "pano_id"),
    place="int64",
    direction="int64",  # 0-3: quarter turns from the place's first heading
    heading_deg="float64",  # compass heading of the view, clockwise from north; NaN where unknown (archive)
    date_index="int64",  # 0 is the newest
    month="str",
    pano_id="str",
    split="str",
    subset="str",  # split and its collection, such as test_v1
    lat="float64",
    lon="float64",
    status="str",  # ok, blank, gone or failed
    reason="str",  # why not ok
    shard="str",  # path below the captures folder; empty unless ok or blank
    offset="int64",  # of the first byte in the shard; -1 without a picture
    size="int64",  # bytes
    sha256="str",
    width="int64",
    height="int64",
    format="str",  # JPEG or PNG
    provider="str",
    licence="str",
    attribution="str",
    source="str",  # where it came from (an archive's file name below its folder), for error messages
)

IMAGES = _table(
    "images",
    "A 224 x 224 picture for the model. `quarantine` says why a picture takes no part; empty if it does.",
    ("image_id",),
    image_id="int64",  # running index, in the order (split, place, direction, month newest first)
    place="int64",
    direction="int64",
    heading_deg="float64",
    date_index="int64",
    month="str",
    pano_id="str",
    split="str",
    subset="str",
    lat="float64",
    lon="float64",
    x="float64",
    y="float64",
    shard="str",  # path below the crops folder
    offset="int64",
    size="int64",
    sha256="str",  # of the JPEG
    phash="str",  # 64-bit perceptual hash (DCT), 16 hexadecimal digits
    luminance_mean="float64",  # 0-255
    luminance_std="float64",
    width="int64",
    height="int64",
    quarantine="str",  # reason, such as blank, duplicate_across_places, duplicate_across_splits
    provider="str",
    licence="str",
    attribution="str",
    source="str",
)

DESCRIPTORS = _table(
    "descriptors",
    "Row i describes row i of descriptors.npy. Query: the newest of its (place, direction); gallery: all older.",
    ("image_id",),
    image_id="int64",
    place="int64",
    direction="int64",
    month="str",
    split="str",
    subset="str",
    lat="float64",
    lon="float64",
    x="float64",
    y="float64",
    role="str",  # query or gallery
)

PREDICTIONS = _table(
    "predictions",
    "What one system answered to one query under one protocol of the evaluation.",
    ("system", "scope", "protocol", "image_id"),
    system="str",  # model or baseline
    scope="str",  # a split or one of its subsets: whose queries, and whose gallery unless the protocol says otherwise
    protocol="str",
    image_id="int64",  # of the query
    place="int64",
    direction="int64",
    month="str",
    split="str",
    subset="str",
    lat="float64",  # where the query was taken
    lon="float64",
    right_images="int64",  # gallery pictures within 25 m; none: the query takes no part in recall
    right_views="int64",  # gallery pictures of the same place and heading
    rank_25m="int64",  # rank of the first answer within so many metres, from 1; 0: not among the best 20
    rank_50m="int64",
    rank_100m="int64",
    rank_place_heading="int64",
    answer_id="int64",  # image_id of the first answer; -1 if the gallery is empty
    answer_place="int64",
    similarity="float64",  # of the first answer
    error_m="float64",  # from the query to the first answer
)

POSITIONS = _table(
    "positions",
    "Where one system says that a query was taken, by its best neighbours in the gallery of the whole city.",
    ("system", "split", "image_id"),
    system="str",
    split="str",
    image_id="int64",
    place="int64",
    answerable="bool",  # the gallery holds a picture within 25 m
    answered="bool",  # the neighbours agree enough to name a position
    lat="float64",  # the position predicted
    lon="float64",
    error_m="float64",
    radius_m="float64",  # holds the query with the stated coverage; NaN if there was too little to calibrate on
    similarity="float64",  # confidence scores: of the best neighbour,
    margin="float64",  # less that of the best one elsewhere,
    agreement="float64",  # share of the neighbours' weight at the predicted spot,
    spread_m="float64",  # and their root mean square distance from it
)

NEIGHBOURS = _table(
    "neighbours",
    "The model's best answers to a query, for looking at.",
    ("scope", "protocol", "image_id", "rank"),
    scope="str",
    protocol="str",
    image_id="int64",
    rank="int64",  # from 1
    neighbour_id="int64",
    similarity="float64",
    distance_m="float64",
)

TABLES = {
    t.name: t
    for t in (
        *(GRID, PANORAMAS, NO_COVERAGE, LOCATIONS, CAPTURES, IMAGES, DESCRIPTORS),
        *(PREDICTIONS, POSITIONS, NEIGHBOURS),
    )
}


def read(table: Table, path: str | Path) -> pd.DataFrame:
    """Read a table of this project; its columns must be those of ``table``.

    Raises:
        UserError: the file is missing, is not Parquet, or lacks a column.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"{path}: there is no such file; the stage that writes the table '{table.name}' has not run (dvc repro)"
        )
    try:
        frame = pq.read_table(path).to_pandas()  # not pandas.read_parquet: a GeoParquet's geometry stays bytes, cheaply
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); run the stage that writes it again") from error
    missing = [c for c in table.columns if c not in frame.columns]
    if missing:
        raise UserError(f"{path}: the table '{table.name}' lacks the columns {', '.join(missing)}")
    return frame[list(table.columns)]


def conform(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """Give ``frame`` the columns, types and row order of ``table``.

    Raises:
        UserError: a column is missing, holds a null where text or a whole number is due, or two rows share a key.
    """
    missing = [c for c in table.columns if c not in frame.columns]
    if missing:
        raise UserError(f"table '{table.name}' is to be written without the columns {', '.join(missing)}")
    frame = frame[list(table.columns)]
    for column, dtype in table.columns.items():
        if dtype != "float64" and frame[column].isna().any():
            where = frame.index[frame[column].isna()][0]
            raise UserError(f"table '{table.name}', column '{column}', row {where}: empty where a value is due")
    frame = frame.astype(table.columns).sort_values(list(table.key), kind="stable", ignore_index=True)
    double = frame.duplicated(list(table.key))
    if double.any():
        first = frame.loc[double, list(table.key)].iloc[0].to_dict()
        raise UserError(f"table '{table.name}': {int(double.sum())} rows repeat a key, the first is {first}")
    return frame


def write(table: Table, frame: pd.DataFrame, path: str | Path) -> Path:
    """Write ``frame`` as ``table``: same rows, same bytes; whole or not at all."""
    path = Path(path)
    schema = pa.Table.from_pandas(conform(table, frame), preserve_index=False).replace_schema_metadata(None)
    with whole(path) as partial:
        pq.write_table(schema, partial, compression="zstd")
    return path
