"""Several processes share a cache: none removes a folder that another one reads or writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streetrecall.store import leases
from streetrecall.store.leases import discard, lease

# Takes leases on folders of its own, one after the other, and reads back what it wrote there.
WORKER = """
import sys
from pathlib import Path
from streetrecall.store.leases import lease
cache, name = Path(sys.argv[1]), sys.argv[2]
for i in range(150):
    with lease(cache / f"{name}-{i % 7}") as folder:
        for part in range(3):
            (folder / f"{part}").write_text(f"{i}")
        assert [(folder / f"{part}").read_text() for part in range(3)] == [f"{i}"] * 3
"""
# Holds a lease until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from streetrecall.store.leases import lease
with lease(Path(sys.argv[1])) as folder:
    (folder / "value").write_text("mine")
    print("held", flush=True)
    time.sleep(600)
"""


def make(cache: Path, *names: str) -> None:
    """Folders without a lease, each newer than the one before."""
    for number, name in enumerate(names):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (number, number))


def names(cache: Path) -> set[str]:
    return {folder.name for folder in cache.iterdir()}


def test_processes_that_clean_up_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, tmp_path / "cache", f"w{n}"], stderr=subprocess.PIPE, text=True)
        for n in range(5)
    ]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 5, errors
    with lease(tmp_path / "cache" / "last"):
        assert len(names(tmp_path / "cache")) == leases.KEPT + 1


def test_a_folder_that_another_process_uses_stays_however_old_and_goes_when_it_was_killed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with subprocess.Popen([sys.executable, "-c", HOLDER, cache / "held"], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        make(cache, "a", "b", "c", "d", "e")
        os.utime(cache / "held", (0, 0))
        with lease(cache / "mine"):
            assert names(cache) == {"held", "mine", "c", "d", "e"}
        discard(cache / "held")
        assert (cache / "held" / "value").read_text() == "mine"
        holder.send_signal(signal.SIGKILL)
    os.utime(cache / "held", (0, 0))
    with lease(cache / "other"):
        assert names(cache) == {"other", "mine", "d", "e"}


def test_two_leases_on_one_folder_end_one_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "shared"
    with lease(folder):
        with lease(folder):
            discard(folder)
        discard(folder)
        assert folder.is_dir()
    discard(folder)
    assert not folder.exists()
    discard(folder)


def test_a_lease_makes_a_folder_the_newest(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    make(cache, "a", "b", "c")
    with lease(cache / "a"):
        pass
    with lease(cache / "d"), lease(cache / "e"):
        pass
    with lease(cache / "f"):
        assert names(cache) == {"a", "d", "e", "f"}
    assert time.time() - (cache / "a").stat().st_mtime < 60


def test_a_lease_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lease(tmp_path / "cache" / "a"):
        raise RuntimeError
    discard(tmp_path / "cache" / "a")
    assert not names(tmp_path / "cache")
