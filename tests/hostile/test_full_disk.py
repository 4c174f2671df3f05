"""A disk that takes no more is one clear message that names the file, not a traceback."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def limited(bytes_: int) -> None:
    """In the child: no file may grow beyond ``bytes_``, so that a write fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))


def run(folder: Path, limit: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streetrecall.cli", *command], cwd=folder, capture_output=True, text=True, timeout=120,
        check=False, preexec_fn=lambda: limited(limit), env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def test_a_full_workspace(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    done = run(tmp_path, 4096, "set", "train.seed=77")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    assert (tmp_path / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


@pytest.mark.parametrize("limit", [0, 4096, 40_000])
def test_a_full_store(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / "store"))
    done = run(ROOT, limit, "scrape-status")
    if done.returncode:
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert str(tmp_path / "store") in done.stderr
    else:
        assert limit == 40_000
