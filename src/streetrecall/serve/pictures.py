"""Pictures by id, as they are or as thumbnails. An id is looked up in a table; no part of it becomes a path."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pandas as pd

from streetrecall.pictures.shards import ShardReader
from streetrecall.serve.problems import ProblemError
from streetrecall.serve.project import Project
from streetrecall.serve.thumbnails import thumbnail

# kind of an id -> name of its table and column of its number
KINDS = {"crops": ("images", "image_id"), "views": ("views", "view_id"), "photos": ("photos", "photo_id")}
PATTERN = r"^(crops|views|photos)-(0|[1-9][0-9]{0,11})$"
KEPT_BYTES = 32_000_000
TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PN": "image/png", b"RIF": "image/webp"}


@dataclass(frozen=True)
class Found:
    """A picture, its type and a text that changes with its content."""

    data: bytes
    media_type: str
    tag: str


class Pictures:
    """Reads pictures of a project. ``shared_only`` refuses those that their licence does not let others see."""

    def __init__(self, project: Project, shared_only: bool) -> None:
        self.project, self.shared_only = project, shared_only
        self._small: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, name: str, small: bool) -> Found:
        """The picture ``name``.

        Raises:
            ProblemError: there is no such picture, or it may not be shown.
        """
        matched = re.fullmatch(PATTERN, name)
        kind, number = (matched[1], int(matched[2])) if matched else ("", 0)
        row = self._row(kind, number) if matched else None
        if row is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "There is no such picture; the results may have changed since.")
        shard = str(row["shard"])
        if self.shared_only and not shard.startswith("shared/"):
            raise ProblemError(
                HTTPStatus.FORBIDDEN, "The licence of this picture does not let it be shown on other machines."
            )
        tag = str(row["sha256"])[:24] or f"{shard}-{row['offset']}-{row['size']}".replace("/", "-")
        folder = self.project.path(KINDS[kind][0]).parent
        key = f"{name} {tag}"
        with self._lock:
            kept = self._small.get(key) if small else None
            if kept is not None:
                self._small.move_to_end(key)
        if kept is not None:
            return Found(kept, "image/jpeg", f"{tag}-small")
        # Opened for one read, so that pictures of a new run are never read by offsets of an old one.
        with ShardReader(folder) as reader:
            data = reader.read(shard, int(row["offset"]), int(row["size"]))
        if not small:
            return Found(data, TYPES.get(data[:3], "application/octet-stream"), tag)
        data = thumbnail(data)
        with self._lock:
            self._small[key] = data
            self._bytes += len(data)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._small.popitem(last=False)[1])
        return Found(data, "image/jpeg", f"{tag}-small")

    def _row(self, kind: str, number: int) -> Any:
        name, column = KINDS[kind]
        if not self.project.has(name):
            return None
        where = self.project.kept(f"rows of {name}", (name,), lambda: _numbered(self.project.table(name), column))
        return self.project.table(name).loc[where[number]] if number in where.index else None


def _numbered(table: pd.DataFrame, column: str) -> pd.Series:
    return pd.Series(table.index, index=table[column])
