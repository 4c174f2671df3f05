"""The protocol `given`: the queries and the database of a published test set, counted as the field's evaluators do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_city import build, use_exact_index, write_descriptors

from streetrecall import tables
from streetrecall.params.schema import Params
from streetrecall.scoring.protocols import GIVEN, protocols, scopes


def test_recall_is_that_of_the_fields_evaluators(
    params: Params, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_exact_index(monkeypatch)
    city = build(tmp_path_factory.mktemp("given"))
    rows = city.rows()
    inside = rows["split"].isin(["test", "validation"])
    role = np.where((rows["month"] == "2019-09") | (rows["month"] == "2010-03"), "queries", "database")
    rows.loc[inside, "subset"] = (rows["split"] + "_" + role)[inside]
    rows.loc[inside, "month"] = ""  # many published sets state no month
    far = inside & (rows["place"] == rows.loc[inside, "place"].min()) & (role == "database")
    rows.loc[far, "y"] += 5_000.0  # now queries of this place have no right answer
    rows["lat"], rows["lon"] = _unproject(rows, params)
    for folder in city.systems.values():
        descriptors = np.load(folder / "descriptors.npy")
        write_descriptors(folder, rows, descriptors)
    measured = city.evaluate(params)

    test = (rows["split"] == "test").to_numpy()
    asks, answers = (np.flatnonzero(test & (role == r)) for r in ("queries", "database"))
    for name, folder in city.systems.items():
        descriptors = np.load(folder / "descriptors.npy").astype(np.float64)
        found = np.zeros(4)
        for query in asks:  # the loop of the field's evaluators
            best = answers[np.argsort(-(descriptors[answers] @ descriptors[query]), kind="stable")]
            metres = np.hypot(*(rows.loc[best, ["x", "y"]] - rows.loc[query, ["x", "y"]]).to_numpy().T)
            for i, k in enumerate((1, 5, 10, 20)):
                if (metres[:k] <= 25).any():
                    found[i:] += 1
                    break
        section = measured[name]["test"][GIVEN]
        assert section["queries"] == len(asks) and section["gallery"] == len(answers)
        assert section["queries_without_right_image"] == 8
        for share, k in zip(found / len(asks), (1, 5, 10, 20), strict=True):
            assert section[f"recall_at_{k}_25m"] == pytest.approx(share, abs=5e-5)
    assert set(measured["model"]) == {"test", "validation"}  # no scope of its own for queries and database
    predictions = tables.read(tables.PREDICTIONS, city.folder / "data/results/queries.parquet")
    assert (predictions["protocol"] == GIVEN).sum() == len(city.systems) * 2 * len(asks)


def _unproject(rows: pd.DataFrame, params: Params) -> tuple[np.ndarray, np.ndarray]:
    from streetrecall.geo import unproject

    return unproject(rows["x"], rows["y"], params.city.crs)


def test_a_collection_without_roles_has_no_such_protocol() -> None:
    rows = pd.DataFrame(
        {
            "place": [1, 1],
            "direction": 0,
            "month": ["2022-05", "2016-07"],
            "role": ["query", "gallery"],
            "split": "test",
            "subset": ["test_queries", "test_v1"],
        }
    )
    assert GIVEN not in [p.name for p in protocols(rows, "test", np.array([True, True]), 2015)]
    assert list(scopes(rows, ["test"])) == ["test", "test_v1"]
