"""The store of what providers answered, outside DVC's outputs: answers are never asked for twice.

Pictures are files named by their SHA-256; what is known of them, and every answer about coverage, is a row of an SQLite
ledger. A picture's row is written only when its file is safely on disk (temporary file, fsync, rename, fsync of the
folder), so a process killed at any moment leaves rows that are true and, at worst, a file without a row.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from streetrecall.errors import UserError

STATUSES = ("ok", "blank", "gone", "failed")
WITH_PICTURE = ("ok", "blank")
VERSION = 1
SYNC_THREADS = 16

SCHEMA = """
CREATE TABLE IF NOT EXISTS coverage (
    namespace TEXT NOT NULL, lat REAL NOT NULL, lon REAL NOT NULL, radius_m REAL NOT NULL,
    status TEXT NOT NULL, pano_id TEXT, pano_lat REAL, pano_lon REAL, month TEXT, licence TEXT, attribution TEXT,
    asked_at REAL NOT NULL,
    UNIQUE (namespace, lat, lon, radius_m)
) STRICT;
CREATE TABLE IF NOT EXISTS notes (
    namespace TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, noted_at REAL NOT NULL,
    UNIQUE (namespace, key)
) STRICT;
CREATE TABLE IF NOT EXISTS captures (
    namespace TEXT NOT NULL, pano_id TEXT NOT NULL, direction TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'blank', 'gone', 'failed')),
    reason TEXT NOT NULL, tries INTEGER NOT NULL, next_try REAL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, format TEXT NOT NULL,
    scraped_at REAL NOT NULL,
    UNIQUE (namespace, pano_id, direction)
) STRICT;
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, pid INTEGER NOT NULL, planned INTEGER NOT NULL,
    missing INTEGER NOT NULL, started_at REAL NOT NULL, captures_from REAL, ended_at REAL, attempts INTEGER NOT NULL
) STRICT;
"""


def store_folder() -> Path:
    """``STREETRECALL_STORE``, or this user's cache folder."""
    named = os.environ.get("STREETRECALL_STORE")
    return Path(named).expanduser().absolute() if named else Path(platformdirs.user_cache_dir("streetrecall"))


@dataclass(frozen=True)
class Answer:
    """What a provider said of a point (degrees of EPSG:4326): its status, and the panorama if there is one."""

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
    """The state of one picture: ``direction`` tells a panorama's views apart (its heading, or direction).

    ``next_try`` (seconds since the epoch) is None once the status is final. ``data`` is handed in with a picture to be
    stored and never read back: `Ledger.read` does that.
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
    def key(self) -> tuple[str, str]:
        return self.pano_id, self.direction


@dataclass(frozen=True)
class Run:
    """One run of the scrape stage over a namespace; times in seconds since the epoch."""

    namespace: str
    pid: int
    planned: int
    missing: int
    started_at: float
    ended_at: float | None
    captures_from: float | None
    attempts: int


class Ledger:
    """Opens, or makes, the store in ``folder``. A context manager; used by one thread."""

    def __init__(self, folder: str | Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.folder = Path(folder) if folder is not None else store_folder()
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
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise UserError(
                    f"{self.folder}/ledger.sqlite: written by another version of streetrecall "
                    f"(format {version}, this one knows {VERSION}); use another STREETRECALL_STORE"
                )
            self._db.executescript(SCHEMA + f"PRAGMA user_version = {VERSION};")
        except sqlite3.Error as error:
            self._db.close()
            raise UserError(
                f"{self.folder}/ledger.sqlite: not a readable ledger ({error}); move it away, or set "
                "STREETRECALL_STORE to another folder"
            ) from error
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
        """Let no other process do the same ``work`` on ``namespace``; the kernel lets go when this process ends.

        Raises:
            UserError: another process holds it; the text says which.
        """
        name = hashlib.sha256(f"{namespace}\0{work}".encode()).hexdigest()[:24]
        with (self.folder / "locks" / name).open("a+", encoding="utf-8") as file:
            for attempt in range(tries):  # more than one: a glance by `is_held` holds it for a moment
                try:
                    # A record lock: unlike flock's, no forked child keeps it when this process is killed.
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

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def answers(self, namespace: str, radius_m: float) -> dict[tuple[float, float], Answer]:
        """All that is known of coverage, by (latitude, longitude) as asked."""
        rows = self._db.execute(
            "SELECT lat, lon, status, pano_id, pano_lat, pano_lon, month, licence, attribution FROM coverage "
            "WHERE namespace = ? AND radius_m = ?",
            (namespace, radius_m),
        )
        return {(row[0], row[1]): Answer(*row) for row in rows}

    def record_answers(self, namespace: str, radius_m: float, answers: Iterable[Answer]) -> None:
        """Keep answers; a newer one replaces an older."""
        now = self._clock()
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO coverage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        namespace,
                        a.lat,
                        a.lon,
                        radius_m,
                        a.status,
                        a.pano_id,
                        a.pano_lat,
                        a.pano_lon,
                        a.month,
                        a.licence,
                        a.attribution,
                        now,
                    )
                    for a in answers
                ),
            )

    def notes(self, namespace: str) -> MutableMapping[str, str]:
        """A provider's own answers, such as the dates of a place, as a mapping that outlives the process."""
        return _Notes(self._db, namespace, self._clock)

    def entries(self, namespace: str) -> dict[tuple[str, str], Entry]:
        """All that is known of pictures, by (panorama, direction)."""
        rows = self._db.execute(
            "SELECT pano_id, direction, status, reason, tries, next_try, sha256, size, width, height, format "
            "FROM captures WHERE namespace = ?",
            (namespace,),
        )
        return {(row[0], row[1]): Entry(*row) for row in rows}

    def record(self, namespace: str, entries: Sequence[Entry]) -> list[Entry]:
        """Store the pictures of ``entries``, then their rows, in that order and durably; returns what was recorded.

        A later row replaces an earlier one of the same key. The whole batch shares its waits for the disk.
        """
        kept = []
        objects: dict[str, bytes] = {}
        for entry in entries:
            if (entry.status in WITH_PICTURE) != bool(entry.data):
                raise ValueError(f"{entry.key}: status {entry.status} with {len(entry.data)} bytes of picture")
            if entry.data:
                digest = hashlib.sha256(entry.data).hexdigest()
                objects[digest] = entry.data
                entry = Entry(
                    entry.pano_id,
                    entry.direction,
                    entry.status,
                    entry.reason,
                    entry.tries,
                    entry.next_try,
                    digest,
                    len(entry.data),
                    entry.width,
                    entry.height,
                    entry.format,
                )
            kept.append(entry)
        self._store(objects)
        now = self._clock()
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO captures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        namespace,
                        e.pano_id,
                        e.direction,
                        e.status,
                        e.reason,
                        e.tries,
                        e.next_try,
                        e.sha256,
                        e.size,
                        e.width,
                        e.height,
                        e.format,
                        now,
                    )
                    for e in kept
                ),
            )
        return kept

    def forget(self, namespace: str, keys: Iterable[tuple[str, str]]) -> None:
        """Drop rows, so that their pictures are asked for again."""
        with self._transaction() as db:
            db.executemany(
                "DELETE FROM captures WHERE namespace = ? AND pano_id = ? AND direction = ?",
                ((namespace, *key) for key in keys),
            )

    def forget_failed(self, namespace: str) -> int:
        """Drop the rows of what failed or was gone, so that it is asked for again; returns how many."""
        with self._transaction() as db:
            return db.execute(
                "DELETE FROM captures WHERE namespace = ? AND status IN ('failed', 'gone')", (namespace,)
            ).rowcount

    def object_path(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256[:2] / sha256

    def _store(self, objects: dict[str, bytes]) -> None:
        waiting: list[tuple[int, Path, Path]] = []
        folders = set()
        try:
            for digest, data in objects.items():
                path = self.object_path(digest)
                try:
                    if path.stat().st_size == len(data):
                        continue
                except FileNotFoundError:
                    if not path.parent.exists():
                        path.parent.mkdir(exist_ok=True)
                        folders.add(path.parent.parent)
                partial = path.with_name(f".{digest}.{os.getpid()}")
                file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                waiting.append((file, partial, path))
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
                folders.add(path.parent)
            _sync([file for file, _, _ in waiting])
            for _, partial, path in waiting:
                partial.replace(path)
        except OSError as error:
            raise UserError(
                f"{self.folder}: a picture cannot be stored ({error.strerror}); make room, or set "
                "STREETRECALL_STORE to another folder, and run this again: what was got is kept"
            ) from error
        finally:
            for file, _, _ in waiting:
                os.close(file)
        opened = [os.open(folder, os.O_RDONLY) for folder in sorted(folders)]
        try:
            _sync(opened)
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def read(self, sha256: str) -> bytes | None:
        """A picture's bytes, or None if the store has lost or damaged it."""
        try:
            data = self.object_path(sha256).read_bytes()
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def discard(self, sha256: str) -> None:
        """Remove a damaged picture's file."""
        self.object_path(sha256).unlink(missing_ok=True)

    def start_run(self, namespace: str, planned: int, missing: int) -> int:
        """Note that a run begins; for `streetrecall scrape-status`."""
        row = self._db.execute(
            "INSERT INTO runs (namespace, pid, planned, missing, started_at, attempts) VALUES (?, ?, ?, ?, ?, 0)",
            (namespace, os.getpid(), planned, missing, self._clock()),
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
            "SELECT namespace, pid, planned, missing, started_at, ended_at, captures_from, attempts FROM runs "
            "WHERE id IN (SELECT max(id) FROM runs GROUP BY namespace) ORDER BY id DESC"
        )
        return [Run(*row) for row in rows]

    def rate(self, namespace: str) -> float | None:
        """Pictures a second over the last 200 recorded within one run; None if fewer than two were."""
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


class _Notes(MutableMapping[str, str]):
    def __init__(self, db: sqlite3.Connection, namespace: str, clock: Callable[[], float]) -> None:
        self._db, self._namespace, self._clock = db, namespace, clock

    def __getitem__(self, key: str) -> str:
        row = self._db.execute(
            "SELECT value FROM notes WHERE namespace = ? AND key = ?", (self._namespace, key)
        ).fetchone()
        if row is None:
            raise KeyError(key)
        return str(row[0])

    def __setitem__(self, key: str, value: str) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?)", (self._namespace, key, value, self._clock())
        )

    def __delitem__(self, key: str) -> None:
        if not self._db.execute("DELETE FROM notes WHERE namespace = ? AND key = ?", (self._namespace, key)).rowcount:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(
            [
                r[0]
                for r in self._db.execute("SELECT key FROM notes WHERE namespace = ? ORDER BY key", (self._namespace,))
            ]
        )

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM notes WHERE namespace = ?", (self._namespace,)).fetchone()[0])


def _sync(descriptors: Sequence[int]) -> None:
    """Have files on disk. Waits side by side share the journal's commits: thirty times faster than one by one."""
    if len(descriptors) < 2:
        for descriptor in descriptors:
            os.fsync(descriptor)
        return
    with ThreadPoolExecutor(min(SYNC_THREADS, len(descriptors))) as pool:
        for future in [pool.submit(os.fsync, descriptor) for descriptor in descriptors]:
            future.result()
