"""Results of work on single pictures, kept by the hashes of what they were made from.

A stage that runs again computes only what is new. The results are outside DVC's outputs, so that a run from nothing
and a run with kept results write the same bytes. They are a cache: what is damaged or cannot be written is computed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from streetrecall.store.folder import store_folder
from streetrecall.store.leases import lease

log = logging.getLogger(__name__)

_FILE = "results.sqlite"
_ASKED_AT_ONCE = 500
_WAIT_S = 60.0  # for another process that writes


class Results:
    """Results in a ``folder`` of the store: bytes by key. Several processes may use it at once; it can be sent to them.

    On another machine it is the same folder of that machine's store.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        return store_folder() / self._folder

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The results that are kept, of those asked for."""
        wanted = sorted(set(keys))
        found: dict[str, bytes] = {}
        try:
            with closing(self._open()) as file:
                for start in range(0, len(wanted), _ASKED_AT_ONCE):
                    part = wanted[start : start + _ASKED_AT_ONCE]
                    marks = ",".join("?" * len(part))
                    rows = file.execute(f"SELECT key, digest, value FROM result WHERE key IN ({marks})", part)
                    found |= {key: value for key, digest, value in rows if digest == _digest(value)}
        except (sqlite3.Error, OSError) as error:
            log.warning("%s: kept results cannot be read (%s), and are computed again", self.folder, error)
            if not isinstance(error, (sqlite3.OperationalError, OSError)):  # it is damaged, not busy
                (self.folder / _FILE).unlink(missing_ok=True)
        return found

    def write(self, results: Mapping[str, bytes]) -> None:
        """Keep results, all of them or, if the process is killed, none."""
        if not results:
            return
        try:
            with closing(self._open()) as file, file:
                rows = ((key, _digest(value), value) for key, value in results.items())
                file.executemany("INSERT OR REPLACE INTO result VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            log.warning("%s: results cannot be kept (%s); the next run computes them again", self.folder, error)

    def _open(self) -> sqlite3.Connection:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(self.folder / _FILE, timeout=_WAIT_S)
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=NORMAL")
        file.execute("CREATE TABLE IF NOT EXISTS result (key TEXT PRIMARY KEY, digest BLOB, value BLOB) WITHOUT ROWID")
        return file


@contextmanager
def kept(kind: str, **facts: Any) -> Iterator[Results]:
    """The results of one kind of work that depend on ``facts`` (values that JSON can hold) and on the pictures.

    ``facts`` must hold everything else that decides a result: settings, code, versions of libraries. Results under
    other facts stay for some runs: see `streetrecall.store.leases`.
    """
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    results = Results(Path("results", kind, key))
    with lease(results.folder):
        yield results


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()
