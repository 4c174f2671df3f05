"""Which pictures are queries and which are gallery. Training, index, baseline and checks all use this rule."""

from __future__ import annotations

import pandas as pd

from streetrecall.tables import DESCRIPTORS

QUERY = "query"
GALLERY = "gallery"


def descriptor_rows(images: pd.DataFrame) -> pd.DataFrame:
    """Rows of the DESCRIPTORS table for ``images`` (IMAGES columns): those without quarantine, in image_id order.

    Of each (place, direction) the picture of the newest month is the query, and all others are gallery. If two pictures
    have that month (two panoramas of one month), the one with the smaller date index is the query, then the one with
    the smaller image_id; the evaluation does not let the other one answer that query. A picture of unknown month is a
    query only if its (place, direction) has no other month.

    >>> images = pd.DataFrame({"image_id": [0, 1, 2], "place": 7, "direction": 0, "date_index": [0, 1, 2],
    ...     "month": ["2023-03", "2017-07", "2010-08"], "split": "test", "subset": "test_v1",
    ...     "lat": 59.3, "lon": 18.1, "x": 0.0, "y": 0.0, "quarantine": ["blank", "", ""]})
    >>> descriptor_rows(images)[["image_id", "role"]].values.tolist()
    [[1, 'query'], [2, 'gallery']]
    """
    rows = images[images["quarantine"] == ""].sort_values("image_id", ignore_index=True)
    newest_first = rows.sort_values(
        ["place", "direction", "month", "date_index", "image_id"], ascending=[True, True, False, True, True]
    )
    newest = newest_first.drop_duplicates(["place", "direction"]).index
    rows["role"] = GALLERY
    rows.loc[newest, "role"] = QUERY
    return rows[list(DESCRIPTORS.columns)]
