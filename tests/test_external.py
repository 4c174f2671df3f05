"""Commands that are run: their output is passed on, their errors keep their words."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from streetrecall.errors import UserError
from streetrecall.external import GitError, dvc, git, watch

STAYS = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(40)'])"


def test_output_and_exit_code_are_passed_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    says = "import os, sys; print(os.getcwd()); print('x' * 200_000, file=sys.stderr); sys.exit(3)"
    assert watch([sys.executable, "-c", says], tmp_path) == 3
    said = capsys.readouterr().err
    assert str(tmp_path) in said
    assert said.count("x") >= 200_000


def test_a_worker_that_outlives_the_command_delays_nobody(tmp_path: Path) -> None:
    ours = f"""
from pathlib import Path
import sys
from streetrecall.external import watch
sys.exit(watch([sys.executable, "-c", {STAYS + "; print('done')"!r}], Path.cwd()))
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", ours], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "done\n")
    assert time.monotonic() - began < 30


def test_output_is_passed_on_at_once_and_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    heard: list[tuple[float, str]] = []
    monkeypatch.setattr(sys.stderr, "write", lambda text: heard.append((time.monotonic(), text)))
    says = "import os, time; print('early'); time.sleep(2); [os.write(1, bytes([b])) for b in 'é█'.encode()]"
    assert watch([sys.executable, "-c", says], tmp_path) == 0
    assert "".join(text for _, text in heard) == "early\né█"
    assert heard[-1][0] - heard[0][0] > 1


def test_git_and_dvc_are_quoted_when_they_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("LANGUAGE", "de")  # advice is found by git's English words
    with pytest.raises(GitError, match="git status: fatal: not a git repository") as error:
        git(tmp_path, "status")
    assert error.value.code == 128
    with pytest.raises(UserError, match=r"dvc status: ERROR: you are not inside of a DVC repository"):
        dvc(tmp_path, "status")


def test_names_that_are_not_utf8_pass(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "caf\udce9").write_text("", encoding="utf-8")
    assert git(tmp_path, "ls-files", "--others", "-z") == "caf\udce9\0"
