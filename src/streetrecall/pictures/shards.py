"""Pictures in deterministic, uncompressed tar shards, read back by byte offset.

A shard holds whole places: a team adds places by adding shards, and DVC moves tens of files where there would be tens
of thousands. The tar (POSIX ustar, sorted, no owner, no time) is a pure function of names and bytes, and anyone can
unpack it; the pipeline itself reads ``size`` bytes at ``offset``, which stand in the table beside the shards.
"""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from streetrecall.errors import UserError
from streetrecall.files import whole, write_text

PLACES_PER_SHARD = 8
KEPT_OPEN = 64  # shards at once; systems allow from 256 open files

# Folders of shards are never empty: DVC warns of empty ones. Other words here, and .dvc/unshared is to be made anew.
README = {
    "shared": "Shards of pictures that may be given away; empty but for this page if there are none.\n",
    "local": "Shards of pictures that may not be given away: dvc push leaves this folder out. Often there are none.\n",
}


@dataclass(frozen=True)
class Member:
    """Where a picture lies: ``size`` bytes at ``offset`` of a shard."""

    name: str
    offset: int
    size: int


def shard_name(subset: str, level: int, index_in_level: int) -> str:
    """Name of the shard of the place that is number ``index_in_level`` of its level: a new level adds shards only.

    >>> shard_name("test_v1", 1, 17)
    'test_v1-level1-00002.tar'
    """
    return f"{subset}-level{level}-{index_in_level // PLACES_PER_SHARD:05d}.tar"


def make_folder(path: str | Path, below: str) -> None:
    """Make a folder for shards that are ``below`` "shared" or "local", with a page that says so."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / "README.txt", README[below])


def write_shard(path: str | Path, members: Iterable[tuple[str, bytes]]) -> list[Member]:
    """Write ``(name, bytes)`` pairs, sorted by name, as a tar; whole or not at all. Returns where each one lies."""
    placed = []
    with (
        whole(path) as partial,
        partial.open("wb") as raw,
        tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, data in sorted(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o644
            placed.append(Member(name, raw.tell() + tarfile.BLOCKSIZE, len(data)))
            tar.addfile(info, io.BytesIO(data))
    return placed


class ShardReader:
    """Reads pictures out of shards below a folder, from any thread, keeping the latest files open; use as a context
    manager."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; what is read later is opened again."""
        with self._lock:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """Raises UserError if the shard is missing or shorter than the table says."""
        with self._lock:
            if shard not in self._open:
                try:
                    self._open[shard] = os.open(self.root / shard, os.O_RDONLY)
                except FileNotFoundError as error:
                    raise UserError(
                        f"{self.root / shard}: the shard is missing; get it with dvc pull or make it with dvc repro"
                    ) from error
                if len(self._open) > KEPT_OPEN:
                    os.close(self._open.pop(next(iter(self._open))))
            data = os.pread(self._open[shard], size, offset)
        if len(data) != size:
            raise UserError(
                f"{self.root / shard}: holds {len(data)} of the {size} bytes at {offset}; dvc checkout mends it"
            )
        return data
