"""Which dates of dense training places are captured."""

from __future__ import annotations

from fakeprovider import FakeProvider, locations

from streetrecall.providers.base import without_old_training


def test_only_dense_training_places_lose_their_old_dates() -> None:
    places = locations(4).assign(
        split=["train", "train", "gallery", "test"], radius_m=[100.0, 10.0, 10.0, 10.0], level=[0, 1, 2, 3]
    )
    plan = list(FakeProvider(dates=3).plan(places))
    kept = without_old_training(iter(plan), places, 2)
    assert [r for r in plan if r not in kept] == [r for r in plan if r.place == 1 and r.date_index == 2]
    assert without_old_training(plan, places, 3) == plan
