"""Batches: groups of different places, different dates, hard neighbours, and the same batches for one seed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streetrecall.errors import UserError
from streetrecall.model import sampler as sampling
from streetrecall.model.sampler import Sampler
from streetrecall.params.schema import Batch

MONTHS = ["2009-07", "2011-07", "2014-05", "2017-07", "2019-06", "2022-06"]


def collection(dates: list[list[int]], spacing: float = 200.0) -> pd.DataFrame:
    """Place i has, in each of its directions j, ``dates[i][j]`` pictures."""
    rows = [
        {"place": 10 * i, "direction": j, "month": MONTHS[k % len(MONTHS)], "x": i * spacing, "y": 0.0}
        for i, directions in enumerate(dates)
        for j, count in enumerate(directions)
        for k in range(count)
    ]
    return pd.DataFrame(rows, columns=["place", "direction", "month", "x", "y"]).astype({"month": "str"})


def settings_of(**change: float) -> Batch:
    values = {"places": 4, "images": 3, "guard_m": 100.0, "gap_weight": 0.5, "hard_share": 0.0, "memory": 0} | change
    return Batch.model_validate(values)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=4), min_size=2, max_size=9),
    st.integers(2, 6),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 1000),
)
def test_a_batch_holds_groups_of_different_places_and_dates(
    dates: list[list[int]], places: int, images: int, hard: float, seed: int
) -> None:
    table = collection(dates)
    batch = settings_of(places=places, images=images, hard_share=hard)
    usable = [i for i, directions in enumerate(dates) if any(count > 1 for count in directions)]
    if len(usable) < 2:
        with pytest.raises(UserError, match="two"):
            Sampler(table, batch, seed)
        return
    sampler = Sampler(table, batch, seed)
    rng = np.random.default_rng(seed)
    descriptors = rng.standard_normal((len(table), 5)).astype(np.float32)
    some = sampler.first_and_last()
    assert sorted(set(sampler.group[some])) == list(range(len(sampler.groups)))
    sampler.update((descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True))[some], some)
    drawn = sampler.epoch(1, 3)
    assert drawn.shape == (3, min(places, len(usable)) * images)
    assert np.array_equal(drawn, Sampler_with(sampler, table, batch, seed).epoch(1, 3))
    for row in drawn:
        groups = row.reshape(-1, images)
        assert len({table["place"][g[0]] for g in groups}) == len(groups)
        for g in groups:
            assert table.iloc[g][["place", "direction"]].drop_duplicates().shape == (1, 2)
            there = table[(table["place"] == table["place"][g[0]]) & (table["direction"] == table["direction"][g[0]])]
            assert table["month"].iloc[g].nunique() == min(images, there["month"].nunique())
            assert len(set(g)) == min(images, len(there))


def Sampler_with(old: Sampler, table: pd.DataFrame, batch: Batch, seed: int) -> Sampler:  # noqa: N802
    new = Sampler(table, batch, seed)
    new.confusions = old.confusions
    return new


def test_epochs_differ_and_seeds_differ() -> None:
    table = collection([[6, 6]] * 8)
    sampler = Sampler(table, settings_of(), 1)
    assert not np.array_equal(sampler.epoch(1, 4), sampler.epoch(2, 4))
    assert not np.array_equal(sampler.epoch(1, 4), Sampler(table, settings_of(), 2).epoch(1, 4))


def test_confusions_are_similar_and_never_within_the_guard() -> None:
    table = collection([[3]] * 6, spacing=60.0)
    sampler = Sampler(table, settings_of(guard_m=100.0), 1)
    along = np.linspace(0, 1, 6).repeat(3)
    descriptors = np.stack([np.cos(along), np.sin(along)], 1).astype(np.float32)
    sampler.update(descriptors, np.arange(len(table)))
    assert sampler.confusions[0].tolist()[:4] == [2, 3, 4, 5]
    assert sampler.confusions[2].tolist()[:3] in ([0, 4, 5], [4, 0, 5])


def test_hard_groups_are_those_confused_with_the_first() -> None:
    table = collection([[4]] * 40)
    sampler = Sampler(table, settings_of(places=2, hard_share=0.5), 1)
    pairs = np.arange(40).reshape(-1, 2)
    angle = np.repeat(np.arange(20), 8) * 0.07 + np.tile(np.repeat([0, 0.001], 4), 20)
    sampler.update(np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32), np.arange(len(table)))
    for row in sampler.epoch(1, 30):
        groups = sampler.group[row.reshape(2, -1)[:, 0]]
        assert sorted(groups.tolist()) in pairs.tolist()


def test_first_and_last_are_the_oldest_and_the_newest_of_each_group() -> None:
    table = collection([[6, 2], [1, 4]]).sample(frac=1.0, random_state=3, ignore_index=True)
    sampler = Sampler(table, settings_of(), 1)
    for number, members in enumerate(sampler.groups):
        found = [row for row in sampler.first_and_last() if sampler.group[row] == number]
        months = table["month"]
        assert sorted(months[found]) == [months[members].min(), months[members].max()]


def test_longer_gaps_are_drawn_more_often() -> None:
    table = collection([[6]] * 4)
    gaps = {}
    for weight in (0.0, 10.0):
        sampler = Sampler(table, settings_of(images=2, gap_weight=weight), 1)
        rows = sampler.epoch(1, 400).reshape(-1, 2)
        years = table["month"].str[:4].astype(int).to_numpy()
        gaps[weight] = np.abs(years[rows[:, 0]] - years[rows[:, 1]]).mean()
    assert gaps[10.0] > gaps[0.0] + 0.5


def test_a_picture_of_unknown_month_is_drawn_as_if_no_time_had_passed() -> None:
    table = collection([[6]] * 4)
    table.loc[table.groupby("place").tail(1).index, "month"] = ""  # was the newest
    shares = {}
    for weight in (0.0, 10.0):
        sampler = Sampler(table, settings_of(images=2, gap_weight=weight), 1)
        rows = sampler.epoch(1, 400).reshape(-1, 2)
        shares[weight] = (table["month"].to_numpy()[rows] == "").any(axis=1).mean()
    assert shares[0.0] == pytest.approx(1 / 3, abs=0.04)
    assert shares[10.0] < shares[0.0]
    assert (table["month"][sampler.first_and_last()] != "").all()

    table = collection([[2]] * 4)
    table.loc[table["month"] == MONTHS[1], "month"] = ""  # one known month each shows no change
    with pytest.raises(UserError, match="two dates"):
        Sampler(table, settings_of(), 1)


def test_pictures_of_unknown_month_fill_a_group_before_any_is_repeated() -> None:
    table = collection([[5]] * 2)
    table.loc[table.groupby("place").head(3).index, "month"] = ""
    for row in Sampler(table, settings_of(images=5), 1).epoch(1, 5):
        assert len(set(row)) == 10


def test_confusions_are_found_in_blocks_of_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    table = collection([[2]] * 2000, spacing=10.0)
    sampler = Sampler(table, settings_of(), 1)
    descriptors = np.random.default_rng(0).standard_normal((len(table), 8)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    tracemalloc.start()
    sampler.update(descriptors, np.arange(len(table)))
    assert tracemalloc.get_traced_memory()[1] < 80e6  # all 2,000 x 2,000 at once: some 130 MB
    tracemalloc.stop()
    in_parts = sampler.confusions
    monkeypatch.setattr(sampling, "UPDATED_AT_ONCE", len(table))
    sampler.update(descriptors, np.arange(len(table)))
    assert np.array_equal(in_parts, sampler.confusions)


def test_places_all_within_the_guard_are_refused() -> None:
    crowded = collection([[3], [3], [3]], spacing=30.0)
    with pytest.raises(UserError, match=r"no two training places are farther apart than train\.batch\.guard_m, 100 m"):
        Sampler(crowded, settings_of(), 1)
    assert Sampler(crowded, settings_of(guard_m=59.0), 1).batch_size == 9  # the outer two are negatives of each other
