"""The workers' output is passed on, and a worker that stays behind keeps nobody waiting."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from streetrecall.review import sweep

STAYS = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(40)'])"


def test_what_a_command_says_and_its_code_are_passed_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    says = "import os, sys; print(os.getcwd()); print('x' * 200_000, file=sys.stderr); sys.exit(3)"
    assert sweep.shown([sys.executable, "-c", says], tmp_path) == 3
    said = capsys.readouterr().err
    assert str(tmp_path) in said
    assert said.count("x") >= 200_000


def test_a_worker_that_stays_behind_keeps_nobody_waiting(tmp_path: Path) -> None:
    ours = f"""
from pathlib import Path
import sys
from streetrecall.review import sweep
sys.exit(sweep.shown([sys.executable, "-c", {STAYS + "; print('done')"!r}], Path.cwd()))
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", ours], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "done\n")
    assert time.monotonic() - began < 30


def test_it_is_passed_on_at_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    heard: list[tuple[float, str]] = []
    monkeypatch.setattr(sys.stderr, "write", lambda text: heard.append((time.monotonic(), text)))
    says = "import os, time; print('early'); time.sleep(2); [os.write(1, bytes([b])) for b in 'é█'.encode()]"
    assert sweep.shown([sys.executable, "-c", says], tmp_path) == 0
    assert "".join(text for _, text in heard) == "early\né█"
    assert heard[-1][0] - heard[0][0] > 1
