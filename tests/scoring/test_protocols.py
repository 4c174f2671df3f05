import numpy as np
import pandas as pd
import pytest

from streetrecall.months import month_numbers
from streetrecall.scoring.protocols import groups, protocols, right_pairs


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two test places and a training place, two directions each, four dates."""
    lines = []
    for place, split in ((1, "test"), (2, "test"), (3, "train")):
        for direction in (0, 1):
            for i, month in enumerate(["2022-05", "2017-07", "2014-12", "2009-08"]):
                lines.append((place, direction, month, split, "gallery" if i else "query"))
    return pd.DataFrame(lines, columns=["place", "direction", "month", "split", "role"])


def chosen(rows, year=2015):
    inside = (rows["split"] == "test").to_numpy()
    return {p.name: (rows.iloc[p.queries], rows.iloc[p.gallery]) for p in protocols(rows, "test", inside, year)}


def test_queries_and_gallery_of_every_protocol(rows):
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


def test_directions_of_one_place_and_month_are_one_group(rows):
    assert len(np.unique(groups(rows))) == 12


def test_a_text_that_is_not_a_month_is_named():
    with pytest.raises(ValueError, match="2015-13"):
        month_numbers(pd.Series(["2015-01", "2015-13"]))


def test_pictures_of_another_role_are_in_no_protocol(rows):
    other = rows.assign(role=np.where(rows["month"] == "2017-07", "photo", rows["role"]))
    for queries, gallery in chosen(other).values():
        assert "photo" not in {*queries["role"], *gallery["role"]}


def test_right_pairs_agree_with_a_loop():
    rng = np.random.default_rng(5)
    queries, gallery = (
        pd.DataFrame({"place": rng.integers(0, 4, n), "month": rng.choice(["2010-01", "2011-01"], n)}) for n in (12, 30)
    )
    for table in (queries, gallery):
        table["x"], table["y"] = table["place"] * 20.0 + rng.uniform(-9, 9, len(table)), 0.0
    expected = [
        (i, j)
        for i, q in queries.iterrows()
        for j, g in gallery.iterrows()
        if abs(q["x"] - g["x"]) <= 25 and (q["place"], q["month"]) != (g["place"], g["month"])
    ]
    query, answer = right_pairs(queries, gallery)
    assert sorted(zip(query.tolist(), answer.tolist(), strict=True)) == expected
    assert (np.diff(query) >= 0).all()
