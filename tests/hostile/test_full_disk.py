"""A disk that takes no more is one clear message that names the file, not a traceback."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def limited(bytes_: int) -> None:
    """In the child: no file may grow beyond ``bytes_``, so that a write fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))


def run(folder: Path, limit: int, *command: str) -> subprocess.CompletedProcess[str]:
    return started(folder, command, lambda: limited(limit))


def started(folder: Path, command: Sequence[str], first: Callable[[], None] | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streetrecall.cli", *command], cwd=folder, capture_output=True, text=True, timeout=120,
        check=False, preexec_fn=first, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def test_a_full_workspace(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    done = run(tmp_path, 4096, "set", "train.seed=77")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "params.yaml: File too large; write to" in done.stderr
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


@pytest.mark.parametrize("limit", [0, 8192])
def test_a_table_that_the_disk_does_not_take(limit: int, tmp_path: Path) -> None:
    outputs = ["--grid", "g/grid.parquet", "--plot", "grid.png", "--metrics", "grid.json"]
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = run(tmp_path, limit, "grid", "--cities", str(ROOT / "data/cities"), *outputs)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "streetrecall grid: g/grid.parquet: File too large; write to a disk that" in done.stderr
    assert not list((tmp_path / "g").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False, capture_output=True
    ).returncode
    if mounted:
        pytest.skip("only root may mount a disk here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_good_ledger_on_a_full_disk(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREETRECALL_STORE", str(small_disk / "store"))
    assert not started(ROOT, ["scrape-status"], None).returncode
    with (small_disk / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match="No space left"):
        while True:
            rest.write(bytes(4096))
    done = started(ROOT, ["scrape-status"], None)
    assert done.returncode == 2
    assert "ledger.sqlite: the disk is full or fails" in done.stderr
    assert "move it away" not in done.stderr
    (small_disk / "rest").unlink()
    assert not started(ROOT, ["scrape-status"], None).returncode
