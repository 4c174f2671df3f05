"""The rule of roles: one query for each (place, direction), the newest that is not quarantined."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from streetrecall.retrieval.rows import descriptor_rows
from streetrecall.tables import DESCRIPTORS, conform

row = st.tuples(
    st.integers(0, 3), st.integers(0, 3), st.sampled_from(["", "2010-08", "2017-07", "2023-03"]), st.integers(0, 9)
)


def images(rows: list[tuple[int, int, str, int]], quarantine: list[bool]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["place", "direction", "month", "date_index"])
    frame["image_id"] = np.arange(len(frame))
    frame["quarantine"] = ["blank" if q else "" for q in quarantine]
    return frame.assign(split="test", subset="test_v1", lat=59.3, lon=18.1, x=0.0, y=0.0)


@given(st.lists(st.tuples(row, st.booleans()), min_size=1, max_size=40))
def test_one_query_each_and_none_newer(drawn: list[tuple[tuple[int, int, str, int], bool]]) -> None:
    frame = images([r for r, _ in drawn], [q for _, q in drawn])
    kept = conform(DESCRIPTORS, descriptor_rows(frame))
    assert kept["image_id"].tolist() == frame.loc[frame["quarantine"] == "", "image_id"].tolist()
    for _, group in kept.groupby(["place", "direction"]):
        assert (group["role"] == "query").sum() == 1
        assert group.loc[group["role"] == "query", "month"].item() == group["month"].max()


def test_two_of_the_newest_month_take_the_smaller_date_index() -> None:
    frame = images([(1, 0, "2023-03", 1), (1, 0, "2023-03", 0), (1, 0, "2010-08", 2)], [False] * 3)
    assert descriptor_rows(frame)["role"].tolist() == ["gallery", "query", "gallery"]


def test_all_quarantined_leaves_nothing() -> None:
    assert descriptor_rows(images([(1, 0, "2023-03", 0)], [True])).empty
