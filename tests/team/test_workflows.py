"""The workflow files: valid, safe, and every `run:` block does what it says, with a stub in place of the forge."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from smallproject import ROOT, Project

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))
    return content


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in load(name)["jobs"].values() for step in job["steps"]]


def step(name: str, title: str) -> dict[str, Any]:
    found = [s for s in steps(name) if s.get("name") == title]
    assert len(found) == 1, f"{name} has {len(found)} steps named {title}"
    return found[0]


def run_block(block: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As the forge's runner does."""
    assert "${{" not in block, "an expression within a script is an injection; hand it over by env"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", block],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def stub(folder: Path, name: str) -> Path:
    """A command that writes down how it was called."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_files_are_valid_and_safe() -> None:
    names = [str(path) for path in WORKFLOWS]
    assert len(names) == 2
    subprocess.run([BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *names], check=True)
    subprocess.run([BIN / "zizmor", "--offline", "--quiet", "--persona", "pedantic", *names], check=True)


def test_actions_are_pinned_and_permissions_are_least() -> None:
    for path in WORKFLOWS:
        content = load(path.name)
        assert content["permissions"] == {"contents": "read"}
        for each in steps(path.name):
            assert ("uses" in each) != ("run" in each)
            if "uses" in each:
                assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", each["uses"]), each["uses"]
    assert load("report.yml")["jobs"]["report"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "permissions" not in load("tests.yml")["jobs"]["tests"]


def test_every_supported_version_of_python_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert load("tests.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"] == supported


@pytest.fixture
def runner(project: Project, tmp_path: Path) -> tuple[Project, dict[str, str]]:
    """The checkout that a pull request gets, set up, with stubs for gh and make."""
    project.git("switch", "-qc", "idea")
    project.set(train__seed=390)
    project.dvc("repro", "-q")
    project.commit("Train longer")
    clone = project.clone(tmp_path / "clone")
    (clone.root / ".venv").symlink_to(BIN.parent)
    stubs = tmp_path / "stubs"
    for name in ("gh", "make"):
        stub(stubs, name)
    env = project.env | {
        "PATH": f"{stubs}{os.pathsep}{project.env['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "BASE": "origin/main",
        "NUMBER": "7",
        "REPOSITORY": "team/streetrecall",
        "GH_TOKEN": "token",
    }
    return clone, env


def test_set_up_and_report_and_comment(runner: tuple[Project, dict[str, str]], tmp_path: Path) -> None:
    clone, env = runner
    blocks = [s["run"] for s in steps("report.yml") if "run" in s]
    assert len(blocks) == 3
    for block in blocks:
        done = run_block(block, clone.root, env)
        assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert calls == [
        "make setup",
        "gh pr comment 7 --repo team/streetrecall --body-file report.md --edit-last --create-if-none",
    ]
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert summary == (clone.root / "report.md").read_text(encoding="utf-8")
    assert "**Passes.**" in summary
    assert "| better |" in summary
    assert (clone.root / "plots/recall.svg").is_file()


def test_the_job_fails_with_its_report_written(runner: tuple[Project, dict[str, str]], tmp_path: Path) -> None:
    clone, env = runner
    clone.set(train__seed=200)
    done = run_block(step("report.yml", "Report")["run"], clone.root, env)
    assert done.returncode == 1
    assert "**Fails:**" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert run_block(step("report.yml", "Comment")["run"], clone.root, env).returncode == 0
    assert "gh pr comment" in (tmp_path / "calls").read_text(encoding="utf-8")


def test_the_job_fails_in_words_without_a_report(runner: tuple[Project, dict[str, str]], tmp_path: Path) -> None:
    clone, env = runner
    done = run_block(step("report.yml", "Report")["run"], clone.root, env | {"BASE": "origin/nowhere"})
    assert done.returncode == 2
    assert "'origin/nowhere' is not a revision" in done.stderr
    assert "there is no report" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_a_fork_gets_the_summary_only() -> None:
    comment = step("report.yml", "Comment")
    assert "github.event.pull_request.head.repo.full_name == github.repository" in comment["if"]
    assert "always()" in comment["if"]
    assert "pull_request_target" not in (ROOT / ".github/workflows/report.yml").read_text(encoding="utf-8")


def test_the_tests_workflow_runs_ci(tmp_path: Path) -> None:
    """.ci/run takes the archive beside the clone, and runs lint, tests and the small pipeline, in that order."""
    (tmp_path / "shared/archive").mkdir(parents=True)
    clone = tmp_path / "clone"
    (clone / ".ci").mkdir(parents=True)
    (clone / ".ci/run").write_bytes((ROOT / ".ci/run").read_bytes())
    make = stub(tmp_path / "stubs", "make")
    make.write_text('#!/bin/sh\necho "make $* $STREETRECALL_ARCHIVE" >> "$CALLS"\n', encoding="utf-8")
    env = {"PATH": f"{make.parent}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "CI": "true"}
    [block] = [s["run"] for s in steps("tests.yml") if "run" in s]
    assert run_block(block, clone, env).returncode == 0
    folder = tmp_path / "shared/archive"
    assert (tmp_path / "calls").read_text(encoding="utf-8").splitlines() == [
        f"make lint {folder}",
        f"make test {folder}",
        f"make test-pipeline {folder}",
    ]
    make.write_text('#!/bin/sh\n[ "$1" = lint ]\n', encoding="utf-8")
    assert run_block(block, clone, env).returncode == 1, "a failure is not swallowed"
