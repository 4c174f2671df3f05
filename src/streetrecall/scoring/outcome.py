"""The answers of one system under one protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.scoring.protocols import Protocol, positions, right_pairs
from streetrecall.scoring.ranking import Floats, Ints, Ranking
from streetrecall.scoring.recall import distances, first_hit
from streetrecall.tables import RADII_M


@dataclass(frozen=True)
class Outcome:
    """The answers of one system to the n queries of one protocol.

    ``queries`` (n rows) and ``gallery`` (m rows) have DESCRIPTORS columns; ``metres`` (n, k) is the distance from each
    query to its ranked answers, infinite where there is none; ``predictions`` (n rows) has PREDICTIONS columns.
    """

    protocol: Protocol
    queries: pd.DataFrame
    gallery: pd.DataFrame
    ranking: Ranking
    metres: Floats
    predictions: pd.DataFrame

    @property
    def place(self) -> Ints:
        """The place of each query (n,)."""
        return self.queries["place"].to_numpy(np.int64)

    @property
    def answerable(self) -> NDArray[np.bool_]:
        """Whether the gallery holds a right answer to each query (n,)."""
        return (self.predictions["right_images"] > 0).to_numpy()

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Whether each query counts in recall (n,): the answerable ones, or all by the rules of published numbers."""
        return np.ones(len(self.queries), bool) if self.protocol.as_published else self.answerable


def outcome(system: str, rows: pd.DataFrame, protocol: Protocol, ranking: Ranking) -> Outcome:
    """Compare the answers of ``system`` with the truth.

    ``rows`` is the table that the protocol chooses from; ``ranking`` holds row numbers of the protocol's gallery.
    """
    queries, gallery = rows.iloc[protocol.queries], rows.iloc[protocol.gallery]
    metres = distances(positions(queries), positions(gallery), ranking)
    place, direction = queries["place"].to_numpy(), queries["direction"].to_numpy()
    answer_place, answer_direction, answer_id = (
        _of_answers(gallery[column].to_numpy(), ranking.indices) for column in ("place", "direction", "image_id")
    )
    there = ranking.indices >= 0
    same_direction = there & (answer_place == place[:, None]) & (answer_direction == direction[:, None])
    query, answer = right_pairs(queries, gallery, protocol.as_published)
    pair_same_direction = (place[query] == gallery["place"].to_numpy()[answer]) & (
        direction[query] == gallery["direction"].to_numpy()[answer]
    )
    columns = ["image_id", "place", "direction", "month", "split", "subset", "lat", "lon"]
    predictions = queries[columns].assign(
        system=system,
        scope=protocol.scope,
        protocol=protocol.name,
        right_images=np.bincount(query, minlength=len(queries)),
        right_place_direction=np.bincount(query[pair_same_direction], minlength=len(queries)),
        **{f"rank_{radius}m": first_hit(metres <= radius) for radius in RADII_M},
        rank_place_direction=first_hit(same_direction),
        answer_id=answer_id[:, 0],
        answer_place=answer_place[:, 0],
        similarity=np.where(there[:, 0], ranking.similarities[:, 0], np.nan),
        error_m=np.where(there[:, 0], metres[:, 0], np.nan).round(2),
    )
    return Outcome(protocol, queries, gallery, ranking, metres, predictions.reset_index(drop=True))


def neighbours(result: Outcome, count: int) -> pd.DataFrame:
    """Rows of the NEIGHBOURS table: the first ``count`` answers to each query."""
    indices = result.ranking.indices[:, :count]
    query, rank = np.nonzero(indices >= 0)
    return pd.DataFrame(
        {
            "scope": result.protocol.scope,
            "protocol": result.protocol.name,
            "image_id": result.queries["image_id"].to_numpy()[query],
            "rank": rank + 1,
            "neighbour_id": result.gallery["image_id"].to_numpy()[indices[query, rank]],
            "similarity": result.ranking.similarities[query, rank],
            "distance_m": result.metres[query, rank].round(2),
        }
    )


def _of_answers(values: Ints, indices: Ints) -> Ints:
    """Values (m,) of the gallery rows ``indices`` (n, k); -1 where there is no row."""
    return np.where(indices >= 0, values[indices], -1) if len(values) else np.full(indices.shape, -1)
