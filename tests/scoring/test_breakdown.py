from itertools import combinations

import numpy as np
import pytest

from streetrecall.scoring.breakdown import Contest, contest, expected_found, found_by_label, gallery_sizes, season


@pytest.fixture
def data():
    rng = np.random.default_rng(8)
    q, g = rng.normal(size=(9, 6)), rng.normal(size=(40, 6))
    place = rng.integers(0, 8, 40)
    query_place = np.arange(9) % 8
    xy = np.column_stack([np.arange(8) * 100.0, np.zeros(8)])
    group = place * 10 + rng.integers(0, 3, 40)
    return q, g, xy[query_place], xy[place], query_place * 10, group, place


def test_agrees_with_a_loop_over_all_pairs(data):
    q, g, query_xy, gallery_xy, query_group, group, place = data
    result = contest(*data, radius_m=25.0)
    for i in range(len(q)):
        right, wrong = [], {}
        for j in range(len(g)):
            if group[j] == query_group[i]:
                continue
            s = float(np.float32(q[i]) @ np.float32(g[j]))
            if np.hypot(*(query_xy[i] - gallery_xy[j])) <= 25:
                right.append(s)
            else:
                wrong[place[j]] = max(s, wrong.get(place[j], -np.inf))
        best = max(right, default=-np.inf)
        assert result.best_right[i] == pytest.approx(best, rel=1e-5)
        assert result.best_wrong[i] == pytest.approx(max(wrong.values()), rel=1e-5)
        assert result.wrong_places[i] == len(wrong)
        assert result.beaten_by[i] == sum(s >= best for s in wrong.values())
        assert (result.pair_query == i).sum() == len(right)


def test_recall_by_label_uses_only_the_right_pictures_of_that_label(data):
    result = contest(*data, radius_m=25.0)
    label = result.pair_gallery % 3
    table = found_by_label(result, label)
    for row in table.to_dict("records"):
        of = (result.pair_query == row["query"]) & (label == row["label"])
        assert row["found"] == (result.pair_similarity[of].max() > result.best_wrong[row["query"]])
    assert not table.duplicated(["query", "label"]).any()


def test_chance_in_a_smaller_gallery_is_that_of_all_ways_to_draw_it():
    wrong_places, beaten_by = 6, 2
    none = np.zeros(0, np.int64)
    result = Contest(none, none, none, np.ones(1), np.ones(1), np.array([wrong_places]), np.array([beaten_by]))
    for others in range(wrong_places + 1):
        draws = [*combinations(range(wrong_places), others)]
        expected = np.mean([all(place >= beaten_by for place in draw) for draw in draws])
        assert expected_found(result, others)[0] == pytest.approx(expected)


def test_the_whole_gallery_gives_plain_recall(data):
    result = contest(*data, radius_m=25.0)
    np.testing.assert_allclose(expected_found(result, 99), result.best_right > result.best_wrong)


def test_without_gallery_or_without_queries_there_is_nothing_to_win(data):
    q, g, query_xy, gallery_xy, query_group, group, place = data
    empty = contest(q, g[:0], query_xy, gallery_xy[:0], query_group, group[:0], place[:0], 25.0)
    assert np.isneginf(empty.best_right).all()
    assert contest(q[:0], g, query_xy[:0], gallery_xy, query_group[:0], group, place, 25.0).beaten_by.size == 0


def test_sizes_end_with_the_whole():
    assert gallery_sizes(1) == [1]
    assert gallery_sizes(0) == []
    assert gallery_sizes(10) == [1, 2, 5, 10]


def test_seasons_turn_in_the_south():
    months = np.arange(12)
    north, south = (season(months, np.full(12, s)) for s in (False, True))
    assert north.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0]
    assert ((south - north) % 4 == 2).all()
