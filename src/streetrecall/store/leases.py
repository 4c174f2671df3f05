"""Folders of a cache that several processes share.

A process holds a lease on a folder while it reads or writes there. The oldest folders that nobody holds are removed
when the next lease begins. All of this happens under one lock for the whole cache, so no process sees a folder vanish
between two steps. The locks are those of the operating system (flock): they end with the process that holds them,
also when it is killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT = 3  # folders without a lease that stay
LEASE = "lease"  # file in each folder; its lock is the lease


@contextmanager
def lease(folder: Path) -> Iterator[Path]:
    """Create ``folder`` if it is missing, and keep it from removal, by any process, for as long as the block runs.

    The folder becomes the newest of its parent. Of its siblings without a lease, all but the `KEPT` newest are removed.
    """
    with _locked(folder.parent):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LEASE).open("ab")
        fcntl.flock(file, fcntl.LOCK_SH)
        os.utime(folder)
        _remove_oldest(folder.parent)
    try:
        yield folder
    finally:
        file.close()


def discard(folder: Path) -> None:
    """Remove ``folder`` if it exists and nobody holds a lease on it."""
    with _locked(folder.parent):
        if not _leased(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Only one process at a time is in this block for the same ``cache``."""
    cache.mkdir(parents=True, exist_ok=True)
    with cache.with_name(f"{cache.name}.lock").open("ab") as file:  # beside the cache, which holds folders only
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_oldest(cache: Path) -> None:
    free = [folder for folder in cache.iterdir() if folder.is_dir() and not _leased(folder)]
    for folder in sorted(free, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _leased(folder: Path) -> bool:
    try:
        with (folder / LEASE).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
