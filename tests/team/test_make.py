"""The make targets and their scripts, as far as they go without making an environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from smallproject import ROOT, Project

from streetrecall.cli import main
from streetrecall.errors import UserError
from streetrecall.params.edit import override
from streetrecall.params.schema import load

TOOLS = ("sh", "bash", "make", "cat", "cksum", "dirname", "sed", "awk", "env", "git", "grep", "rm", "id", "tr", "pwd")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What set-up needs of a checkout."""
    root = tmp_path / "a checkout"
    root.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "params.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    shutil.copytree(ROOT / "scripts", root / "scripts")
    return root


def bare_path(folder: Path, *more: str) -> str:
    """A PATH that holds the shell's tools and nothing else."""
    folder.mkdir()
    for name in (*TOOLS, *more):
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return str(folder)


def run(checkout: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    said = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    phony = text.split(".PHONY: ", 1)[1].split("\n", 1)[0].split()
    assert [line.split()[1] for line in said.splitlines()] == phony
    assert {"setup", "repro", "test", "lint", "bench", "clean", "plots", "docs", "sweep", "lock"} <= set(phony)


def test_without_python_one_line_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout, "make", "setup", PATH=bare_path(tmp_path / "bin"), HOME=str(tmp_path))
    assert done.returncode
    [line] = [line for line in done.stderr.splitlines() if line.startswith("setup: ")]
    assert line.startswith("setup: Python 3.11, 3.12 or 3.13 is missing; install one (Debian: apt install python3 ")


def test_a_python_of_the_wrong_version_is_refused(checkout: Path, tmp_path: Path) -> None:
    path = bare_path(tmp_path / "bin")
    fake = tmp_path / "python3.14"
    fake.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    fake.chmod(0o755)
    done = run(checkout, "make", "setup", PATH=path, HOME=str(tmp_path), PYTHON=str(fake))
    assert f"setup: PYTHON={fake} is not Python 3.11, 3.12 or 3.13" in done.stderr
    assert not (checkout / ".venv").exists()


def test_without_the_venv_module_one_line_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    path = bare_path(tmp_path / "bin")
    fake = tmp_path / "bin/python3.11"
    fake.write_text(
        f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n', encoding="utf-8"
    )
    fake.chmod(0o755)
    done = run(checkout, "make", "setup", PATH=path, HOME=str(tmp_path))
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"is missing; install it: apt install python{version}-venv" in done.stderr
    assert done.stderr.count("setup:") == 1


def test_without_a_browser_one_line_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout, "sh", "scripts/chromium.sh", PATH=bare_path(tmp_path / "bin"), HOME=str(tmp_path))
    if Path("/Applications/Google Chrome.app").exists():
        pytest.skip("Chrome is installed where it is always found")
    assert done.returncode == 1
    assert "apt install chromium chromium-driver" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_apt_is_used_where_it_can_be(checkout: Path, tmp_path: Path) -> None:
    path = bare_path(tmp_path / "bin")
    apt = tmp_path / "bin/apt-get"
    apt.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n'
        f'case "$*" in *install*) for n in chromium chromedriver; do ln -s /bin/true {tmp_path}/bin/$n; done;; esac\n',
        encoding="utf-8",
    )
    apt.chmod(0o755)
    (tmp_path / "bin/id").unlink()
    (tmp_path / "bin/id").write_text("#!/bin/sh\necho 0\n", encoding="utf-8")
    (tmp_path / "bin/id").chmod(0o755)
    (tmp_path / "bin/ln").symlink_to(str(shutil.which("ln")))
    done = run(checkout, "sh", "scripts/chromium.sh", PATH=path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "install --no-install-recommends --yes chromium chromium-driver" in (tmp_path / "calls").read_text()


def test_the_lock_names_no_host_and_hashes_everything() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "#    make lock\n" in text
    pins = [line for line in text.splitlines() if line and line[0].isalnum()]
    assert len(pins) > 200
    assert all("==" in line and line.endswith("\\") for line in pins)
    assert text.count("\nsetuptools==") == 1, "the build backend is installed from the lock"


def repro(project: Project, stubs: Path, **env: str) -> subprocess.CompletedProcess[str]:
    shutil.copytree(ROOT / "scripts", project.root / "scripts")
    stubs.mkdir()
    (stubs / "streetrecall").write_text(
        f'#!/bin/sh\n[ "$1" = summary ] && exec echo SUMMARY\nexec {Path(sys.executable).parent}/streetrecall "$@"\n',
        encoding="utf-8",
    )
    (stubs / "streetrecall").chmod(0o755)
    path = f"{stubs}{os.pathsep}{project.env['PATH']}"
    return project.run("sh", "scripts/repro.sh", ok=False, PATH=path, **env)


def test_repro_takes_an_archive_from_the_environment(project: Project, tmp_path: Path) -> None:
    folder = project.root.parent / "own 'pictures'"
    folder.mkdir()
    done = repro(project, tmp_path / "stubs", STREETRECALL_ARCHIVE="../own 'pictures'", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("SUMMARY")
    assert project.ran() == ["crop", "train", "evaluate"]
    text = (project.root / "params.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["archive"]["path"] == str(folder)
    assert "# " in text
    assert load(project.root / "params.yaml").provider == "archive"


def test_repro_names_an_archive_that_is_not_there(project: Project, tmp_path: Path) -> None:
    done = repro(project, tmp_path / "stubs", STREETRECALL_ARCHIVE="../nowhere")
    assert done.returncode == 2
    assert "../nowhere: there is no such folder" in done.stderr
    assert project.git("diff", "--stat") == ""


def test_set_keeps_comments_and_refuses_what_params_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "params.yaml"
    original = (ROOT / "params.yaml").read_text(encoding="utf-8")
    path.write_text(original, encoding="utf-8")
    seed = load(path).train.seed
    assert not override(path, {"train.seed": seed}), "nothing to change"
    assert path.read_text(encoding="utf-8") == original
    assert main(["set", "--params", str(path), f"train.seed={seed + 1}", "archive.path=/a b"]) == 0
    changed = path.read_text(encoding="utf-8")
    assert load(path).archive.path == "/a b"
    old, new = original.splitlines(), changed.splitlines()
    assert len(old) == len(new)
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 2, "every other line is as it was"
    with pytest.raises(UserError, match=r"unknown key 'train.sede'; the nearest valid key is 'train.seed'"):
        override(path, {"train.sede": 1})
    assert main(["set", "--params", str(path), "train.seed"]) == 2
    assert "'train.seed' is not KEY=VALUE" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == changed


def test_hooks_check_format_style_and_the_lock(project: Project) -> None:
    shutil.copyfile(ROOT / ".pre-commit-config.yaml", project.root / ".pre-commit-config.yaml")
    shutil.copyfile(ROOT / "pyproject.toml", project.root / "pyproject.toml")
    (project.root / ".gitignore").write_text("ran.log\n.venv\n", encoding="utf-8")
    (project.root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    project.run("pre-commit", "install")
    project.commit("Set up hooks")

    (project.root / "new.py").write_text("x  = {  }\n", encoding="utf-8")
    project.git("add", "new.py")
    refused = project.run("git", "commit", "-qm", "Sloppy", ok=False)
    assert refused.returncode
    assert (project.root / "new.py").read_text(encoding="utf-8") == "x = {}\n"
    project.git("add", "new.py")
    project.git("commit", "-qm", "Tidy")

    project.set(train__seed=301)
    project.git("add", "-A")
    refused = project.run("git", "commit", "-qm", "Forget to run", ok=False)
    assert refused.returncode
    assert "parameter train.seed is modified" in refused.stdout + refused.stderr
    project.dvc("repro", "-q")
    project.git("add", "-A")
    project.git("commit", "-qm", "Run it")
