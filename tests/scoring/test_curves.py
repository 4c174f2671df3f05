import dataclasses

import numpy as np
import pandas as pd
import pytest
from scoring.outcomes import described, outcomes

from streetrecall.scoring import curves
from streetrecall.scoring.breakdown import right_against_wrong


@pytest.fixture
def few_draws(params):
    return params.evaluate.model_copy(update={"bootstrap_draws": 100})


@pytest.fixture
def pictures():
    rows, _ = described(4)
    heading = np.where(rows["place"] == 0, np.nan, 91.0 + 180 * rows["direction"])
    return rows.assign(heading_deg=heading, quarantine="").set_index("image_id")


def compared(seed, name):
    _, descriptors = described(seed)
    result = outcomes(seed)[name]
    return result, right_against_wrong(
        descriptors[result.protocol.queries], descriptors[result.protocol.gallery], result.queries, result.gallery
    )


def test_headings_are_quarters_of_the_compass_or_directions(few_draws, pictures):
    result = outcomes(4)["city"]
    table = curves.recall_by_heading(result, pictures, few_draws)
    assert set(table["heading"]) <= {"east", "west", "direction 0", "direction 1"}
    assert table["queries"].sum() == result.answerable.sum()
    at_first = result.predictions[result.answerable & (result.place == 0)]
    for direction, rows in at_first.groupby("direction"):
        line = table[table["heading"] == f"direction {direction}"].iloc[0]
        assert (line["recall"], line["queries"]) == (pytest.approx((rows["rank_25m"] == 1).mean(), abs=1e-4), len(rows))


def test_dates_are_months_of_pictures_in_use(few_draws, pictures):
    result = outcomes(4)["city"]
    pictures.loc[pictures["month"] == "2009-12", "quarantine"] = "blank"
    table = curves.recall_by_dates(result, pictures, few_draws)
    assert table["dates"].max() <= 3
    assert table["queries"].sum() == result.answerable.sum()


@pytest.mark.parametrize("seed", range(5))
def test_gaps_and_seasons_agree_with_loops_over_pairs(few_draws, seed):
    result, pairs = compared(seed, "leave_one_date_out")
    asked, answered = (
        pd.to_datetime(rows["month"].to_numpy()[index], format="%Y-%m", errors="coerce")
        for rows, index in ((result.queries, pairs.pair_query), (result.gallery, pairs.pair_gallery))
    )
    best: dict[tuple[str, object, int], float] = {}
    season = {5: "spring", 7: "summer", 12: "winter"}
    for query, similarity, a, b in zip(pairs.pair_query, pairs.pair_similarity, asked, answered, strict=True):
        if pd.isna(a) or pd.isna(b):
            continue
        years = abs((a.year - b.year) * 12 + a.month - b.month) // 12
        for key in (("gap", years, query), ("season", (season[a.month], season[b.month]), query)):
            best[key] = max(similarity, best.get(key, -np.inf))
    for kind, table, label in (
        ("gap", curves.recall_by_gap(result, pairs, few_draws), lambda row: row["years"]),
        (
            "season",
            curves.recall_by_season(result, pairs, few_draws),
            lambda row: (row["query_season"], row["gallery_season"]),
        ),
    ):
        assert len(table) == len({name for k, name, _ in best if k == kind})
        for row in table.to_dict("records"):
            found = [s > pairs.best_wrong[q] for (k, name, q), s in best.items() if k == kind and name == label(row)]
            assert (row["recall"], row["queries"]) == (pytest.approx(np.mean(found), abs=1e-4), len(found))


def test_the_whole_gallery_gives_recall_at_1(few_draws):
    result, pairs = compared(7, "city")
    table = curves.recall_by_gallery(result, pairs, few_draws)
    assert table["recall"].is_monotonic_decreasing
    assert table["recall"].iloc[-1] == pytest.approx(
        (pairs.best_right > pairs.best_wrong)[result.answerable].mean(), abs=1e-4
    )


def test_without_an_answerable_query_curves_are_empty(few_draws, pictures):
    result = outcomes(4)["newest_vs_older"]
    empty = dataclasses.replace(result, predictions=result.predictions.assign(right_images=0))
    assert curves.recall_by_k([empty], few_draws).empty
    assert curves.error_distribution(empty).empty
    assert curves.recall_by_heading(empty, pictures, few_draws).empty
