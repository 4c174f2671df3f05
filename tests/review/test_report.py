"""The report of a pull request, on small repositories of two commits."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from smallproject import Project

from streetrecall.cli import main
from streetrecall.errors import UserError
from streetrecall.review.report import Change, Report, build, changes, guard_failures
from streetrecall.review.revisions import Results, common_ancestor
from streetrecall.review.staleness import findings


def run_again(project: Project, message: str = "Run again", **changes: object) -> None:
    project.set(**changes)
    project.dvc("repro", "-q")
    project.commit(message)


def branch(project: Project) -> None:
    project.git("switch", "-qc", "idea")


def test_a_better_model_passes_and_says_by_how_much(project: Project) -> None:
    branch(project)
    run_again(project, train__seed=390)
    report = build(project.root, "main")
    assert report.failures == []
    text = report.markdown()
    assert "| `evaluate.test.recall_at_1` | 0.8 | 0.89 | +0.09 | 0.87 to 0.91 | better |" in text
    assert "| `train.seed` | 300 | 390 |" in text
    assert "dvc.lock agrees" in text
    assert "flowchart TD" in text
    assert "| grid | open | 3 of 3 | 1" in text


def test_a_worse_model_fails_beyond_its_interval_only(project: Project) -> None:
    branch(project)
    run_again(project, train__seed=290)  # 0.79: a drop, but the intervals cover each other's value
    assert build(project.root, "main").failures == []
    assert "within the interval" in build(project.root, "main").markdown()
    run_again(project, train__seed=270)  # 0.77 lies outside of 0.78 to 0.82, and the other way round
    report = build(project.root, "main")
    assert report.failures == [
        "the guarded metric evaluate.test.recall_at_1 went from 0.8 to 0.77: 0.03 worse where 0.01 is allowed, "
        "and beyond its interval"
    ]
    assert "| worse |" in report.markdown()
    run_again(project, guard={"evaluate.test.recall_at_1": 0.05})
    assert build(project.root, "main").failures, "a pull request must not loosen the guard that judges it"


def test_a_drop_within_what_guard_allows_passes(project: Project) -> None:
    project.set(guard={"evaluate.test.recall_at_1": 0.05})
    project.commit("Allow more")
    branch(project)
    run_again(project, train__seed=270)
    report = build(project.root, "main")
    assert report.failures == []
    assert "| worse |" in report.markdown()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda p: p.set(train__seed=301), "stage 'train': parameter train.seed is modified"),
        (lambda p: p.set(evaluate__bootstrap_draws=777), "stage 'evaluate': parameter evaluate"),
        (
            lambda p: (p.root / "stages.py").write_text("pass\n", encoding="utf-8"),
            "stage 'grid': depends on stages.py, which is modified",
        ),
        (
            lambda p: (p.root / "dvc.yaml").write_text(
                (p.root / "dvc.yaml").read_text(encoding="utf-8").replace("stages.py check", "stages.py  check"),
                encoding="utf-8",
            ),
            "stage 'check_grid': changed command",
        ),
        (lambda p: (p.root / "dvc.lock").unlink(), "dvc.lock is missing"),
        (
            lambda p: (p.root / "dvc.yaml").write_text(
                (p.root / "dvc.yaml").read_text(encoding="utf-8").replace("  train:\n", "  train:\n    frozen: true\n"),
                encoding="utf-8",
            ),
            "stage 'train' is frozen",
        ),
        (
            lambda p: (p.root / "params.yaml").write_text(
                (p.root / "params.yaml").read_text(encoding="utf-8").replace("seed: 300", "sede: 300"), encoding="utf-8"
            ),
            "unknown key 'train.sede'; the nearest valid key is 'train.seed'",
        ),
    ],
    ids=["param", "section", "code", "command", "no lock", "frozen", "unknown param"],
)
def test_a_stale_lock_is_found_without_data(project: Project, tmp_path: Path, edit, words: str) -> None:
    clone = project.clone(tmp_path / "clone")
    assert findings(clone.root) == []
    edit(clone)
    found = findings(clone.root)
    assert any(words in line for line in found), found


def test_an_edited_metric_is_found(project: Project, tmp_path: Path) -> None:
    clone = project.clone(tmp_path / "clone")
    path = clone.root / "metrics/evaluate.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.8,", "0.9,"), encoding="utf-8")
    clone.commit("Improve the numbers")
    found = findings(clone.root)
    assert any("metrics/evaluate.json" in line and "edited by hand" in line for line in found), found


def test_a_metric_that_is_not_committed_is_found(project: Project, tmp_path: Path) -> None:
    project.git("rm", "-q", "--cached", "metrics/validation/grid.json")
    project.git("commit", "-qm", "Forget a file")
    found = findings(project.clone(tmp_path / "clone").root)
    assert any("metrics/validation/grid.json, which is not committed" in line for line in found), found


def test_a_lock_whose_stage_ran_on_other_data_is_found(project: Project, tmp_path: Path) -> None:
    """What a merge of two dvc.lock files leaves: each side's stages, made from different data."""
    clone = project.clone(tmp_path / "clone")
    lock = clone.root / "dvc.lock"
    text = lock.read_text(encoding="utf-8")
    before, train = text.split("  train:\n")
    match = re.search(r"path: data/crops/shared/train\n\s+hash: md5\n\s+md5: ([0-9a-f.dir]+)", train)
    assert match
    lock.write_text(before + "  train:\n" + train.replace(match[1], "0" * 32 + ".dir"), encoding="utf-8")
    assert findings(clone.root) == [
        "stage 'train' last ran on another data/crops/shared/train than 'crop' wrote: run `dvc repro`"
    ]


def test_a_merge_conflict_is_named_and_its_resolution_judged(project: Project, tmp_path: Path) -> None:
    branch(project)
    run_again(project, "Crop otherwise", crop__quality=80)
    project.git("switch", "-q", "main")
    run_again(project, "Train otherwise", train__seed=310)
    project.git("switch", "-q", "idea")
    assert "CONFLICT" in project.git("merge", "main", ok=False)
    conflicted = findings(project.root)
    assert any("dvc.lock holds a merge conflict" in line for line in conflicted), conflicted

    project.git("checkout", "--ours", ".")  # a naive resolution: params.yaml merged by itself, dvc.lock did not
    project.commit("Merge, hoping")
    assert any("train.seed" in line for line in findings(project.clone(tmp_path / "naive").root))

    project.dvc("repro", "-q")
    project.commit("Run the merged pipeline")
    assert findings(project.clone(tmp_path / "good").root) == []
    text = build(project.root, "main").markdown()
    assert "| `crop.quality` | 90 | 80 |" in text
    assert "train.seed" not in text, "what main did since is not this branch's change"


def test_no_data_is_needed(project: Project, tmp_path: Path) -> None:
    branch(project)
    run_again(project, train__seed=390, simulated__seed=20072)
    clone = project.clone(tmp_path / "clone")
    report = build(clone.root, "origin/main", Path("drawn"))
    assert report.failures == []
    assert "| `grid.rows` |" in report.markdown()
    assert "<svg" in (clone.root / "drawn/recall.svg").read_text(encoding="utf-8")
    assert "[recall.svg](drawn/recall.svg)" in report.markdown()
    assert not (clone.root / "data/grid.txt").exists()


def test_a_shallow_clone_says_what_to_fetch_and_then_works(project: Project, tmp_path: Path) -> None:
    branch(project)
    run_again(project, train__seed=390)
    clone = project.clone(tmp_path / "clone", "--depth=1", "--branch=idea", "--single-branch")
    with pytest.raises(UserError, match="fetch it first: git fetch --depth=1 origin") as caught:
        build(clone.root, "origin/main")
    clone.run(*str(caught.value).split("fetch it first: ")[1].split())
    report = build(clone.root, "origin/main")
    assert report.failures == []
    assert "too shallow" in report.markdown()
    assert "| better |" in report.markdown()
    assert common_ancestor(project.root, "main")[1] == ""


def test_a_shut_gate_fails(project: Project) -> None:
    path = project.root / "metrics/validation/grid.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    result = {"success": False, "sentence": "lat is between -90 and 90", "unexpected_count": 4}
    path.write_text(json.dumps(report | {"success": False, "failed": 1, "results": [result]}), encoding="utf-8")
    text = build(project.root, "main").markdown()
    assert "the gate 'grid' is shut: 1 expectations failed" in text
    assert "- grid: lat is between -90 and 90: not so in 4 rows" in text


def test_the_first_results_of_a_project_pass(project: Project) -> None:
    project.git("rm", "-rqf", "--cached", "metrics", "dvc.lock")
    project.git("commit", "-qm", "Before any result")
    branch(project)
    project.commit("Run it")
    report = build(project.root, "main")
    assert report.failures == []
    assert "| `evaluate.test.recall_at_1` | – | 0.8 |" in report.markdown()


def test_the_command_writes_the_report_and_fails_by_its_exit_code(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    assert main(["report", "main"]) == 0
    assert capsys.readouterr().out.startswith("## streetrecall")
    project.set(train__seed=200)
    assert main(["report", "main", "--output", "report.md"]) == 1
    assert "train.seed is modified" in capsys.readouterr().err
    assert "**Fails:**" in Path("report.md").read_text(encoding="utf-8")
    assert main(["report", "nowhere"]) == 2
    assert "'nowhere' is not a revision" in capsys.readouterr().err
    shutil.rmtree(".dvc")
    assert main(["report", "main"]) == 2


def side(value: object, half: float | None = None, key: str = "evaluate.r", **params: float) -> Results:
    metrics = {key: value}
    if half is not None and isinstance(value, float):
        metrics |= {f"{key}_ci_low": value - half, f"{key}_ci_high": value + half}
    return Results(metrics, {f"guard.{k.replace('__', '.')}": v for k, v in params.items()}, {})  # type: ignore[arg-type]


def test_guard_without_an_interval_takes_every_drop_for_clear() -> None:
    assert guard_failures(side(0.8), side(0.7, evaluate__r=0.05))
    assert not guard_failures(side(0.8), side(0.76, evaluate__r=0.05))


def test_guard_of_an_error_looks_the_other_way() -> None:
    limit = {"evaluate__error_median_m": 5.0}
    key = "evaluate.error_median_m"
    assert guard_failures(side(100.0, key=key), side(110.0, key=key, **limit))
    assert not guard_failures(side(110.0, key=key), side(100.0, key=key, **limit))


def test_guard_on_a_metric_that_is_gone_or_misspelt() -> None:
    assert "is gone" in guard_failures(side(0.8), side(None, evaluate__r=0.1))[0]
    assert "the nearest is 'evaluate.r'" in guard_failures(side(0.8), side(0.8, evaluate__rr=0.1))[0]
    assert guard_failures(Results({}, {}, {}), Results({}, {"guard.evaluate.r": 0.1}, {})) == []


def test_one_clear_side_is_not_enough() -> None:
    """0.75 lies outside of the base's interval, but the base lies within the wide one around 0.75."""
    assert not Change("r", 0.8, 0.75, (0.79, 0.81), (0.65, 0.85)).is_clear
    assert [c.verdict for c in changes(side(0.8, 0.01), side(0.75, 0.01))] == ["worse"]


def test_a_long_report_keeps_the_verdict_and_names_what_it_left_out() -> None:
    report = Report("title", failures=["bad"])
    report.add("Metrics", "m" * 500)
    report.add("Pipeline", "p" * 500, rank=3)
    text = report.markdown(limit=700)
    assert len(text) <= 700
    assert "- bad" in text
    assert "mmm" in text
    assert "Left out for want of room: Pipeline." in text
