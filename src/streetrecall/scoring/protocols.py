"""Protocols of the evaluation: which pictures are queries, which are the gallery, and what counts as a right answer.

A protocol is a choice of rows of one table, the table of all pictures that have a descriptor. To add a protocol, add a
line to `protocols`. All measures, curves and tables work for every protocol. A query need not be one of the crops: any
row can be a query, so other pictures, or several pictures that are described together, need rows of their own and a
value of the column ``role`` by which a protocol chooses them.

The rules are the same in every protocol:

- A picture of the query's own place and month is never an answer (`groups`). It was taken on the same drive, so finding
  it proves nothing.
- An answer is right if it was taken within 25 m of the query (`right_pairs`).
- A query counts in recall only if the gallery holds a right answer. The others are counted apart.

The protocol ``given`` follows the rules of published numbers instead: every picture of the database may answer, and
every query counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.months import UNKNOWN, month_numbers
from streetrecall.scoring.ranking import Floats, Ints
from streetrecall.scoring.recall import pairs_within
from streetrecall.tables import RIGHT_M, given_role

GIVEN = "given"
CALIBRATION, TEST = "validation", "test"  # radii are calibrated on the first split and checked on the second


@dataclass(frozen=True)
class Protocol:
    """A named choice of queries and gallery: row numbers of the table of described pictures, ascending.

    ``scope`` is a split ("test") or one of its subsets ("test_v1"): the queries are of this part, and so is the gallery
    unless the protocol says otherwise.
    """

    name: str
    scope: str
    queries: Ints
    gallery: Ints
    as_published: bool = False  # the rules of published numbers apply: nothing is left out, and every query counts


def protocols(rows: pd.DataFrame, scope: str, inside: NDArray[np.bool_], before_year: int) -> list[Protocol]:
    """The protocols of one scope; ``inside`` (n,) marks its rows, and ``rows`` has DESCRIPTORS columns.

    - newest_vs_older: the newest picture of each place and direction; the gallery is all older ones of the scope.
    - newest_vs_oldest: the same queries; the gallery is the oldest picture of each place and direction.
    - newest_vs_before_YEAR: the same queries; the gallery is what was taken before January of that year.
    - city: the same queries; the gallery is the older pictures of all splits, as in use.
    - leave_one_date_out: every picture; the gallery is the other dates of the scope.
    - given: the queries and the database that the collection states for the split, if it states both.

    A picture whose month is unknown is neither the oldest nor before a year.

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
    newest, older = (rows["role"] == "query").to_numpy(bool), (rows["role"] == "gallery").to_numpy(bool)
    month = month_numbers(rows["month"])
    known = month != UNKNOWN
    month_if_older = pd.Series(np.where(known & older, month, np.iinfo(np.int64).max))
    oldest = (
        month_if_older.groupby([rows["place"].to_numpy(), rows["direction"].to_numpy()]).transform("min").to_numpy()
    )
    queries = newest & inside
    chosen = {
        "newest_vs_older": (queries, older & inside),
        "newest_vs_oldest": (queries, older & inside & (month == oldest)),
        f"newest_vs_before_{before_year}": (queries, older & inside & known & (month < before_year * 12)),
        "city": (queries, older),
        "leave_one_date_out": ((newest | older) & inside, (newest | older) & inside),
    }
    found = [Protocol(name, scope, np.flatnonzero(q), np.flatnonzero(g)) for name, (q, g) in chosen.items()]
    if "subset" in rows:
        asks, answers = (inside & (rows["subset"] == f"{scope}_{r}").to_numpy(bool) for r in ("queries", "database"))
        if asks.any() and answers.any():
            found.append(Protocol(GIVEN, scope, np.flatnonzero(asks), np.flatnonzero(answers), as_published=True))
    return found


def scopes(rows: pd.DataFrame, splits: list[str]) -> dict[str, NDArray[np.bool_]]:
    """The rows of each scope: every split, followed by its subsets if they have other names than the split.

    >>> rows = pd.DataFrame({"split": ["test", "test", "train"], "subset": ["test_v1", "test_v2", "train"]})
    >>> list(scopes(rows, ["train", "test"]))
    ['train', 'test', 'test_v1', 'test_v2']
    """
    out = {}
    for split in splits:
        inside = (rows["split"] == split).to_numpy(bool)
        out[split] = inside
        subsets = rows["subset"][inside]
        for subset in sorted(set(subsets[given_role(subsets) == ""]) - {split}):
            out[subset] = inside & (rows["subset"] == subset).to_numpy(bool)
    return out


def perturbed_protocols(rows: pd.DataFrame, splits: list[str]) -> list[Protocol]:
    """The protocols of changed queries against the older pictures of the whole city, for each of ``splits``.

    There is a protocol for each change, and `perturbed` for all of them together. ``rows`` has DESCRIPTORS columns, and
    the roles of changed queries begin with "perturbed".

    >>> rows = pd.DataFrame({"split": "test", "role": ["gallery", "query", "perturbed_darkened", "perturbed_rolled"]})
    >>> for p in perturbed_protocols(rows, ["test"]):
    ...     print(p.name, p.queries, p.gallery)
    perturbed_darkened [2] [0]
    perturbed_rolled [3] [0]
    perturbed [2 3] [0]
    """
    role, split_of = rows["role"].to_numpy(str), rows["split"].to_numpy(str)
    older, changed = np.flatnonzero(role == "gallery"), np.char.startswith(role, "perturbed")
    return [
        Protocol(name, split, np.flatnonzero((split_of == split) & np.char.startswith(role, name)), older)
        for split in splits
        for name in [*sorted(set(role[changed])), "perturbed"]
    ]


def groups(rows: pd.DataFrame) -> Ints:
    """A number for each place and month: a picture never answers a query of its own group.

    >>> groups(pd.DataFrame({"place": [4, 4, 5], "month": ["2015-01", "2015-01", "2015-01"]})).tolist()
    [424180, 424180, 524180]
    """
    return rows["place"].to_numpy(np.int64) * 100_000 + np.maximum(month_numbers(rows["month"]), 0)


def positions(rows: pd.DataFrame) -> Floats:
    """Projected positions (n, 2) of pictures, metres."""
    return rows[["x", "y"]].to_numpy(np.float64)


def right_pairs(queries: pd.DataFrame, gallery: pd.DataFrame, as_published: bool = False) -> tuple[Ints, Ints]:
    """All pairs (query, right answer), as row numbers of ``queries`` and of ``gallery``, in order of the queries.

    ``as_published``: a picture of the query's own place and month may answer too.

    >>> queries = pd.DataFrame({"place": [1], "month": ["2022-05"], "x": [0.0], "y": [0.0]})
    >>> gallery = pd.DataFrame({"place": [1, 1, 2], "month": ["2022-05", "2016-07", "2016-07"], "x": [0.0, 20.0, 30.0],
    ...                         "y": [0.0, 0.0, 0.0]})
    >>> right_pairs(queries, gallery)
    (array([0]), array([1]))
    """
    query, answer = pairs_within(positions(queries), positions(gallery), RIGHT_M)
    if as_published:
        return query, answer
    allowed = groups(queries)[query] != groups(gallery)[answer]
    return query[allowed], answer[allowed]
