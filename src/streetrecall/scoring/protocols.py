"""Who asks and who may answer: each protocol picks query and gallery rows of the descriptor table.

A scope is a split ("test") or one of its collections ("test_v1"). Whatever the protocol, a query is never answered by
a picture of its own place and month (`groups`): such a picture is of the same drive, and finding it proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.months import UNKNOWN, month_numbers
from streetrecall.scoring.ranking import Ints


@dataclass(frozen=True)
class Protocol:
    """A named choice of query and gallery rows (row numbers of the descriptor table, ascending)."""

    name: str
    scope: str
    queries: Ints
    gallery: Ints


def groups(rows: pd.DataFrame) -> Ints:
    """A number for each place and month.

    >>> groups(pd.DataFrame({"place": [4, 4, 5], "month": ["2015-01", "2015-01", "2015-01"]})).tolist()
    [424180, 424180, 524180]
    """
    return rows["place"].to_numpy(np.int64) * 100_000 + np.maximum(month_numbers(rows["month"]), 0)


def scopes(rows: pd.DataFrame, splits: list[str]) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Name, split and rows of each scope: every split, followed by its collections where these have names of their own.

    >>> rows = pd.DataFrame({"split": ["test", "test", "train"], "subset": ["test_v1", "test_v2", "train"]})
    >>> [name for name, _, _ in scopes(rows, ["train", "test"])]
    ['train', 'test', 'test_v1', 'test_v2']
    """
    out = []
    for split in splits:
        inside = (rows["split"] == split).to_numpy(bool)
        out.append((split, split, inside))
        own = sorted(set(rows["subset"][inside]) - {split})
        out += [(subset, split, inside & (rows["subset"] == subset).to_numpy(bool)) for subset in own]
    return out


def protocols(rows: pd.DataFrame, scope: str, inside: NDArray[np.bool_], before_year: int) -> list[Protocol]:
    """The protocols of one scope; ``inside`` (n,) marks its rows.

    - newest_vs_older: the newest picture of each place and heading asks, all older ones of the scope may answer;
    - newest_vs_oldest: only the oldest of each place and heading may answer;
    - newest_vs_before_YEAR: only those taken before that January;
    - city: the older pictures of all splits may answer, as they would in use;
    - leave_one_date_out: every picture asks, all other dates of the scope may answer.

    >>> rows = pd.DataFrame({"place": [1, 1, 1, 2], "direction": 0,
    ...                      "month": ["2022-05", "2016-07", "2009-08", "2011-01"],
    ...                      "role": ["query", "gallery", "gallery", "gallery"]})
    >>> for p in protocols(rows, "test", np.array([True, True, True, False]), 2015):
    ...     print(p.name, p.queries, p.gallery)
    newest_vs_older [0] [1 2]
    newest_vs_oldest [0] [2]
    newest_vs_before_2015 [0] [2]
    city [0] [1 2 3]
    leave_one_date_out [0 1 2] [0 1 2]
    """
    month = month_numbers(rows["month"])
    known = month != UNKNOWN
    older = (rows["role"] == "gallery").to_numpy(bool)
    view = [rows["place"].to_numpy(), rows["direction"].to_numpy()]
    earliest = pd.Series(np.where(known & older, month, np.iinfo(np.int64).max)).groupby(view).transform("min")
    queries = np.flatnonzero((rows["role"] == "query").to_numpy(bool) & inside)
    gallery = {
        "newest_vs_older": older & inside,
        "newest_vs_oldest": older & inside & (month == earliest.to_numpy()),
        f"newest_vs_before_{before_year}": older & inside & known & (month < before_year * 12),
        "city": older,
    }
    everything = np.flatnonzero(inside)
    return [
        *(Protocol(name, scope, queries, np.flatnonzero(mask)) for name, mask in gallery.items()),
        Protocol("leave_one_date_out", scope, everything, everything),
    ]
