import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streetrecall import cli, tables
from streetrecall.errors import UserError
from streetrecall.review.compare import Asked, compare, report

BOOTSTRAP = (1000, 0.95, 3)
ROOT = Path(__file__).parents[2]


def predictions(found: np.ndarray, protocol: str = "newest_vs_older") -> pd.DataFrame:
    """One query per place and direction, found or not."""
    n = len(found)
    rank = np.where(found, 1, 0)
    return pd.DataFrame(
        {
            **{"system": "model", "scope": "test", "protocol": protocol, "image_id": np.arange(n)},
            **{"place": np.arange(n) // 4, "direction": np.arange(n) % 4, "month": "2022-05", "split": "test"},
            **{
                "subset": "test",
                "lat": 59.3 + np.arange(n) // 4 * 1e-3,
                "lon": 18.0,
                "right_images": 3,
                "right_place_direction": 1,
            },
            **{f"rank_{within}": rank for within in ("25m", "50m", "100m", "place_direction")},
            **{"answer_id": 0, "answer_place": 0, "similarity": 0.5, "error_m": 0.0},
        }
    )


def run(first, second, protocol=None, column="rank_25m", k=1):
    return compare(first, second, ("HEAD", "workspace"), Asked("model", "test", protocol, column, k), BOOTSTRAP)


def test_more_found_at_many_places_is_better_and_the_reverse_is_worse():
    poor, good = (predictions(np.arange(160) % 8 < n) for n in (4, 6))
    (ahead,), (behind,) = run(poor, good), run(good, poor)
    assert (ahead.difference.verdict, behind.difference.verdict) == ("better", "worse")
    assert ahead.difference.difference == pytest.approx(0.25)
    assert ahead.difference.queries == 160
    assert ahead.difference.places == 40


def test_queries_are_identified_by_place_and_date_and_not_by_image_id():
    table = predictions(np.arange(80) % 3 == 0)
    renumbered = table.assign(image_id=table["image_id"] + 500).sample(frac=1, random_state=1)
    (same,) = run(table, renumbered)
    assert same.difference.difference == 0
    assert same.difference.changed_places == 0


def test_a_place_number_that_names_another_position_is_left_out():
    table = predictions(np.ones(80, bool))
    moved = table.assign(lat=np.where(table["place"] == 3, 59.9, table["lat"]))
    (found,) = run(table, moved)
    assert found.difference.queries == 76
    assert (found.only_first, found.only_second) == (4, 4)


def test_queries_that_either_cannot_answer_are_left_out():
    table = predictions(np.ones(80, bool))
    (found,) = run(table, table.assign(right_images=np.where(table["place"] < 5, 0, 3)))
    assert found.difference.queries == 60
    assert (found.only_first, found.only_second) == (20, 0)


def test_tables_without_a_common_query_are_refused():
    table = predictions(np.ones(8, bool))
    with pytest.raises(UserError, match="no query in common"):
        run(table, table.assign(month="2019-01"))
    with pytest.raises(UserError, match="workspace: no queries of test, city; there are test/newest_vs_older"):
        run(predictions(np.ones(8, bool), "city"), table, protocol="city")


def test_the_report_is_a_table_in_a_terminal_and_in_markdown():
    found = run(predictions(np.zeros(80, bool)), predictions(np.ones(80, bool)))
    text = report(found, "HEAD", "workspace", "recall at 1", 0.95, markdown=False)
    assert text.splitlines()[2].split() == [
        *("protocol", "HEAD", "workspace", "difference", "95%", "interval", "queries", "places", "workspace", "is"),
    ]
    assert "+100.0" in text
    assert text.rstrip().endswith("better")
    table = report(found, "HEAD", "workspace", "recall at 1", 0.95, markdown=True).splitlines()
    assert len({line.count("|") for line in table if line.startswith("|")}) == 1


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository whose HEAD holds poor results and whose workspace holds good ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for key in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{key}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{key}_EMAIL", "test@example.invalid")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    tables.write(tables.PREDICTIONS, predictions(np.arange(160) % 8 < 4), "data/results/queries.parquet")
    for command in (
        "git init -q",
        "dvc init -q",
        "dvc add -q data/results/queries.parquet",
        "git add .",
        "git commit -qm a",
    ):
        subprocess.run(command.split(), check=True)
    tables.write(tables.PREDICTIONS, predictions(np.arange(160) % 8 < 6), "data/results/queries.parquet")
    return tmp_path


@pytest.mark.slow
def test_the_workspace_is_compared_with_the_last_commit(repository, capsys):
    assert cli.main(["compare", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["first"], found["second"], found["verdict"]) == (0.5, 0.75, "better")
    assert cli.main(["compare", "workspace", "HEAD"]) == 0
    assert "worse" in capsys.readouterr().out


@pytest.mark.slow
def test_missing_revisions_and_results_are_named(repository, capsys):
    assert cli.main(["compare", "no-such-branch"]) == 2
    assert "'no-such-branch' is not a revision of this clone (git: fatal: " in capsys.readouterr().err
    for cached in (repository / ".dvc/cache").rglob("*"):
        if cached.is_file():
            cached.unlink()
    assert cli.main(["compare"]) == 2
    assert "neither in the cache nor in a remote" in capsys.readouterr().err
