"""DVC's experiments on a project of the pipeline's shape: overrides, queue, comparison, application."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from smallproject import Project

from streetrecall.errors import UserError
from streetrecall.review import sweep


def names(project: Project) -> set[str]:
    return set(project.dvc("exp", "list", "--name-only").stdout.split())


def test_an_override_runs_only_the_stages_that_it_affects(project: Project) -> None:
    project.dvc("exp", "run", "-n", "more", "-S", "train.seed=350")
    assert project.ran() == ["train", "evaluate"]
    assert "seed: 350" in (project.root / "params.yaml").read_text(encoding="utf-8")

    shown = json.loads(project.dvc("exp", "show", "--json").stdout)
    metrics = [e["revs"][0]["data"]["metrics"] for e in shown[-1]["experiments"]]
    assert [m["metrics/evaluate.json"]["data"]["test"]["recall_at_1"] for m in metrics] == [0.85]

    difference = json.loads(project.dvc("exp", "diff", "HEAD", "more", "--json").stdout)
    assert difference["metrics"]["metrics/evaluate.json"]["test.recall_at_1"]["diff"] == pytest.approx(0.05)
    assert difference["params"]["params.yaml"]["train.seed"] == {"old": 300, "new": 350, "diff": 50}

    project.git("checkout", "-q", "params.yaml", "dvc.lock", "metrics")
    project.dvc("checkout", "-q")
    assert "up to date" in project.dvc("status").stdout
    project.dvc("exp", "apply", "more")
    assert "seed: 350" in (project.root / "params.yaml").read_text(encoding="utf-8")
    assert (project.root / "models/weights.h5").read_text(encoding="utf-8").startswith("350")
    assert project.ran() == ["train", "evaluate"], "applying runs nothing"


def test_a_provider_switch_needs_nothing_else(project: Project) -> None:
    project.dvc("exp", "run", "-S", "provider=archive", "-S", "archive.path=/some/folder")
    assert project.ran() == ["crop", "train", "evaluate"]
    assert list((project.root / "data/crops/local/train").glob("*.tar"))
    assert not list((project.root / "data/crops/shared/train").glob("*.tar"))


def test_a_temporary_run_does_not_change_the_working_tree(project: Project) -> None:
    before = project.git("status", "--porcelain")
    project.dvc("exp", "run", "--temp", "-n", "aside", "-S", "train.seed=360")
    assert project.git("status", "--porcelain") == before == ""
    assert project.ran() == []
    assert "aside" in names(project)
    project.dvc("exp", "apply", "aside")
    assert (project.root / "models/weights.h5").read_text(encoding="utf-8").startswith("360")


def test_a_sweep_runs_two_workers_and_compares(project: Project) -> None:
    metric = "evaluate.test.recall_at_1"
    done = project.run("streetrecall", "sweep", "train.seed=280,310,340", "--jobs", "2", "--metric", metric)
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert table[0] == "| experiment | train.seed | evaluate.test.recall_at_1 | 95% interval | change | verdict |"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert cells[0][:4] == ["(committed)", "300", "0.8", "0.78 to 0.82"]
    assert [row[1:] for row in cells[1:]] == [
        ["340", "0.84", "0.82 to 0.86", "+0.04", "better"],
        ["310", "0.81", "0.79 to 0.83", "+0.01", "within the interval"],
        ["280", "0.78", "0.76 to 0.8", "-0.02", "within the interval"],
    ]
    assert {row[0] for row in cells[1:]} == names(project)
    assert project.git("status", "--porcelain") == ""
    assert project.ran() == []


def test_a_sweep_over_an_unknown_parameter_never_starts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    done = project.run("streetrecall", "sweep", "train.sede=1,2", ok=False)
    assert done.returncode == 2
    assert "unknown key 'train.sede'; the nearest valid key is 'train.seed'" in done.stderr
    assert names(project) == set()
    with pytest.raises(UserError, match=r"is not KEY=VALUE,VALUE"):
        sweep.expand(["train.seed"])


def test_a_sweep_without_an_identity_says_so(project: Project, tmp_path: Path) -> None:
    done = project.run("streetrecall", "sweep", "train.seed=1", ok=False, HOME=str(tmp_path), XDG_CONFIG_HOME="")
    assert done.returncode == 2
    assert re.search(r"git config user.name", done.stderr)
