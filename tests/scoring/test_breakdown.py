from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from streetrecall.scoring.breakdown import (
    RightAgainstWrong,
    expected_found,
    found_by_label,
    gallery_sizes,
    right_against_wrong,
    season,
)


@pytest.fixture
def data():
    """Descriptors of 9 queries and 40 gallery pictures, and their rows: 8 places, 100 m apart, of three months."""
    rng = np.random.default_rng(8)
    q, g = rng.normal(size=(9, 6)), rng.normal(size=(40, 6))
    place = rng.integers(0, 8, 40)
    queries = pd.DataFrame({"place": np.arange(9) % 8, "month": "2010-01"})
    gallery = pd.DataFrame({"place": place, "month": [f"2010-0{m}" for m in rng.integers(1, 4, 40)]})
    return q, g, *(rows.assign(x=rows["place"] * 100.0, y=0.0) for rows in (queries, gallery))


def test_agrees_with_a_loop_over_all_pairs(data):
    q, g, queries, gallery = data
    result = right_against_wrong(*data)
    for i, query in queries.iterrows():
        right, wrong = [], {}
        for j, answer in gallery.iterrows():
            if (answer["place"], answer["month"]) == (query["place"], query["month"]):
                continue
            s = float(np.float32(q[i]) @ np.float32(g[j]))
            if abs(query["x"] - answer["x"]) <= 25:
                right.append(s)
            else:
                wrong[answer["place"]] = max(s, wrong.get(answer["place"], -np.inf))
        best = max(right, default=-np.inf)
        assert result.best_right[i] == pytest.approx(best, rel=1e-5)
        assert result.best_wrong[i] == pytest.approx(max(wrong.values()), rel=1e-5)
        assert result.wrong_places[i] == len(wrong)
        assert result.better_places[i] == sum(s >= best for s in wrong.values())
        assert (result.pair_query == i).sum() == len(right)


def test_recall_by_label_uses_only_the_right_pictures_of_that_label(data):
    result = right_against_wrong(*data)
    label = result.pair_gallery % 3
    table = found_by_label(result, label)
    for row in table.to_dict("records"):
        of = (result.pair_query == row["query"]) & (label == row["label"])
        assert row["found"] == (result.pair_similarity[of].max() > result.best_wrong[row["query"]])
    assert not table.duplicated(["query", "label"]).any()


def test_the_expectation_in_a_smaller_gallery_is_the_mean_over_all_ways_to_draw_it():
    wrong_places, better_places = 6, 2
    none = np.zeros(0, np.int64)
    result = RightAgainstWrong(
        none, none, none, np.ones(1), np.ones(1), np.array([wrong_places]), np.array([better_places])
    )
    for others in range(wrong_places + 1):
        draws = [*combinations(range(wrong_places), others)]
        expected = np.mean([all(place >= better_places for place in draw) for draw in draws])
        assert expected_found(result, others)[0] == pytest.approx(expected)


def test_the_whole_gallery_gives_plain_recall(data):
    result = right_against_wrong(*data)
    np.testing.assert_allclose(expected_found(result, 99), result.best_right > result.best_wrong)


def test_without_gallery_or_without_queries_nothing_is_found(data):
    q, g, queries, gallery = data
    assert np.isneginf(right_against_wrong(q, g[:0], queries, gallery[:0]).best_right).all()
    assert right_against_wrong(q[:0], g, queries[:0], gallery).better_places.size == 0


def test_gallery_sizes_end_with_the_whole():
    assert gallery_sizes(1) == [1]
    assert gallery_sizes(0) == []
    assert gallery_sizes(10) == [1, 2, 5, 10]


def test_seasons_are_reversed_in_the_south():
    months = np.arange(12)
    north, south = (season(months, np.full(12, s)) for s in (False, True))
    assert north.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0]
    assert ((south - north) % 4 == 2).all()
