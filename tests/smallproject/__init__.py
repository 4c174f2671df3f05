"""A small DVC project of the pipeline's shape, with this project's own params.yaml and .dvc/config."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from streetrecall.params.edit import override

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
DATA_IGNORE = "*\n!.gitignore\n"


@dataclass(frozen=True)
class Project:
    """A clone, and how to run commands in it as a person would."""

    root: Path
    env: dict[str, str]

    def run(self, *command: str, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.root, env=self.env | env, capture_output=True, text=True, timeout=300, check=False
        )
        if ok:
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("dvc", *arguments, ok=ok, **env)

    def git(self, *arguments: str, ok: bool = True) -> str:
        return self.run("git", *arguments, ok=ok).stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def set(self, **changes: object) -> None:
        """Change params.yaml; a double underscore means a dot."""
        override(self.root / "params.yaml", {key.replace("__", "."): value for key, value in changes.items()})

    def ran(self) -> list[str]:
        """The stages that really ran here, in order."""
        log = self.root / "ran.log"
        return log.read_text(encoding="utf-8").split() if log.exists() else []

    def clone(self, to: Path, *options: str) -> Project:
        subprocess.run(["git", "clone", "-q", *options, f"file://{self.root}", str(to)], check=True, env=self.env)
        return Project(to, self.env)


@pytest.fixture(scope="session")
def team_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A person's environment: an empty home, an identity for git, this environment's commands first."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\n\tname = A Teammate\n\temail = teammate@example.org\n[init]\n\tdefaultBranch = main\n"
        "[advice]\n\tdetachedHead = false\n",
        encoding="utf-8",
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "GIT_", "DVC_", "GITHUB_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in ("STREETRECALL_ARCHIVE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # make test sets the latter
        kept.pop(name, None)
    return kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_GLOBAL_CONFIG_DIR": str(home),
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "DVC_NO_ANALYTICS": "true",
    }


@pytest.fixture(scope="session")
def project_template(tmp_path_factory: pytest.TempPathFactory, team_env: dict[str, str]) -> Path:
    root = tmp_path_factory.mktemp("template") / "project"
    root.mkdir()
    project = Project(root, team_env)
    project.git("init", "-q")
    project.dvc("init", "-q")
    shutil.copyfile(ROOT / ".dvc/config", root / ".dvc/config")
    shutil.copytree(ROOT / ".dvc/unshared", root / ".dvc/unshared")
    shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
    shutil.copyfile(HERE / "skeleton.py", root / "stages.py")
    shutil.copyfile(HERE / "dvc.yaml.txt", root / "dvc.yaml")
    for folder in ("data", "models"):
        (root / folder).mkdir()
        (root / folder / ".gitignore").write_text(DATA_IGNORE, encoding="utf-8")
    (root / ".gitignore").write_text("ran.log\n", encoding="utf-8")
    project.set(train__seed=300, guard={"evaluate.test.recall_at_1": 0.01})
    project.dvc("repro", "-q")
    project.commit("Run the pipeline")
    return root


@pytest.fixture
def project(project_template: Path, team_env: dict[str, str], tmp_path: Path) -> Project:
    """A repository on branch main with one commit, its data and cache; test recall at 1 is 0.8 (0.78 to 0.82)."""
    root = tmp_path / "project"
    shutil.copytree(project_template, root, symlinks=True)
    (root / "ran.log").unlink()
    return Project(root, team_env)
