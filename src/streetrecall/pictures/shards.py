"""Pictures in uncompressed tar files (shards), which are read by byte offset.

A shard holds whole places, so new places add shards and change none, and DVC moves tens of files instead of tens of
thousands. The tar (POSIX ustar, sorted, no owner, no time) depends on names and bytes only, and any tar program can
unpack it. The pipeline reads ``size`` bytes at ``offset``; both are in the table beside the shards.
"""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.files import whole, write_text
from streetrecall.pictures.codec import decode

PLACES_PER_SHARD = 8
KEPT_OPEN = 64  # shards open at a time; the usual limit of a process is 256 files or more

# DVC warns of empty folders, so each folder of shards has this file. .dvc/unshared depends on the words below.
README = {
    "shared": "Shards of pictures that may be given away; empty but for this page if there are none.\n",
    "local": "Shards of pictures that may not be given away: dvc push leaves this folder out. Often there are none.\n",
}


@dataclass(frozen=True)
class Member:
    """Where a picture is: ``size`` bytes at ``offset`` of a shard."""

    name: str
    offset: int
    size: int


def shard_name(subset: str, level: int, index_in_level: int) -> str:
    """The shard of the place that is number ``index_in_level``, from 0, of its level. A new level renames no shard.

    >>> shard_name("test_v1", 1, 17)
    'test_v1-level1-00002.tar'
    """
    return f"{subset}-level{level}-{index_in_level // PLACES_PER_SHARD:05d}.tar"


def make_folder(path: str | Path, below: str) -> None:
    """Make a folder for shards, with a README; ``below`` is "shared" or "local"."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / "README.txt", README[below])


def write_shard(path: str | Path, members: Iterable[tuple[str, bytes]]) -> list[Member]:
    """Write ``(name, bytes)`` pairs as a tar, sorted by name, and return where each one is.

    A failure leaves an older file as it was.
    """
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
    """Reads pictures from the shards below a folder. It keeps some files open, so use it as a context manager.

    Several threads may use one reader.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files. Reading again opens them again."""
        with self._lock:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """The ``size`` bytes at ``offset`` of ``shard``, a path below the folder.

        Raises:
            UserError: the shard is missing, or shorter than the table says.
        """
        with self._lock:
            if shard not in self._open:
                try:
                    self._open[shard] = os.open(self.root / shard, os.O_RDONLY)
                except FileNotFoundError as error:
                    raise UserError(
                        f"{self.root / shard}: the shard is missing; dvc pull fetches it, dvc repro makes it"
                    ) from error
                if len(self._open) > KEPT_OPEN:
                    os.close(self._open.pop(next(iter(self._open))))
            data = os.pread(self._open[shard], size, offset)
        if len(data) != size:
            raise UserError(
                f"{self.root / shard}: has only {len(data)} of the {size} bytes at {offset}; dvc checkout restores it"
            )
        return data

    def read_picture(self, shard: str, offset: int, size: int) -> NDArray[np.uint8]:
        """The pixels (h, w, 3) RGB of the picture there.

        Raises:
            UserError: as `read`, or it is no picture.
        """
        picture = decode(self.read(shard, offset, size))
        if picture is None:
            raise UserError(f"{self.root / shard}: there is no picture at {offset}; dvc checkout restores the shard")
        return picture
