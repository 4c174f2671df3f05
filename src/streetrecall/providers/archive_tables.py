"""The tables of a collection in the original layout (docs/archive.md), whose values are checked line by line."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd

from streetrecall import months
from streetrecall.errors import UserError
from streetrecall.params import document
from streetrecall.providers.folders import UnreadableError, opened, printable

log = logging.getLogger(__name__)

LEVELS = Path("data_collection_process/create_ordered_locations_based_on_buffers/buffer_csvs")
LEVEL_FILES = "new_order_buffer_*.csv"
GAPS = Path("data_collection_process/filter_for_actual_GSV_locations_using_google_api/csvs/no_response_locations.csv")

_LOCATION = r"\s*(-?\d+(?:\.\d*)?)\s*,\s*(-?\d+(?:\.\d*)?)\s*"
_NUMBERS = {"Latitude", "Longitude"}  # columns that are not text
# Decimals of a degree (0.1 mm) by which grid points and recorded points are compared.
_DECIMALS = 9


def read_places(root: Path) -> pd.DataFrame:
    """One row per place: ``new_order_idx, Location, Copyright, Date, Latitude, Longitude, PanoID``.

    Raises:
        UserError: a table is missing or unreadable, or a value is not allowed.
    """
    files = sorted((root / LEVELS).glob(LEVEL_FILES))
    if not files:
        raise UserError(f"{root / LEVELS}: holds no {LEVEL_FILES} (docs/archive.md)")
    for path in files:
        if printable(str(path)) != str(path):
            raise UserError(f"{printable(str(path))}: this name cannot be printed; rename the file")
    columns = ["new_order_idx", "Location", "Copyright", "Date", "Latitude", "Longitude", "PanoID"]
    places = pd.concat([_read_csv(path, columns) for path in files], ignore_index=True)
    places["new_order_idx"] = places["new_order_idx"].astype("int64")
    for column in ("new_order_idx", "PanoID"):
        double = places.duplicated(column)
        if double.any():
            second = places[double].iloc[0]
            raise UserError(f"{_where(second)}: {column} {second[column]} occurs twice in {root / LEVELS}")
    return places


def read_gaps(root: Path) -> pd.DataFrame:
    """One row per point without imagery: ``Location``. Empty, with a warning, if there is no such table.

    Raises:
        UserError: the table is unreadable, or a value is not allowed.
    """
    path = root / GAPS
    if not os.path.lexists(path):
        log.warning("%s: there is no such file: points without imagery count as never asked", path)
        return pd.DataFrame({"Location": pd.Series(dtype=str), "file": "", "row": 0})
    return _read_csv(path, ["Location"])


def asked_points(table: pd.DataFrame) -> list[tuple[float, float]]:
    """The grid points that were asked, as keys: latitude and longitude."""
    parts = table["Location"].str.extract(_LOCATION)
    return point_keys(parts[0].astype(float), parts[1].astype(float))


def point_keys(lat: pd.Series, lon: pd.Series) -> list[tuple[float, float]]:
    return list(zip(lat.round(_DECIMALS).tolist(), lon.round(_DECIMALS).tolist(), strict=True))


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Columns of a table of the collection, and ``file`` and ``row``, which say where each row is.

    Raises:
        UserError: the table is unreadable, or a value is not allowed; the message names file and line.
    """
    try:
        with opened(path) as file:
            data = file.read()
        document.decode(data, str(path))
        table = pd.read_csv(
            io.BytesIO(data),
            usecols=columns,
            dtype=str,
            index_col=False,
            keep_default_na=False,  # NA is a text
        )
    except UnreadableError as error:
        raise UserError(f"{path}: {error}") from error
    except ValueError as error:  # ParserError and the like are ValueErrors
        raise UserError(f"{path}: not a readable table with the columns {', '.join(columns)} ({error})") from error
    table = table.assign(file=str(path), row=range(len(table)))
    for column in columns:
        table[column] = table[column].fillna("").str.strip()
    if "Copyright" in columns:
        table["Copyright"] = table["Copyright"].str.replace(r"[\t\r\n]+", " ", regex=True)
    needed = [c for c in columns if c not in ("Date", "Copyright")]
    holes = (table[needed] == "").any(axis=1)
    if holes.any():
        raise UserError(f"{_where(table[holes].iloc[0])} lacks one of {', '.join(needed)}")
    for column, (allowed, rule) in _ALLOWED.items():
        if column in columns:
            wrong = table[~allowed(table[column]).astype(bool)]
            if len(wrong):
                row = wrong.iloc[0]
                value = printable(str(row[column]))
                raise UserError(f"{_where(row)}: {column} '{value}' is not {rule} (docs/archive.md)")
    for column in _NUMBERS & set(columns):
        table[column] = pd.to_numeric(table[column]).astype("float64")
    return table


def _between(low: float, high: float) -> Callable[[pd.Series], pd.Series]:
    return lambda column: pd.to_numeric(column, errors="coerce").between(low, high)


# The values that the tables may hold, by column (docs/archive.md).
_ALLOWED: dict[str, tuple[Callable[[pd.Series], pd.Series], str]] = {
    "new_order_idx": (lambda column: column.str.fullmatch("[0-9]{1,9}"), "a whole number"),
    "PanoID": (lambda column: column.map(str.isprintable), "a text that can be printed"),
    "Location": (lambda column: column.str.fullmatch(_LOCATION), "'latitude, longitude'"),
    "Copyright": (
        lambda column: (column != "") & ~column.str.contains(r"[\x00-\x1f\x7f-\x9f]"),
        "the name of the pictures' owner, without control characters; write 'unknown' if it is not known",
    ),
    "Date": (lambda column: (column == "") | column.str.fullmatch(months.PATTERN), "a month as YYYY-MM, or empty"),
    "Latitude": (_between(-90, 90), "a number between -90 and 90"),
    "Longitude": (_between(-180, 180), "a number between -180 and 180"),
}


def _where(row: pd.Series) -> str:
    """File and line of a row of `_read_csv`."""
    end, number = 0, -1  # the last line of a record, and the number of its row; that of the header is -1
    with suppress(csv.Error), Path(row["file"]).open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        for fields in lines:
            start, end = end + 1, lines.line_num
            if fields and number == row["row"]:
                return f"{row['file']}: line {start}"
            number += bool(fields)
    return f"{row['file']}: row {row['row'] + 1}"
