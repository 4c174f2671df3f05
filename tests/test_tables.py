"""Tables: the same rows give the same bytes, a failure keeps the old file, and errors name the fault."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from streetrecall import tables
from streetrecall.errors import UserError


@pytest.fixture
def gaps() -> pd.DataFrame:
    return pd.DataFrame({"point_id": [3, 1], "lat": [59.1, 59.2], "lon": [18.1, 18.2], "status": ["ZERO_RESULTS", ""]})


def test_round_trip_sorts_by_key_and_repeats_to_the_byte(tmp_path: Path, gaps: pd.DataFrame) -> None:
    one = tables.write(tables.NO_COVERAGE, gaps, tmp_path / "deep" / "one.parquet")
    two = tables.write(tables.NO_COVERAGE, gaps.iloc[::-1], tmp_path / "two.parquet")
    assert one.read_bytes() == two.read_bytes()
    back = tables.read(tables.NO_COVERAGE, one)
    assert back["point_id"].tolist() == [1, 3]
    assert list(back) == list(tables.NO_COVERAGE.columns)
    assert [p.name for p in one.parent.iterdir()] == ["one.parquet"]


def test_a_table_that_cannot_be_written_keeps_the_old_file(tmp_path: Path, gaps: pd.DataFrame) -> None:
    path = tables.write(tables.NO_COVERAGE, gaps, tmp_path / "t.parquet")
    good = path.read_bytes()
    with pytest.raises(UserError, match="without the columns status"):
        tables.write(tables.NO_COVERAGE, gaps.drop(columns="status"), path)
    with pytest.raises(UserError, match="column 'status', row 1"):
        tables.write(tables.NO_COVERAGE, gaps.assign(status=["x", None]), path)
    with pytest.raises(UserError, match="1 rows repeat a key"):
        tables.write(tables.NO_COVERAGE, gaps.assign(point_id=1), path)
    assert path.read_bytes() == good


def test_a_table_that_cannot_be_read_says_what_to_do(tmp_path: Path, gaps: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="dvc repro"):
        tables.read(tables.GRID, tmp_path / "none.parquet")
    junk = tmp_path / "junk.parquet"
    junk.write_bytes(b"not a table")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        tables.read(tables.GRID, junk)
    other = tables.write(tables.NO_COVERAGE, gaps, tmp_path / "t.parquet")
    with pytest.raises(UserError, match="lacks the columns pano_id"):
        tables.read(tables.PANORAMAS, other)


def test_every_key_is_a_column_and_every_column_has_a_type() -> None:
    for table in tables.TABLES.values():
        assert set(table.key) <= set(table.columns)
        assert set(table.columns.values()) <= {"int64", "float64", "bool", "str"}
