"""Set-up works whatever the checkout's folder is called and whatever the user's shell exports.

A stand-in for Python takes the place of the real one, notes how it is called and what its environment holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
case "$*" in
*"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp "$0" .venv/bin/uv ;;
*"-m pip"* | *"pip install"*) env >>"$NOTES/environment"; echo "${PIP_CONFIG_FILE:-} $*" >>"$NOTES/calls" ;;
esac
"""
FOLDERS = ("C# projects", "a b", "it's", "50% & more", "Malmö", "(1)", "-x", "a;b", "[x]*")
SETTINGS = {
    "PYTHONPATH": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "PYTHONUSERBASE": "/nowhere",
    "CDPATH": "/:..:/usr",
    "PIP_USER": "1",
    "PIP_TARGET": "/nowhere",
    "PIP_PREFIX": "/nowhere",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "UV_SYSTEM_PYTHON": "1",
    "UV_TARGET": "/nowhere",
}
HARMLESS = {"PYTHONUSERBASE"}  # PYTHONNOUSERSITE switches it off


def set_up(root: Path, notes: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `make setup` in a checkout at ``root`` as a shell with ``settings`` would."""
    root.mkdir(parents=True)
    notes.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copyfile(ROOT / name, root / name)
    shutil.copytree(ROOT / "scripts", root / "scripts")
    python = notes / "python3.11"
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": str(notes), "PYTHON": str(python), "NOTES": str(notes)}
    return subprocess.run(
        ["make", "--no-print-directory", "setup"],
        cwd=root,
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_any_folder(folder: str, tmp_path: Path) -> None:
    root = tmp_path / folder / "streetrecall"
    done = set_up(root, tmp_path / "notes")
    assert done.returncode == 0, done.stderr
    assert (root / ".venv/.ready").exists()
    calls = (tmp_path / "notes/calls").read_text(encoding="utf-8").splitlines()
    again = subprocess.run(
        ["make", "--no-print-directory", "setup"], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert again.stdout == ""
    assert (tmp_path / "notes/calls").read_text(encoding="utf-8").splitlines() == calls


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_settings_of_the_shell_do_not_reach_the_installers(name: str, tmp_path: Path) -> None:
    done = set_up(tmp_path / "checkout", tmp_path / "notes", **{name: SETTINGS[name]})
    assert done.returncode == 0, done.stderr
    seen = (tmp_path / "notes/environment").read_text(encoding="utf-8").splitlines()
    assert "PYTHONNOUSERSITE=1" in seen
    assert name in HARMLESS or f"{name}={SETTINGS[name]}" not in seen


def test_pip_installs_without_the_users_configuration(tmp_path: Path) -> None:
    """It may name a target, a prefix or a root; the download needs it, for the index that it names."""
    assert set_up(tmp_path / "checkout", tmp_path / "notes").returncode == 0
    calls = (tmp_path / "notes/calls").read_text(encoding="utf-8").splitlines()
    of_pip = [call.split("-m pip ") for call in calls if "-m pip " in call]
    assert [(before.strip(), after.split()[0]) for before, after in of_pip] == [
        ("", "download"),
        ("/dev/null", "install"),
    ]


def test_a_clone_with_windows_line_ends_can_be_set_up(tmp_path: Path) -> None:
    """`.gitattributes` keeps the line ends of scripts and of what DVC hashes, whatever core.autocrlf says."""
    for command in (
        ["git", "clone", "-q", "--no-checkout", "--depth", "1", f"file://{ROOT}", "clone"],
        ["git", "-C", "clone", "-c", "core.autocrlf=true", "checkout", "-q", "HEAD", "--", "."],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    texts = [
        p for p in (tmp_path / "clone").rglob("*") if p.suffix in {".sh", ".py", ".yaml", ".json", ".lock", ".csv"}
    ]
    assert len(texts) > 100
    assert [str(p) for p in texts if b"\r\n" in p.read_bytes()] == []
