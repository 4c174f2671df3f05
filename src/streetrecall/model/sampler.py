"""P x K batches: P (place, direction) groups, of each K pictures of different dates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.months import month_numbers
from streetrecall.params.schema import Batch
from streetrecall.retrieval import exact as search

Ints = NDArray[np.int64]
UPDATED_AT_ONCE = 512  # groups whose confusions are searched together: those of a city do not fit into memory at once


@dataclass
class Sampler:
    """Draws batches of row numbers of ``images`` (train, without quarantine; columns place, direction, month, x, y).

    - A group is the pictures of one place and direction. A batch holds ``places`` groups, each of another place, so
      that each picture has negatives. If there are fewer places, a batch holds one group of each.
    - A group gives ``images`` pictures to a batch. The first is drawn evenly, each further one with a chance
      proportional to ``1 + gap_weight x years`` between it and the first. They are of different months as far as there
      are enough months, and different pictures as far as there are enough pictures; then pictures repeat (a picture is
      not compared with itself).
    - A group with a single picture or a single known month is left out, because it shows no change.
    - A picture of unknown month counts as a month of its own, with no time between it and any other.
    - ``hard_share`` of the groups in a batch are drawn by `confusions`: such a group is the one that the model confuses
      most with an earlier group of the batch. Groups within ``guard_m`` of each other are never drawn as confusions,
      since `losses.masks` does not take them as negatives.
    - The batches of an epoch depend on ``seed``, the number of the epoch and the confusions alone. So a resumed run
      draws the same batches as a run without interruption.

    Raises:
        UserError: fewer than two places have two dates of one heading, or all places are within the guard.
    """

    images: pd.DataFrame
    batch: Batch
    seed: int
    group: Ints = field(init=False)  # (rows,) group of each row, -1 if left out
    groups: list[Ints] = field(init=False)  # rows of each group
    group_place: Ints = field(init=False)
    confusions: Ints = field(init=False)  # (groups, n): the groups that each is confused with; -1: no more

    def __post_init__(self) -> None:
        self.month = month_numbers(self.images["month"])
        self.month = np.where(self.month < 0, -1 - np.arange(len(self.month)), self.month)
        self.groups, places = [], []
        self.group = np.full(len(self.images), -1, np.int64)
        position = pd.Series(np.arange(len(self.images)))
        place, direction = self.images["place"].to_numpy(), self.images["direction"].to_numpy()
        for (where, _), rows in position.groupby([place, direction], sort=True):
            members = rows.to_numpy(np.int64)
            known = self.month[members]
            if len(np.unique(known[known >= 0])) > 1:
                self.group[members] = len(self.groups)
                self.groups.append(members)
                places.append(where)
        self.group_place = np.asarray(places, np.int64)
        self.place_groups = {p: np.flatnonzero(self.group_place == p) for p in np.unique(self.group_place)}
        if len(self.place_groups) < 2:
            raise UserError(
                f"the training split has {len(self.place_groups)} places with two dates of one heading, and training "
                "needs at least two; collect more, or give a level of order.levels to the split train"
            )
        self.xy = self.images[["x", "y"]].to_numpy(float)[[g[0] for g in self.groups]]
        guard, wide = self.batch.guard_m, np.ptp(self.xy, axis=0).max()
        if wide <= guard and all(np.hypot(*(self.xy - one).T).max() <= guard for one in self.xy):
            raise UserError(
                f"no two training places are farther apart than train.batch.guard_m, {guard:g} m, so there are no "
                "negative pairs to learn from: lower it, or collect more places"
            )
        self.confusions = np.full((len(self.groups), 1), -1, np.int64)

    @property
    def batch_size(self) -> int:
        return min(self.batch.places, len(self.place_groups)) * self.batch.images

    def epoch(self, number: int, steps: int) -> Ints:
        """Rows of each batch of an epoch, (steps, batch size). The pictures of a group are next to each other."""
        rng = np.random.default_rng((self.seed, number))
        return np.stack([self._batch(rng) for _ in range(steps)])

    def _batch(self, rng: np.random.Generator) -> Ints:
        wanted = min(self.batch.places, len(self.place_groups))
        hard = min(int(wanted * self.batch.hard_share), wanted - 1)  # at least one group is drawn evenly
        places = rng.permutation(self.group_place[np.unique(self.group_place, return_index=True)[1]])
        chosen: list[int] = []
        taken: set[int] = set()
        for place in places:
            if len(chosen) >= wanted - hard:
                break
            chosen.append(int(rng.choice(self.place_groups[place])))
            taken.add(int(place))
        for turn in range(hard):
            near = self.confusions[chosen[turn % len(chosen)]]
            free = [g for g in near if g >= 0 and int(self.group_place[g]) not in taken]
            if free:
                chosen.append(int(free[0]))
            else:
                place = next(p for p in places if int(p) not in taken)
                chosen.append(int(rng.choice(self.place_groups[place])))
            taken.add(int(self.group_place[chosen[-1]]))
        return np.concatenate([self._pictures(rng, self.groups[g]) for g in chosen])

    def _pictures(self, rng: np.random.Generator, rows: Ints) -> Ints:
        picked = [int(rng.choice(rows))]
        month, first = self.month[rows], self.month[picked[0]]
        years = np.where((month >= 0) & (first >= 0), np.abs(month - first), 0) / 12.0
        weight = 1.0 + self.batch.gap_weight * years
        while len(picked) < self.batch.images:
            new_month = ~np.isin(month, self.month[picked])
            unused = ~np.isin(rows, picked)
            allowed = new_month if new_month.any() else unused if unused.any() else np.ones(len(rows), bool)
            chance = np.where(allowed, weight, 0.0)
            picked.append(int(rng.choice(rows, p=chance / chance.sum())))
        return np.asarray(picked, np.int64)

    def first_and_last(self) -> Ints:
        """Rows of the oldest and the newest picture with a known month of each group, ascending."""
        known = [group[self.month[group] >= 0] for group in self.groups]
        ordered = [group[np.argsort(self.month[group], kind="stable")] for group in known]
        return np.sort(np.asarray([rows[[0, -1]] for rows in ordered], np.int64).ravel())

    def update(self, descriptors: NDArray[np.float32], rows: Ints, keep: int = 10) -> None:
        """Set `confusions`: for each group the ``keep`` groups with the most similar mean descriptors, of other places
        and outside the guard, most similar first.

        Args:
            descriptors: (n, d) of unit norm, of ``rows`` of ``images``, with at least one row of each group.
        """
        means = np.zeros((len(self.groups), descriptors.shape[1]), np.float64)
        np.add.at(means, self.group[rows], descriptors)
        means /= np.bincount(self.group[rows], minlength=len(means))[:, None]
        found = []
        for start in range(0, len(means), UPDATED_AT_ONCE):
            some = slice(start, start + UPDATED_AT_ONCE)
            apart = np.hypot(*(self.xy[some, None] - self.xy[None]).transpose(2, 0, 1)) > self.batch.guard_m
            allowed = apart & (self.group_place[some, None] != self.group_place[None])
            found.append(search.exact(means[some], means, keep, allowed, np.float64)[0])
        self.confusions = np.concatenate(found)
