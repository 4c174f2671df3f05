import numpy as np
import pandas as pd
import pytest

from streetrecall.months import month_numbers
from streetrecall.scoring.protocols import groups, protocols


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two test places and a training one, two headings each, four dates; row i's role is in plain sight."""
    lines = []
    for place, split in ((1, "test"), (2, "test"), (3, "train")):
        for direction in (0, 1):
            for i, month in enumerate(["2022-05", "2017-07", "2014-12", "2009-08"]):
                lines.append((place, direction, month, split, "gallery" if i else "query"))
    return pd.DataFrame(lines, columns=["place", "direction", "month", "split", "role"])


def chosen(rows, year=2015):
    inside = (rows["split"] == "test").to_numpy()
    return {p.name: (rows.iloc[p.queries], rows.iloc[p.gallery]) for p in protocols(rows, "test", inside, year)}


def test_every_protocol_asks_and_answers_with_the_right_pictures(rows):
    found = chosen(rows)
    assert [*found] == ["newest_vs_older", "newest_vs_oldest", "newest_vs_before_2015", "city", "leave_one_date_out"]
    for name, (queries, gallery) in found.items():
        if name == "leave_one_date_out":
            assert len(queries) == len(gallery) == 16
        else:
            assert queries["month"].tolist() == ["2022-05"] * 4
            assert set(queries["split"]) == {"test"}
            assert "query" not in set(gallery["role"])
    assert set(found["newest_vs_older"][1]["split"]) == {"test"}
    assert found["newest_vs_oldest"][1]["month"].tolist() == ["2009-08"] * 4
    assert sorted(set(found["newest_vs_before_2015"][1]["month"])) == ["2009-08", "2014-12"]
    assert set(found["city"][1]["split"]) == {"test", "train"}


def test_the_year_names_the_protocol(rows):
    assert sorted(set(chosen(rows, 2010)["newest_vs_before_2010"][1]["month"])) == ["2009-08"]


def test_an_unknown_month_is_neither_oldest_nor_before_a_year(rows):
    rows.loc[rows["month"] == "2009-08", "month"] = ""
    found = chosen(rows)
    assert set(found["newest_vs_oldest"][1]["month"]) == {"2014-12"}
    assert set(found["newest_vs_before_2015"][1]["month"]) == {"2014-12"}
    assert "" in set(found["newest_vs_older"][1]["month"])


def test_headings_of_one_place_and_month_are_one_group(rows):
    assert len(np.unique(groups(rows))) == 12


def test_a_month_that_is_none_is_named():
    with pytest.raises(ValueError, match="2015-13"):
        month_numbers(pd.Series(["2015-01", "2015-13"]))
