"""Quarantine: which reasons apply, in which order, and which pictures count as the same frame."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from streetrecall.params.schema import Params
from streetrecall.pictures.quarantine import quarantine, same_frame


def test_the_policy_selects_reasons_and_thresholds(params: Params) -> None:
    table = pd.DataFrame({"image_id": range(4), "place": [0, 1, 4, 4], "split": ["train", "train", "test", "test"]})
    table = table.assign(sha256=["a", "a", "a", "b"], month="2020-05", phash=["0" * 16] * 3 + ["f" * 16], flaw="")
    table["subset"] = table["split"] + "_v1"
    table = table.assign(luminance_mean=[90.0, 90.0, 90.0, 4.0], luminance_std=30.0)
    policy = params.crop.quarantine

    def reasons(**changes: object) -> list[str]:
        return quarantine(table, policy.model_copy(update=changes)).tolist()

    assert reasons() == ["duplicate_across_splits"] * 3 + ["blank"]
    assert reasons(reasons=["duplicate_across_places"]) == ["duplicate_across_places"] * 3 + [""]
    assert reasons(reasons=[]) == [""] * 4
    assert reasons(blank_mean=3.0)[3] == ""
    assert reasons(blank_mean=3.0, blank_std=30.0) == ["blank"] * 4
    table["flaw"] = ["wrong_shape", "", "", "blank"]
    assert reasons(reasons=[]) == ["wrong_shape", "", "", ""]
    table["subset"] = table["split"] + "_queries"  # published numbers count all queries of the test set
    assert reasons() == ["wrong_shape", "duplicate_across_splits", "", ""]


def test_same_frames_are_those_of_a_loop_over_all_pairs() -> None:
    rng = np.random.default_rng(8)
    base = rng.integers(0, 2**63, 5)
    hashes = [int(base[i % 5]) ^ int(sum(1 << int(b) for b in rng.choice(63, i % 5, replace=False))) for i in range(60)]
    table = pd.DataFrame({"place": rng.integers(0, 6, 60), "month": rng.choice(["2020-05", "2021-05"], 60)})
    table["phash"] = [f"{h:016x}" for h in hashes]
    for distance in (0, 2, 5):
        naive = {
            (i, j)
            for i in range(60)
            for j in range(i + 1, 60)
            if table["month"][i] == table["month"][j]
            and table["place"][i] != table["place"][j]
            and (hashes[i] ^ hashes[j]).bit_count() <= distance
        }
        assert set(map(tuple, same_frame(table, distance))) == naive
        assert naive


def test_a_month_of_many_pictures_takes_seconds() -> None:
    """Comparing all pairs of 200,000 hashes took 14 s of processor time; comparing by bands takes less than one."""
    count = 200_000
    hashes = np.random.default_rng(1).integers(0, 2**64, count, dtype=np.uint64)
    hashes[150_000] = hashes[5] ^ np.uint64(0b1001)
    table = pd.DataFrame({"place": range(count), "month": "2020-05", "phash": [f"{h:016x}" for h in hashes.tolist()]})
    began = time.process_time()
    pairs = same_frame(table, 2)
    assert [pair.tolist() for pair in pairs] == [[5, 150_000]]
    assert time.process_time() - began < 5
