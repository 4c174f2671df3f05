"""The tables of the ledger's SQLite file, and the conversion of files that an older version wrote."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from streetrecall.tables import CaptureStatus

log = logging.getLogger(__name__)

VERSION = 2
FIRST_SNAPSHOT = "first"  # to which the answers of version 1 belong, which had no snapshots; params.yaml ships with it

TABLES = f"""
CREATE TABLE IF NOT EXISTS coverage (
    namespace TEXT NOT NULL, snapshot TEXT NOT NULL, lat REAL NOT NULL, lon REAL NOT NULL, radius_m REAL NOT NULL,
    status TEXT NOT NULL, pano_id TEXT, pano_lat REAL, pano_lon REAL, month TEXT, licence TEXT, attribution TEXT,
    asked_at REAL NOT NULL,
    UNIQUE (namespace, snapshot, lat, lon, radius_m)
) STRICT;
CREATE TABLE IF NOT EXISTS notes (
    namespace TEXT NOT NULL, snapshot TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, noted_at REAL NOT NULL,
    UNIQUE (namespace, snapshot, key)
) STRICT;
CREATE TABLE IF NOT EXISTS captures (
    namespace TEXT NOT NULL, pano_id TEXT NOT NULL, direction TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ({", ".join(f"'{status}'" for status in CaptureStatus)})),
    reason TEXT NOT NULL, tries INTEGER NOT NULL, next_try REAL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, format TEXT NOT NULL,
    scraped_at REAL NOT NULL,
    UNIQUE (namespace, pano_id, direction)
) STRICT;
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, pid INTEGER NOT NULL, planned INTEGER NOT NULL,
    missing INTEGER NOT NULL, started_at REAL NOT NULL, captures_from REAL, ended_at REAL, attempts INTEGER NOT NULL,
    provider TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE IF NOT EXISTS plans (
    namespace TEXT NOT NULL, pano_id TEXT NOT NULL, direction TEXT NOT NULL,
    UNIQUE (namespace, pano_id, direction)
) STRICT;
"""

FROM_1 = f"""
ALTER TABLE coverage RENAME TO coverage_1;
ALTER TABLE notes RENAME TO notes_1;
ALTER TABLE runs ADD COLUMN provider TEXT NOT NULL DEFAULT '';
{TABLES}
INSERT INTO coverage SELECT namespace, '{FIRST_SNAPSHOT}', lat, lon, radius_m, status, pano_id, pano_lat, pano_lon,
    month, licence, attribution, asked_at FROM coverage_1;
INSERT INTO notes SELECT namespace, '{FIRST_SNAPSHOT}', key, value, noted_at FROM notes_1;
DROP TABLE coverage_1;
DROP TABLE notes_1;
"""
CHANGES = {0: TABLES, 1: FROM_1}  # SQL that makes the current version of an older one; 0 is an empty file


def upgrade(db: sqlite3.Connection) -> int:
    """Make the tables, or convert those of an older version without losing a row; returns the file's version.

    The file is changed in one transaction. A version that this code does not know is left as it is.
    """
    if _version(db) in CHANGES:
        with transaction(db):
            version = _version(db)  # another process may have converted it meanwhile
            if version in CHANGES:
                if version:
                    log.info("the ledger is converted from format %d to %d", version, VERSION)
                for statement in CHANGES[version].split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {VERSION}")
    return _version(db)


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All changes of the block, or none if it raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    except BaseException:
        if db.in_transaction:  # a full disk has ended it already
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
