"""The tables that stages pass to each other: their columns, and the only code that reads and writes them.

Every table is a Parquet file. Months are text ``YYYY-MM``. Positions are WGS 84 degrees (EPSG:4326) in ``lat`` and
``lon``; projected positions are metres in ``x`` (east) and ``y`` (north), in the CRS ``city.crs`` of params.yaml. Text
is never null: it is empty where a value is unknown or does not apply.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from streetrecall.errors import UserError
from streetrecall.files import whole

PHOTOS_OF_A_SPOT = 3  # they are asked with singly and together
SAME_MONTH_M = 60.0  # panoramas of one month so near to each other may show the same day
# The values of K and the radii define the published numbers, so they are constants and not parameters.
RADII_M = (25, 50, 100)  # an answer is right if it was taken within this distance of its query
RIGHT_M = RADII_M[0]  # the radius of the standard, metres
KS = (1, 5, 10, 20)  # recall at K
# Places of split gallery come last, so that more of them change no row before.
SPLITS = ("train", "validation", "test", "gallery")
TRAINING_SPLITS = SPLITS[:2]  # what a training and the choice of its best epoch see


class CaptureStatus(StrEnum):
    """The result of asking a provider for a picture."""

    OK = "ok"
    BLANK = "blank"  # there is a picture, and it is near-black
    GONE = "gone"  # the provider no longer has the picture
    FAILED = "failed"  # there is no picture; the reason says why


class Projection(StrEnum):
    """How the directions of the world lie in a picture."""

    PERSPECTIVE = "perspective"  # of an upright camera: vertical lines are vertical
    EQUIRECTANGULAR = "equirectangular"  # the whole sphere; columns are azimuths and rows are elevations


class Use(StrEnum):
    """What a view is for."""

    GALLERY = "gallery"
    TRAIN = "train"


WITH_PICTURE = (CaptureStatus.OK, CaptureStatus.BLANK)


@dataclass(frozen=True)
class Table:
    """Name, columns (name -> pandas dtype), and key: the columns that identify a row. Rows are sorted by the key.

    Columns in ``optional`` are written where there are any, and read where they were written.
    """

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    doc: str
    optional: dict[str, str] = field(default_factory=dict)

    def present(self, frame: pd.DataFrame) -> dict[str, str]:
        """The columns of this table in ``frame``."""
        return self.columns | {name: dtype for name, dtype in self.optional.items() if name in frame.columns}


def _table(name: str, doc: str, key: tuple[str, ...], **columns: str) -> Table:
    return Table(name, columns, key, doc)


GRID = _table(
    "grid",
    "The points of the city's grid, in scan order. The file is GeoParquet, with a point geometry.",
    ("point_id",),
    point_id="int64",  # 0, 1, 2, ... in scan order
    lat="float64",
    lon="float64",
)

PANORAMAS = _table(
    "panoramas",
    "The panoramas found near the grid points. A panorama that several points found is listed with the nearest one.",
    ("pano_id",),
    pano_id="str",
    lat="float64",
    lon="float64",
    month="str",  # empty if the provider does not say
    point_id="int64",
    offset_m="float64",  # geodesic distance from the grid point
    beyond="bool",  # found from no grid point, but from points beyond the grid; it may only be in the gallery
    provider="str",
    licence="str",
    attribution="str",
)
PANORAMAS = replace(PANORAMAS, optional={"split": "str"})  # where the collection states the split of each place

NO_COVERAGE = _table(
    "no_coverage",
    "The grid points for which the provider was asked and has no panorama.",
    ("point_id",),
    point_id="int64",
    lat="float64",
    lon="float64",
    status="str",  # the provider's own word
)

LOCATIONS = _table(
    "locations",
    "The places to collect, chosen by levels of shrinking radius.",
    ("place",),
    place="int64",  # 0, 1, 2, ... over all levels, in the order of choice
    rank="int64",  # of the panorama, from 0, by distance to the start point
    pano_id="str",
    lat="float64",
    lon="float64",
    x="float64",
    y="float64",
    month="str",
    start_distance_m="float64",
    radius_m="float64",  # of its level
    level="int64",  # 0 has the largest radius
    split="str",  # train, validation, test or gallery
)

CAPTURES = _table(
    "captures",
    "The captures that were requested: one row for each place, panorama and direction, with or without a picture.",
    ("place", "direction", "month", "pano_id"),
    place="int64",
    direction="int64",  # 0-3: quarter turns from the place's first heading; 0 if equirectangular
    heading_deg="float64",  # of the middle column, clockwise from north; NaN if unknown (archive)
    projection="str",  # a Projection
    fov_deg="float64",  # from the left edge to the right one; NaN if unknown
    horizon="float64",  # share of the height above the horizon; NaN if unknown
    date_index="int64",  # 0 is the newest date of the place
    month="str",
    pano_id="str",
    split="str",
    subset="str",  # part of the split, such as test_v1
    lat="float64",
    lon="float64",
    status="str",  # a CaptureStatus
    reason="str",  # why the status is not ok
    shard="str",  # path below the captures folder; empty unless ok or blank
    offset="int64",  # of the first byte in the shard; -1 if there is no picture
    size="int64",  # bytes
    sha256="str",
    width="int64",
    height="int64",
    format="str",  # JPEG or PNG
    provider="str",
    licence="str",
    attribution="str",
    source="str",  # for error messages: the file in an archive that it came from
)

IMAGES = _table(
    "images",
    "The pictures that the network sees. `quarantine` is the reason why a picture is kept out, or empty.",
    ("image_id",),
    image_id="int64",  # 0, 1, 2, ... ordered by split, place, direction, and month from the newest
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
    quarantine="str",  # one of pictures.quarantine.REASONS, or empty
    provider="str",
    licence="str",
    attribution="str",
    source="str",
)

VIEWS = _table(
    "views",
    "The views cut from the captures, of any direction: those of the gallery, and random ones to train on.",
    ("view_id",),
    view_id="int64",  # 0, 1, 2, ... ordered by split (as SPLITS), use, place, date from the newest, and heading
    use="str",  # a Use
    place="int64",
    pano_id="str",
    month="str",
    split="str",
    subset="str",
    lat="float64",  # of the panorama
    lon="float64",
    x="float64",
    y="float64",
    heading_deg="float64",  # of the middle, clockwise from north
    fov_deg="float64",  # of the longer side
    shard="str",  # path below the views folder
    offset="int64",
    size="int64",
    sha256="str",
    width="int64",
    height="int64",
    provider="str",
    licence="str",
    attribution="str",
)

PHOTOS = _table(
    "photos",
    "Photos as people take them, with their true positions, to ask with.",
    ("photo_id",),
    photo_id="int64",  # 0, 1, 2, ... those near places of validation first, then of test, then all others; by spot
    spot="int64",  # where the photographer stood; each spot has several photos
    split="str",  # validation or test
    month="str",
    lat="float64",  # of the camera
    lon="float64",
    x="float64",
    y="float64",
    heading_deg="float64",  # of the middle, clockwise from north
    fov_deg="float64",  # of the longer side
    pitch_deg="float64",  # positive: the camera looked up
    roll_deg="float64",  # positive: the camera was turned clockwise
    height_m="float64",  # of the camera above the ground
    width="int64",
    height="int64",
    near="bool",  # a panorama of the gallery lies within 25 m, so the photo can be answered
    distance_m="float64",  # to the nearest panorama of the gallery
    angle_deg="float64",  # between the photo's heading and the nearest one of the gallery there
    shard="str",  # path below the photos folder
    offset="int64",
    size="int64",
    sha256="str",
    provider="str",
    licence="str",
    attribution="str",
)

DESCRIPTORS = _table(
    "descriptors",
    "The pictures that have a descriptor: row i is row i of descriptors.npy.",
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
    role="str",  # query: the newest picture of its place and direction; gallery: every other
)

PREDICTIONS = _table(
    "predictions",
    "The answers of each system to each query under each protocol of the evaluation.",
    ("system", "scope", "protocol", "image_id"),
    system="str",  # model or baseline
    scope="str",  # a split or one of its subsets; see scoring.protocols
    protocol="str",
    image_id="int64",  # of the query
    place="int64",
    direction="int64",
    month="str",
    split="str",
    subset="str",
    lat="float64",  # position of the query
    lon="float64",
    right_images="int64",  # right answers in the gallery (within 25 m); if 0, recall leaves the query out
    right_place_direction="int64",  # those of the same place and direction
    rank_25m="int64",  # rank, from 1, of the first answer within 25 m; 0 if none of the best 20 is
    rank_50m="int64",
    rank_100m="int64",
    rank_place_direction="int64",  # rank of the first answer of the same place and direction
    answer_id="int64",  # image_id of the first answer; -1 if there is no answer
    answer_place="int64",
    similarity="float64",  # of the first answer
    error_m="float64",  # distance from the query to the first answer
)

POSITIONS = _table(
    "positions",
    "The position that each system predicts for each query, from its best neighbours in the gallery of the whole city.",
    ("system", "split", "image_id"),
    system="str",
    split="str",
    image_id="int64",
    place="int64",
    answerable="bool",  # the gallery holds a right answer
    answered="bool",  # the neighbours agree enough for an answer; otherwise it is withheld
    lat="float64",  # predicted position
    lon="float64",
    error_m="float64",  # distance between the predicted and the true position
    radius_m="float64",  # contains the true position with the stated coverage; NaN: too few queries to calibrate
    similarity="float64",  # confidence: similarity of the best neighbour
    margin="float64",  # confidence: similarity of the best neighbour minus that of the best one elsewhere
    agreement="float64",  # confidence: share of the neighbours' weight at the predicted position
    spread_m="float64",  # root mean square distance of the neighbours from it; smaller is more confident
)

PHOTO_ANSWERS = _table(
    "photo_answers",
    "The model's answer to each photo, and to all photos of a spot together.",
    ("protocol", "split", "query"),
    protocol="str",  # photos or photos_three
    split="str",
    query="int64",  # photo_id, or the spot where its photos are asked together
    spot="int64",
    month="str",
    lat="float64",  # true position
    lon="float64",
    distance_m="float64",  # to the nearest place of the gallery that may answer
    angle_deg="float64",  # to the nearest direction of the gallery there; NaN for several photos
    fov_deg="float64",  # NaN for several photos
    answerable="bool",  # a place of the gallery that may answer lies within 25 m
    rank_25m="int64",  # rank, from 1, of the first place within 25 m; 0 if none of the best 20 is
    rank_50m="int64",
    rank_100m="int64",
    answer_place="int64",  # -1 if there is no answer
    error_m="float64",  # distance from the photo to the first answer
    score="float64",  # confidence: of the first answer
    margin="float64",  # confidence: score of the first answer minus that of the best one elsewhere
    inliers="int64",  # confidence: point matches of the first answer that agree; the mean for several photos
    answered="bool",  # the confidence is above the threshold; otherwise the answer is withheld
    position_lat="float64",  # predicted from the best places
    position_lon="float64",
    position_error_m="float64",
    radius_m="float64",  # contains the true position with the stated coverage; NaN: too few photos to calibrate
)

NEIGHBOURS = _table(
    "neighbours",
    "The model's best answers to a query, for contact sheets.",
    ("scope", "protocol", "image_id", "rank"),
    scope="str",
    protocol="str",
    image_id="int64",
    rank="int64",  # from 1
    neighbour_id="int64",
    similarity="float64",
    distance_m="float64",  # from the query
)

TABLES = {
    t.name: t
    for t in (
        *(GRID, PANORAMAS, NO_COVERAGE, LOCATIONS, CAPTURES, IMAGES, VIEWS, PHOTOS, DESCRIPTORS),
        *(PREDICTIONS, POSITIONS, PHOTO_ANSWERS, NEIGHBOURS),
    )
}


def for_crops(captures: pd.DataFrame) -> pd.Series:
    """Which rows of CAPTURES the stage crop makes pictures of: frames, and not those of places that only answer."""
    return (captures["projection"] == Projection.PERSPECTIVE) & (captures["split"] != "gallery")


def given_role(subset: pd.Series) -> pd.Series:
    """What the pictures of each subset do where the collection says so: ``queries``, ``database`` or the empty string.

    >>> given_role(pd.Series(["test_queries", "test_database", "test_v1"])).tolist()
    ['queries', 'database', '']
    """
    role = subset.astype(str).map(lambda name: name.rpartition("_")[2])  # str.rpartition has no columns if it is empty
    return role.where(role.isin(["queries", "database"]), "")


def read(table: Table, path: str | Path) -> pd.DataFrame:
    """Read a table of this project; its columns must be those of ``table``.

    Raises:
        UserError: the file is missing, is not Parquet, or lacks a column.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"{path}: there is no such file; run the stage that writes the table '{table.name}' (dvc repro)"
        )
    if not path.is_file():  # PyArrow takes a folder for a table of many files
        raise UserError(f"{path}: not a regular file; name the table '{table.name}', a Parquet file")
    try:
        frame = pq.read_table(path).to_pandas()  # unlike pandas.read_parquet, leaves a geometry as bytes
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); run the stage that writes it again") from error
    missing = [c for c in table.columns if c not in frame.columns]
    if missing:
        raise UserError(f"{path}: the table '{table.name}' lacks the columns {', '.join(missing)}")
    return frame[list(table.present(frame))]


def conform(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """Give ``frame`` the columns, types and row order of ``table``.

    Raises:
        UserError: a column is missing, text or a whole number is null, or two rows have the same key.
    """
    missing = [c for c in table.columns if c not in frame.columns]
    if missing:
        raise UserError(f"table '{table.name}' cannot be written without the columns {', '.join(missing)}")
    columns = table.present(frame)
    frame = frame[list(columns)]
    for column, dtype in columns.items():
        if dtype != "float64" and frame[column].isna().any():
            where = frame.index[frame[column].isna()][0]
            raise UserError(f"table '{table.name}', column '{column}', row {where}: the value is missing")
    frame = frame.astype(columns).sort_values(list(table.key), kind="stable", ignore_index=True)
    double = frame.duplicated(list(table.key))
    if double.any():
        first = frame.loc[double, list(table.key)].iloc[0].to_dict()
        raise UserError(f"table '{table.name}': {int(double.sum())} rows repeat a key, the first is {first}")
    return frame


def write(table: Table, frame: pd.DataFrame, path: str | Path) -> Path:
    """Write ``frame`` as ``table``. The same rows give the same bytes, and a failure leaves the old file as it was."""
    path = Path(path)
    schema = pa.Table.from_pandas(conform(table, frame), preserve_index=False).replace_schema_metadata(None)
    with whole(path) as partial:
        pq.write_table(schema, partial, compression="zstd")
    return path
