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
from streetrecall.review.changes import Change, changes, guard_failures
from streetrecall.review.report import Report, build
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
    assert "| `grid` | passed | 3 of 3 | 1" in text


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
    assert "fatal: Needed a single revision" in str(caught.value), "git's own words"
    clone.run(*str(caught.value).split("fetch it first: ")[1].split())
    report = build(clone.root, "origin/main")
    assert report.failures == []
    assert "too shallow" in report.markdown()
    assert "| better |" in report.markdown()
    assert common_ancestor(project.root, "main")[1] == ""


def test_an_older_commit_is_missing_in_a_shallow_clone(project: Project, tmp_path: Path) -> None:
    run_again(project, train__seed=390)
    clone = project.clone(tmp_path / "clone", "--depth=1")
    advice = r"\(git: fatal: Needed a single revision\); fetch it first: git fetch --unshallow"
    with pytest.raises(UserError, match=advice):
        build(clone.root, "HEAD~1")
    said = clone.run("streetrecall", "compare", "HEAD~1", ok=False).stderr
    assert re.search(rf"{advice}; `git log --all` and `dvc exp show`", said)
    clone.run("git", "fetch", "--unshallow")
    assert common_ancestor(clone.root, "HEAD~1")[1] == ""


def test_a_whole_clone_is_not_made_shallow(project: Project, tmp_path: Path) -> None:
    project.git("branch", "later")
    clone = project.clone(tmp_path / "clone", "--single-branch")
    with pytest.raises(UserError, match=r"fetch it first: git fetch origin \+refs/heads/later") as caught:
        common_ancestor(clone.root, "origin/later")
    clone.run(*str(caught.value).split("fetch it first: ")[1].split())
    assert common_ancestor(clone.root, "origin/later")[1] == ""
    with pytest.raises(UserError, match="fetch it first: git fetch --all"):
        common_ancestor(clone.root, "some/branch")


def test_another_history_is_no_shallow_clone(project: Project) -> None:
    project.git("switch", "-q", "--orphan", "other")
    project.git("commit", "-qm", "Begin", "--allow-empty")
    assert "have no common commit" in common_ancestor(project.root, "main")[1]


COMMANDS = [["report", "main"], ["sweep", "train.seed=1,2"], ["compare", "main"]]


@pytest.mark.parametrize("command", COMMANDS, ids=[c[0] for c in COMMANDS])
def test_a_checkout_of_another_user_is_not_mistaken_for_a_missing_revision(
    command: list[str], project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for such tests
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "fatal: detected dubious ownership in repository" in said, "git's own words"
    assert f"git config --global --add safe.directory {project.root}" in said.splitlines()[-1]
    assert "fetch" not in said


@pytest.mark.parametrize("command", [*COMMANDS, ["stale"]], ids=[*(c[0] for c in COMMANDS), "stale"])
def test_a_zip_download_is_not_mistaken_for_a_missing_revision(
    command: list[str], project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(project.root / ".git")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.root.parent))
    assert main(command) in (1, 2)
    said = capsys.readouterr().err
    assert "not a git repository" in said
    assert "get the project with git clone" in said
    assert "fetch" not in said


def test_a_machine_without_git(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project.root))
    with pytest.raises(UserError, match="there is no such command; install git"):
        common_ancestor(project.root, "main")


def test_pictures_that_are_not_shared_are_named(project: Project) -> None:
    """From dvc.yaml and dvc.lock, whatever the provider is called."""
    assert "Not shared" not in build(project.root, "main").markdown()
    branch(project)
    run_again(project, provider="archive")
    text = build(project.root, "main").markdown()
    assert "Not shared (`push: false` in dvc.yaml): `data/crops/local/test`, `data/crops/local/train`" in text


@pytest.mark.parametrize("value", ["<script>alert(1)</script>", "a|b", "`x` & <!--"])
def test_texts_of_the_data_stay_texts_in_the_report(project: Project, value: str) -> None:
    branch(project)
    run_again(project, archive__path=value)
    path = project.root / "metrics/validation/grid.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(report | {"success": False, "results": [{"sentence": value}]}), encoding="utf-8")
    text = build(project.root, "main").markdown()
    for part in ("<script>", "<!--"):
        assert part not in text
    row = next(line for line in text.splitlines() if line.startswith("| `archive.path` |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 4


def test_a_file_that_is_not_utf8_is_named(project: Project, tmp_path: Path) -> None:
    clone = project.clone(tmp_path / "clone")
    path = clone.root / "params.yaml"
    path.write_bytes(path.read_bytes() + "# \xe5\n".encode("latin-1"))
    assert any("params.yaml: line" in line and "not encoded in UTF-8" in line for line in findings(clone.root))
    clone.commit("Save in Latin-1")
    with pytest.raises(UserError, match=r"params.yaml of \w+: line \d+ is not encoded in UTF-8"):
        build(clone.root, "HEAD")


def test_a_failed_check_fails(project: Project) -> None:
    path = project.root / "metrics/validation/grid.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    result = {"success": False, "sentence": "lat is between -90 and 90", "unexpected_count": 4}
    path.write_text(json.dumps(report | {"success": False, "failed": 1, "results": [result]}), encoding="utf-8")
    text = build(project.root, "main").markdown()
    assert "- check grid: FAILED, 1 of 3 expectations" in text
    assert "| `grid` | **FAILED** | 2 of 3 |" in text
    assert "- grid: lat is between -90 and 90: 4 rows do not meet it" in text


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


def side(value: object, half: float | None = None, key: str = "evaluate.recall", **params: float) -> Results:
    metrics = {key: value}
    if half is not None and isinstance(value, float):
        metrics |= {f"{key}_ci_low": value - half, f"{key}_ci_high": value + half}
    return Results(metrics, {f"guard.{k.replace('__', '.')}": v for k, v in params.items()}, {})  # type: ignore[arg-type]


def test_guard_without_an_interval_treats_every_drop_as_clear() -> None:
    assert guard_failures(side(0.8), side(0.7, evaluate__recall=0.05))
    assert not guard_failures(side(0.8), side(0.76, evaluate__recall=0.05))


def test_guard_of_photos_says_nothing_of_a_collection_without_photos() -> None:
    limit = {"evaluate__model__validation__photos__recall_at_1_25m": 0.01}
    assert not guard_failures(side(0.8), side(0.8, **limit))
    key = "evaluate.model.validation.photos.recall_at_1_25m"
    assert guard_failures(side(0.8, key=key), side(0.7, key=key, **limit))
    assert guard_failures(side(0.8, key=key), side(0.8, **limit)), "photos that are lost are not overlooked"


def test_guard_of_an_error_fails_if_it_grows() -> None:
    limit = {"evaluate__error_median_m": 5.0}
    key = "evaluate.error_median_m"
    assert guard_failures(side(100.0, key=key), side(110.0, key=key, **limit))
    assert not guard_failures(side(110.0, key=key), side(100.0, key=key, **limit))


@pytest.mark.parametrize(
    ("key", "worse", "better"),
    [
        ("evaluate.model.test.position.aurc_margin", 0.2, 0.1),
        ("evaluate.model.test.position.aurc_by_chance", 0.2, 0.1),
        ("headline.model.test_aurc_margin", 0.2, 0.1),
        ("evaluate.index.test.recall_at_1_25m_lost", 0.02, 0.0),
        ("evaluate.index.test.recall_at_10_25m_lost", 0.02, 0.0),
        ("headline.model.test_radius_coverage", 0.8, 0.9),
        ("evaluate.model.test.position.coverage", 0.8, 0.9),
        ("headline.model.test_radius_mean_m", 90.0, 80.0),
        ("evaluate.model.test.position.radius_median_m", 90.0, 80.0),
        ("headline.model.test_error_p90_m", 90.0, 80.0),
        ("evaluate.model.test.city.error_wrong_median_m", 90.0, 80.0),
        ("evaluate.model.test.city.recall_at_1_place_direction", 0.8, 0.9),
        ("headline.model.test_newest_vs_before_2015_r1", 0.8, 0.9),
        ("evaluate.model.test.position.answered_right_25m", 0.8, 0.9),
        ("index.recall@10_against_exact", 0.98, 0.99),
    ],
)
def test_guard_fails_what_gets_worse_and_passes_what_gets_better(key: str, worse: float, better: float) -> None:
    limit = {key.replace(".", "__"): 0.001}
    assert "worse where 0.001 is allowed" in guard_failures(side(better, key=key), side(worse, key=key, **limit))[0]
    assert guard_failures(side(worse, key=key), side(better, key=key, **limit)) == []


@pytest.mark.parametrize("key", ["evaluate.model.test.city.queries", "evaluate.model.test.position.coverage_stated"])
def test_guard_on_a_metric_that_is_neither_says_so(key: str) -> None:
    limit = {key.replace(".", "__"): 1.0}
    (line,) = guard_failures(side(0.9, key=key), side(0.8, key=key, **limit))
    assert "neither a larger nor a smaller value is better" in line
    assert [c.verdict for c in changes(side(0.9, 0.01, key), side(0.5, 0.01, key))] == [""]


def test_guard_on_a_metric_that_is_gone_or_mistyped() -> None:
    assert "is gone" in guard_failures(side(0.8), side(None, evaluate__recall=0.1))[0]
    assert "the nearest is 'evaluate.recall'" in guard_failures(side(0.8), side(0.8, evaluate__recal=0.1))[0]
    assert guard_failures(Results({}, {}, {}), Results({}, {"guard.evaluate.recall": 0.1}, {})) == []


def test_one_clear_side_is_not_enough() -> None:
    """0.75 lies outside of the base's interval, but the base lies within the wide one around 0.75."""
    assert not Change("recall", 0.8, 0.75, (0.79, 0.81), (0.65, 0.85)).is_clear
    assert [c.verdict for c in changes(side(0.8, 0.01), side(0.75, 0.01))] == ["worse"]


def test_a_long_report_keeps_the_verdict_and_names_what_it_left_out() -> None:
    report = Report("title", failures=["bad"])
    report.add("Metrics", "m" * 500)
    report.add("Pipeline", "p" * 500, rank=3)
    text = report.markdown(limit=700)
    assert len(text) <= 700
    assert "- bad" in text
    assert "mmm" in text
    assert "Left out to save space: Pipeline." in text
