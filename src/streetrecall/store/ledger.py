"""The store of what providers answered, outside DVC's outputs: nothing is asked for twice.

Pictures are files that are named by their SHA-256 (`streetrecall.store.objects`). What is known of them, and every
answer about coverage and dates, is a row of an SQLite file, the ledger. The row of a picture is written only when its
file is safely on disk. So a process that is killed at any moment leaves rows that are true and, at worst, a file
without a row.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError
from streetrecall.store.folder import store_folder
from streetrecall.store.objects import ObjectStore
from streetrecall.store.schema import VERSION, transaction, upgrade
from streetrecall.tables import WITH_PICTURE, CaptureStatus

Key = tuple[str, str]  # of a picture: the panorama's id, and what tells its directions apart


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer at a point (degrees of EPSG:4326): its status, and the panorama if there is one."""

    lat: float
    lon: float
    status: str
    pano_id: str | None = None
    pano_lat: float | None = None
    pano_lon: float | None = None
    month: str | None = None
    licence: str | None = None
    attribution: str | None = None


@dataclass(frozen=True)
class Entry:
    """The state of one picture: ``direction`` tells the directions of a panorama apart (its heading or its source).

    ``next_try`` (seconds since the epoch) is None once the status is final. ``data`` is set for a picture that is to be
    stored, and is never read back: `Ledger.objects` does that.
    """

    pano_id: str
    direction: str
    status: str
    reason: str = ""
    tries: int = 1
    next_try: float | None = None
    sha256: str = ""
    size: int = 0
    width: int = 0
    height: int = 0
    format: str = ""
    data: bytes = b""

    @property
    def key(self) -> Key:
        return self.pano_id, self.direction


@dataclass(frozen=True)
class Run:
    """One run of the scrape stage for a namespace; times in seconds since the epoch."""

    namespace: str
    provider: str  # the provider's namespace; empty in runs of older versions
    pid: int
    planned: int
    missing: int
    started_at: float
    ended_at: float | None
    captures_from: float | None
    attempts: int


@dataclass(frozen=True)
class Snapshot:
    """How many answers a snapshot holds of one provider; times in seconds since the epoch."""

    namespace: str
    label: str
    points: int  # grid points with an answer
    points_with_panorama: int
    notes: int  # places whose dates are known
    first_at: float
    last_at: float


class Ledger:
    """Opens, or makes, the store in ``folder``. A context manager; used by one thread.

    ``objects`` holds the pictures.

    Raises:
        UserError: the folder cannot be used, or its ledger is not one of this version or an older one.
    """

    def __init__(self, folder: str | Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.folder = Path(folder) if folder is not None else store_folder()
        self.objects = ObjectStore(self.folder / "objects")
        self._clock = clock
        try:
            for part in ("objects", "locks"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.folder / "ledger.sqlite", timeout=60, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise UserError(
                f"{self.folder}: cannot be used as the store of captures ({error}); "
                "set STREETRECALL_STORE to a folder that can be written"
            ) from error
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            version = upgrade(self._db)
            if version != VERSION:
                raise UserError(
                    f"{self.folder}/ledger.sqlite: written by another version of streetrecall "
                    f"(format {version}, this one knows {VERSION}); use another STREETRECALL_STORE"
                )
        except sqlite3.Error as error:
            self._db.close()
            raise UserError(f"{self.folder}/ledger.sqlite: {_advice(error)}") from error
        except UserError:
            self._db.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def hold(self, namespace: str, work: str, tries: int = 5) -> Iterator[None]:
        """Let no other process do the same ``work`` on ``namespace`` until the end of the block, or of this process.

        Raises:
            UserError: another process does it; the text says which.
        """
        name = hashlib.sha256(f"{namespace}\0{work}".encode()).hexdigest()[:24]
        with (self.folder / "locks" / name).open("a+", encoding="utf-8") as file:
            for attempt in range(tries):  # several tries, because `is_held` of another process locks it for a moment
                try:
                    # A record lock: unlike flock's, it does not pass to forked children, so it ends with this process.
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if attempt + 1 < tries:
                        time.sleep(0.1)
            else:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(
                    f"{work} of {namespace}: {holder} is at it with the same store ({self.folder}); "
                    "wait until it has ended, or stop it and run this again"
                )
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            yield

    def is_held(self, namespace: str, work: str) -> bool:
        """Whether another process does ``work`` on ``namespace`` now."""
        try:
            with self.hold(namespace, work, tries=1):
                return False
        except UserError:
            return True

    # -- coverage and dates, by snapshot -------------------------------------------------------------------------------

    def answers(self, namespace: str, snapshot: str, radius_m: float) -> dict[tuple[float, float], Answer]:
        """All answers about coverage, by the point that was asked: (latitude, longitude).

        Equal values are one object, because many points have the same panorama.
        """
        rows = self._db.execute(
            "SELECT lat, lon, status, pano_id, pano_lat, pano_lon, month, licence, attribution FROM coverage "
            "WHERE namespace = ? AND snapshot = ? AND radius_m = ?",
            (namespace, snapshot, radius_m),
        )
        one: dict[object, Any] = {}
        return {(lat, lon): Answer(lat, lon, *(one.setdefault(v, v) for v in values)) for lat, lon, *values in rows}

    def record_answers(self, namespace: str, snapshot: str, radius_m: float, answers: Iterable[Answer]) -> None:
        """Keep answers about coverage; a newer one of the same snapshot replaces an older one."""
        now = self._clock()
        with transaction(self._db) as db:
            db.executemany(
                "INSERT OR REPLACE INTO coverage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (namespace, snapshot, a.lat, a.lon, radius_m, a.status, a.pano_id, a.pano_lat, a.pano_lon, a.month,
                     a.licence, a.attribution, now)
                    for a in answers
                ),
            )  # fmt: skip

    def notes(self, namespace: str, snapshot: str) -> MutableMapping[str, str]:
        """A provider's own answers, such as the dates of a place: a mapping whose content is kept on disk."""
        return _Notes(self._db, namespace, snapshot, self._clock)

    def snapshots(self) -> list[Snapshot]:
        """How many answers each snapshot of each provider holds, the newest last."""
        rows = self._db.execute(
            "SELECT namespace, snapshot, sum(points), sum(found), sum(notes), min(first_at), max(last_at) FROM ("
            "SELECT namespace, snapshot, count(*) AS points, count(pano_id) AS found, 0 AS notes, "
            "min(asked_at) AS first_at, max(asked_at) AS last_at FROM coverage GROUP BY 1, 2 "
            "UNION ALL "
            "SELECT namespace, snapshot, 0, 0, count(*), min(noted_at), max(noted_at) FROM notes GROUP BY 1, 2"
            ") GROUP BY 1, 2 ORDER BY namespace, max(last_at)"
        )
        return [Snapshot(*row) for row in rows]

    # -- pictures ------------------------------------------------------------------------------------------------------

    def entries(self, namespace: str) -> dict[Key, Entry]:
        """All that is known of pictures, by (panorama, direction)."""
        rows = self._db.execute(
            "SELECT pano_id, direction, status, reason, tries, next_try, sha256, size, width, height, format "
            "FROM captures WHERE namespace = ?",
            (namespace,),
        )
        return {(row[0], row[1]): Entry(*row) for row in rows}

    def record(self, namespace: str, entries: Sequence[Entry]) -> list[Entry]:
        """Store the pictures of ``entries``, then their rows, durably; returns the entries as recorded.

        A row replaces an earlier one of the same key. The whole batch waits for the disk together.

        Raises:
            UserError: the pictures cannot be stored; then no row is written.
        """
        kept = []
        pictures: dict[str, bytes] = {}
        for entry in entries:
            if (entry.status in WITH_PICTURE) != bool(entry.data):
                raise ValueError(f"{entry.key}: status {entry.status} with {len(entry.data)} bytes of picture")
            if entry.data:
                digest = hashlib.sha256(entry.data).hexdigest()
                pictures[digest] = entry.data
                entry = replace(entry, sha256=digest, size=len(entry.data), data=b"")
            kept.append(entry)
        self.objects.write(pictures)
        now = self._clock()
        with transaction(self._db) as db:
            db.executemany(
                "INSERT OR REPLACE INTO captures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (namespace, e.pano_id, e.direction, e.status, e.reason, e.tries, e.next_try, e.sha256, e.size,
                     e.width, e.height, e.format, now)
                    for e in kept
                ),
            )  # fmt: skip
        return kept

    def forget(self, namespace: str, keys: Iterable[Key]) -> None:
        """Remove rows, so that the next run asks for their pictures again."""
        with transaction(self._db) as db:
            db.executemany(
                "DELETE FROM captures WHERE namespace = ? AND pano_id = ? AND direction = ?",
                ((namespace, *key) for key in keys),
            )

    def forget_failed(self, namespace: str) -> int:
        """Remove the rows of pictures that failed or were gone, so that the next run asks again; returns how many."""
        with transaction(self._db) as db:
            return db.execute(
                "DELETE FROM captures WHERE namespace = ? AND status IN (?, ?)",
                (namespace, CaptureStatus.FAILED, CaptureStatus.GONE),
            ).rowcount

    # -- runs, for `streetrecall scrape-status` ------------------------------------------------------------------------

    def start_run(self, namespace: str, plan: Iterable[Key], missing: int, provider: str = "") -> int:
        """Record that a run begins, and its plan; returns the run's number.

        Args:
            plan: the keys of all its pictures; it replaces that of the namespace's last run.
            missing: how many of them are to be captured.
            provider: the provider's namespace.
        """
        keys = set(plan)
        with transaction(self._db) as db:
            db.execute("DELETE FROM plans WHERE namespace = ?", (namespace,))
            db.executemany("INSERT INTO plans VALUES (?, ?, ?)", ((namespace, *key) for key in keys))
            row = db.execute(
                "INSERT INTO runs (namespace, provider, pid, planned, missing, started_at, attempts) "
                "VALUES (?, ?, ?, ?, ?, ?, 0)",
                (namespace, provider, os.getpid(), len(keys), missing, self._clock()),
            )
            return int(row.lastrowid or 0)

    def update_run(self, run: int, attempts: int, ended: bool = False) -> None:
        now = self._clock()
        self._db.execute(
            "UPDATE runs SET attempts = ?, captures_from = coalesce(captures_from, ?), ended_at = ? WHERE id = ?",
            (attempts, now if attempts else None, now if ended else None, run),
        )

    def last_runs(self) -> list[Run]:
        """The last run of each namespace, newest first."""
        rows = self._db.execute(
            "SELECT namespace, provider, pid, planned, missing, started_at, ended_at, captures_from, attempts "
            "FROM runs WHERE id IN (SELECT max(id) FROM runs GROUP BY namespace) ORDER BY id DESC"
        )
        return [Run(*row) for row in rows]

    def plan(self, namespace: str) -> set[Key]:
        """The keys of the pictures that the last run of ``namespace`` planned; empty for a run of an older version."""
        rows = self._db.execute("SELECT pano_id, direction FROM plans WHERE namespace = ?", (namespace,))
        return {(row[0], row[1]) for row in rows}

    def rate(self, namespace: str) -> float | None:
        """Pictures a second over the last 200 recorded within one run; None if there are fewer than two."""
        times = [
            row[0]
            for row in self._db.execute(
                "SELECT scraped_at FROM captures WHERE namespace = ?1 AND scraped_at >= ("
                "SELECT max(started_at) FROM runs WHERE namespace = ?1 AND attempts > 1) "
                "ORDER BY scraped_at DESC LIMIT 200",
                (namespace,),
            )
        ]
        if len(times) < 2 or times[0] <= times[-1]:
            return None
        return (len(times) - 1) / (times[0] - times[-1])


def _advice(error: sqlite3.Error) -> str:
    """Why the ledger could not be opened, and what to do. Only a file that is no ledger is to be moved away."""
    kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without the details
    if kind in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"the disk is full or fails ({error}); free some space, or check that disk, and run it again"
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"another process uses it ({error}); wait until that has ended and run it again"
    if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return f"cannot be written ({error}); let this user read and write there, or set STREETRECALL_STORE"
    return f"not a readable ledger ({error}); move it away, or set STREETRECALL_STORE to another folder"


class _Notes(MutableMapping[str, str]):
    def __init__(self, db: sqlite3.Connection, namespace: str, snapshot: str, clock: Callable[[], float]) -> None:
        self._db, self._of, self._clock = db, (namespace, snapshot), clock

    def __getitem__(self, key: str) -> str:
        row = self._db.execute(
            "SELECT value FROM notes WHERE namespace = ? AND snapshot = ? AND key = ?", (*self._of, key)
        ).fetchone()
        if row is None:
            raise KeyError(key)
        return str(row[0])

    def __setitem__(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?)", (*self._of, key, value, self._clock()))

    def __delitem__(self, key: str) -> None:
        if not self._db.execute(
            "DELETE FROM notes WHERE namespace = ? AND snapshot = ? AND key = ?", (*self._of, key)
        ).rowcount:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        rows = self._db.execute(
            "SELECT key FROM notes WHERE namespace = ? AND snapshot = ? ORDER BY key", self._of
        ).fetchall()
        return iter([row[0] for row in rows])

    def __len__(self) -> int:
        row = self._db.execute("SELECT count(*) FROM notes WHERE namespace = ? AND snapshot = ?", self._of).fetchone()
        return int(row[0])
