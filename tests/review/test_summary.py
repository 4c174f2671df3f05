"""The summary shows whatever the protocols are."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from streetrecall import cli
from streetrecall.figures.summary import POSITION, protocols, summary_rows
from streetrecall.review.summary import summary

RECALL = {"queries": 64, "places": 16, "gallery": 388, "recall_at_1_25m": 0.9, "recall_at_5_25m": 0.95}
SCOPE = {"newest_vs_older": RECALL | {"error_p90_m": 12.5}, "city": RECALL, "newest_vs_before_2015": RECALL}
MEASURED = {
    "test": SCOPE | {POSITION: {"coverage": 0.9, "coverage_stated": 0.9, "radius_mean_m": 30.0}},
    "test_v1": SCOPE,
    "validation": SCOPE,
}


@pytest.fixture
def metrics() -> dict[str, Any]:
    return {system: copy.deepcopy(MEASURED) for system in ("model", "baseline")}


@pytest.mark.parametrize("name", ["photos", "several_photos", "newest_vs_before_1999", "top_5", "perturbed_2"])
def test_a_new_protocol_is_a_row(name: str, metrics: dict[str, Any]) -> None:
    before = summary(metrics, Path("plots"))
    for system in metrics.values():
        system["test"][name] = RECALL | {"recall_at_1_25m": 0.123}
    after = summary(metrics, Path("plots"))
    added = [line for line in after.splitlines() if "12.3" in line]
    assert len(added) == 1
    assert len(after.splitlines()) == len(before.splitlines()) + 1


def test_a_protocol_of_one_system_alone_is_shown_with_a_dash(metrics: dict[str, Any]) -> None:
    metrics["model"]["test"]["photos"] = RECALL
    (row,) = [row for row in summary_rows(metrics) if row[0] == "R@1, test, photos"]
    assert row == ("R@1, test, photos", "90.0", "-", "64 queries of 16 places, 388 in the gallery")


def test_a_protocol_without_recall_is_shown_with_dashes(metrics: dict[str, Any]) -> None:
    for system in metrics.values():
        system["test"]["photos"] = {"withheld": 3}
    assert ("R@1, test, photos", "-", "-", "") in summary_rows(metrics)


def test_photos_come_first_with_what_is_withheld(metrics: dict[str, Any]) -> None:
    photos = RECALL | {"gallery_places": 400, "far_withheld": 0.8, "near_answered": 0.9}
    metrics["model"]["test"] |= {"photos": photos, "photos_three": photos}
    metrics["model"]["validation"]["photos"] = photos
    rows = summary_rows(metrics)
    assert rows[0] == ("R@1, test, photos", "90.0", "-", "64 queries of 16 spots, 400 places answer")
    assert [row[0] for row in rows[1:9]] == [
        "R@5, test, photos",
        "photos: without a place, withheld",
        "photos: with a place, answered",
        "R@1, test, all photos of a spot together",
        "R@5, test, all photos of a spot together",
        "all photos of a spot together: without a place, withheld",
        "all photos of a spot together: with a place, answered",
        "R@1, validation, photos",
    ]
    assert len([row for row in rows if row[0].startswith("R@1, test, photos")]) == 1


def test_known_protocols_come_in_their_order_then_others_by_name() -> None:
    found = protocols(
        dict.fromkeys(["b", "leave_one_date_out", "a", POSITION, "newest_vs_older", "newest_vs_before_2010"])
    )
    assert found == ["newest_vs_older", "newest_vs_before_2010", "leave_one_date_out", "a", "b"]


@pytest.mark.parametrize("content", ["[]", "{}", "not JSON", b"\xff"])
def test_a_file_of_another_form_is_refused_in_words(
    content: str | bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evaluate.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert cli.main(["summary", "--metrics", str(path)]) == 2
    assert "run the stage evaluate again" in capsys.readouterr().err


def test_the_summary_is_printed(metrics: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evaluate.json"
    path.write_text(json.dumps(metrics), encoding="utf-8")
    assert cli.main(["summary", "--metrics", str(path)]) == 0
    assert capsys.readouterr().out.rstrip("\n") == summary(metrics, Path("metrics/plots"))
