import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring.outcomes import outcomes

from streetrecall.scoring.outcome import neighbours


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), places=st.integers(1, 5))
def test_predictions_agree_with_a_loop_over_queries_and_answers(seed, places):
    for result in outcomes(seed, places).values():
        gallery = result.gallery.reset_index(drop=True)
        assert len(result.predictions) == len(result.queries)
        for i, (row, query) in enumerate(
            zip(result.predictions.to_dict("records"), result.queries.to_dict("records"), strict=True)
        ):
            assert row["image_id"] == query["image_id"]
            other = gallery[(gallery["place"] != query["place"]) | (gallery["month"] != query["month"])]
            right = other[(other["x"] - query["x"]).abs() <= 25]
            same = (right["place"] == query["place"]) & (right["direction"] == query["direction"])
            assert (row["right_images"], row["right_place_direction"]) == (len(right), same.sum())
            answers = [gallery.iloc[j] for j in result.ranking.indices[i] if j >= 0]
            for name, hits in {
                "rank_25m": [abs(a["x"] - query["x"]) <= 25 for a in answers],
                "rank_100m": [abs(a["x"] - query["x"]) <= 100 for a in answers],
                "rank_place_direction": [
                    (a["place"], a["direction"]) == (query["place"], query["direction"]) for a in answers
                ],
            }.items():
                assert row[name] == (hits.index(True) + 1 if True in hits else 0)
            if answers:
                assert (row["answer_id"], row["answer_place"]) == (answers[0]["image_id"], answers[0]["place"])
                assert row["error_m"] == pytest.approx(abs(answers[0]["x"] - query["x"]), abs=0.006)
            else:
                assert (row["answer_id"], row["answer_place"]) == (-1, -1)
                assert np.isnan(row["error_m"]) and np.isnan(row["similarity"])


def test_neighbours_are_the_first_answers():
    result = outcomes(3)["city"]
    table = neighbours(result, 2)
    assert set(table["rank"]) == {1, 2}
    first = table[table["rank"] == 1].set_index("image_id")["neighbour_id"]
    assert first.to_dict() == result.predictions.set_index("image_id")["answer_id"].to_dict()
