"""Which pictures take no part in training and evaluation, and why. Their rows stay in the table, with the reason."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.params.schema import Quarantine, QuarantineReason
from streetrecall.pictures.phash import as_numbers, near_pairs
from streetrecall.tables import given_role

# Flaws of the picture itself: such pictures are always kept out.
UNDECODABLE = "undecodable"
WRONG_SHAPE = "wrong_shape"
# The reasons that params.yaml switches on and off (crop.quarantine.reasons).
BLANK, ACROSS_SPLITS, ACROSS_PLACES, WITHIN_PLACE = get_args(QuarantineReason)

REASONS: tuple[str, ...] = (UNDECODABLE, WRONG_SHAPE, BLANK, ACROSS_SPLITS, ACROSS_PLACES, WITHIN_PLACE)


def quarantine(table: pd.DataFrame, policy: Quarantine) -> pd.Series:
    """The reason why each picture is kept out, or the empty string. Only reasons in ``policy.reasons`` are applied.

    If several apply, the first in this order is given:

    - ``undecodable``, ``wrong_shape``: found when the picture was made; applied whatever the policy says.
    - ``blank``: the scrape found it blank, or mean or standard deviation of its luminance is at or below a threshold.
    - ``duplicate_across_splits``, ``duplicate_across_places``: several places have the same file, or the same frame
      encoded again. It is unknown which place it shows, so all copies are kept out. The same frame encoded again is
      of the same month and its perceptual hash differs in at most ``policy.phash_distance`` bits.
    - ``duplicate_within_place``: several months or directions of one place have the same file, because the viewer was
      captured before it had turned. The newest picture is used.

    Pictures of validation and test whose role is given (`streetrecall.tables.given_role`) are kept unless they cannot
    be used at all: numbers that others published count all of them.

    ``table`` has IMAGES columns, in the order of image_id, with the index 0, 1, 2, ... Its column ``flaw`` holds
    ``undecodable``, ``wrong_shape`` or ``blank`` where that is known already, else the empty string.
    """
    given = is_asked_as_given(table).to_numpy(bool)
    flaw = table["flaw"].to_numpy(dtype=object)
    reason = flaw.copy()
    if BLANK in policy.reasons:
        dark = table["luminance_mean"].to_numpy() <= policy.blank_mean
        flat = table["luminance_std"].to_numpy() <= policy.blank_std
        reason[(reason == "") & (dark | flat)] = BLANK
    else:
        reason[reason == BLANK] = ""

    unmarked = table[reason == ""]
    duplicates = [*same_file(unmarked), *same_frame(unmarked, policy.phash_distance)]
    for name, column in ((ACROSS_SPLITS, "split"), (ACROSS_PLACES, "place")):
        if name in policy.reasons:
            label = table[column].to_numpy()
            for rows in duplicates:
                if len(np.unique(label[rows])) > 1:
                    reason[rows[reason[rows] == ""]] = name
    if WITHIN_PLACE in policy.reasons:
        newest_first = table[reason == ""].sort_values(["month", "image_id"], ascending=[False, True], kind="stable")
        reason[newest_first.index[newest_first.duplicated(["place", "sha256"])]] = WITHIN_PLACE
    reason[given] = np.where(np.isin(flaw[given], [UNDECODABLE, WRONG_SHAPE]), flaw[given], "")
    return pd.Series(reason, index=table.index, dtype="str")


def is_asked_as_given(table: pd.DataFrame) -> pd.Series:
    """Which rows (IMAGES columns) the protocol `given` counts whatever they show: their role is given, and they are not
    for training."""
    return (given_role(table["subset"]) != "") & (table["split"] != "train")


def same_file(table: pd.DataFrame) -> list[NDArray[np.int64]]:
    """Groups of rows (index labels of ``table``) of several places with one file."""
    several = table.groupby("sha256", sort=False)["place"].transform("nunique") > 1
    return [labels.to_numpy() for labels in table[several].groupby("sha256", sort=False).groups.values()]


def same_frame(table: pd.DataFrame, distance: int) -> list[NDArray[np.int64]]:
    """Pairs of rows (index labels) of two places and one month whose hashes differ in at most ``distance`` bits.

    The month is what makes this safe. Among many thousands of street pictures some have such hashes by chance, but
    rarely in the same month, and a frame that two places share was taken in one month.
    """
    pairs: list[NDArray[np.int64]] = []
    for _, group in table.groupby("month", sort=True):
        labels, place = group.index.to_numpy(), group["place"].to_numpy()
        near = near_pairs(as_numbers(group["phash"].tolist()), distance)
        pairs += list(labels[near[place[near[:, 0]] != place[near[:, 1]]]])
    return pairs
