"""Every metric of the pipeline has a known direction, or is known to have none."""

from __future__ import annotations

from pathlib import Path

import pytest

from streetrecall.review.metrics import HIGH, LOW, Better, better, pattern_of
from streetrecall.review.revisions import in_workspace

ROOT = Path(__file__).parents[2]
METRICS = in_workspace(ROOT).metrics


def test_every_metric_of_the_project_matches_a_pattern() -> None:
    assert {key.split(".")[0] for key in METRICS} >= {"evaluate", "headline", "index", "train", "crop"}
    assert [key for key in METRICS if pattern_of(key) is None] == []


def test_only_counts_settings_and_descriptions_are_neither() -> None:
    """In the files that judge the model, all that is neither is a whole number, a name or a setting."""
    for key, value in METRICS.items():
        if key.startswith(("evaluate.", "headline.")) and better(key) is Better.NEITHER:
            assert isinstance(value, int) or key.endswith("coverage_stated"), key


@pytest.mark.parametrize("end", [LOW, HIGH])
def test_the_ends_of_an_interval_go_with_their_metric(end: str) -> None:
    assert better(f"evaluate.model.test.city.recall_at_1_25m{end}") is Better.LARGER
    assert better(f"evaluate.model.test.position.aurc_margin{end}") is Better.SMALLER


def test_an_unknown_metric_is_neither() -> None:
    assert better("evaluate.model.test.city.something_new") is Better.NEITHER
