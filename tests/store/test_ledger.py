from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.store import ledger as module
from streetrecall.store import schema, status
from streetrecall.store.ledger import Answer, Entry, Ledger


def picture(i: int) -> bytes:
    return f"picture {i}".encode() * 50


def ok(i: int, **more: object) -> Entry:
    return Entry(f"pano{i}", "0.00", "ok", width=4, height=3, format="JPEG", data=picture(i), **more)  # type: ignore[arg-type]


def test_what_is_recorded_is_there_in_the_next_process(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record("n", [ok(1), Entry("pano2", "90.00", "failed", "http 500", 3, 1234.5)])
        ledger.record_answers("n", "s", 50.0, [Answer(59.1, 18.2, "OK", "p", 59.2, 18.3, "2020-01", "l", "a")])
        ledger.notes("n", "s")["dates"] = "[]"
    with Ledger(tmp_path) as ledger:
        entries = ledger.entries("n")
        assert ledger.objects.read(entries["pano1", "0.00"].sha256) == picture(1)
        assert entries["pano1", "0.00"].size == len(picture(1))
        assert entries["pano2", "90.00"] == Entry("pano2", "90.00", "failed", "http 500", 3, 1234.5)
        assert ledger.answers("n", "s", 50.0)[59.1, 18.2].pano_id == "p"
        assert dict(ledger.notes("n", "s")) == {"dates": "[]"}


def test_namespaces_and_radii_are_apart(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record("a", [ok(1)])
        ledger.record_answers("a", "s", 50.0, [Answer(1.0, 2.0, "ZERO_RESULTS")])
        ledger.notes("a", "s")["k"] = "v"
        assert ledger.entries("b") == {} == ledger.answers("b", "s", 50.0) == ledger.answers("a", "s", 25.0)
        assert len(ledger.notes("b", "s")) == 0


def test_each_picture_has_one_row_and_each_content_one_file(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record("n", [Entry("pano1", "0.00", "failed", "http 500", 1, 5.0)])
        ledger.record("n", [ok(1, tries=2)])
        twin = Entry("pano9", "0.00", "ok", width=4, height=3, format="JPEG", data=picture(1))
        ledger.record("n", [twin, ok(1, tries=2)])
        entries = ledger.entries("n")
        assert len(entries) == 2
        assert entries["pano1", "0.00"].status == "ok"
        assert entries["pano1", "0.00"].sha256 == entries["pano9", "0.00"].sha256
    assert len([p for p in (tmp_path / "objects").rglob("*") if p.is_file()]) == 1


def test_notes_are_a_mapping(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        notes = ledger.notes("n", "s")
        notes.update({"b": "2", "a": "1"})
        del notes["b"]
        assert list(notes) == ["a"]
        with pytest.raises(KeyError):
            notes["b"]
        with pytest.raises(KeyError):
            del notes["b"]


def test_a_picture_is_safely_on_disk_before_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure at the row: the file was synchronised and renamed before, and its folder synchronised."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("fsync " + ("folder" if os.path.isdir(f"/dev/fd/{descriptor}") else "file"))  # noqa: PTH112
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    with Ledger(tmp_path) as ledger:
        monkeypatch.setattr(module.os, "fsync", noted_fsync)
        monkeypatch.setattr(Path, "replace", noted_replace)
        ledger._db.set_trace_callback(lambda sql: steps.append("row") if sql.startswith("INSERT") else None)
        ledger.record("n", [ok(1)])
    first_row = steps.index("row")
    assert steps.index("fsync file") < steps.index("rename") < first_row
    assert "fsync folder" in steps[steps.index("rename") : first_row]


def test_a_disk_that_is_full_leaves_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with Ledger(tmp_path) as ledger:
        monkeypatch.setattr(module.os, "fsync", full)
        with pytest.raises(UserError, match="No space left"):
            ledger.record("n", [ok(1), ok(2)])
        assert ledger.entries("n") == {}
        monkeypatch.undo()
        ledger.record("n", [ok(1), ok(2)])
        assert len(ledger.entries("n")) == 2


def test_a_failing_batch_writes_no_row_of_it(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record("n", [Entry("a", "0", "failed", "x"), Entry("b", "0", "odd", "x")])
        assert ledger.entries("n") == {}
        with pytest.raises(ValueError, match="status ok"):
            ledger.record("n", [Entry("a", "0", "ok")])


def test_a_lost_or_damaged_picture_is_reported(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        (entry,) = ledger.record("n", [ok(1)])
        ledger.objects.path(entry.sha256).write_bytes(b"rotten")
        assert ledger.objects.read(entry.sha256) is None
        ledger.objects.discard(entry.sha256)
        assert ledger.objects.read(entry.sha256) is None
        ledger.forget("n", [entry.key])
        ledger.record("n", [ok(1)])
        assert ledger.objects.read(entry.sha256) == picture(1)


KILLED = """
    import sys
    from streetrecall.store.ledger import Entry, Ledger
    ledger = Ledger(sys.argv[1])
    print("ready", flush=True)
    for i in range(100_000):
        ledger.record("n", [Entry(f"pano{i}", "0.00", "ok", width=4, height=3, format="JPEG",
                                  data=f"picture {i}".encode() * 50)])
        print(i, flush=True)
"""


def test_a_process_killed_at_any_moment_leaves_true_rows(tmp_path: Path) -> None:
    recorded = -1
    for point in (0, 1, 5, 23):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        for _ in range(point):
            recorded = max(recorded, int(child.stdout.readline()))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with Ledger(tmp_path) as ledger:
            entries = ledger.entries("n")
            assert len(entries) > recorded
            for entry in entries.values():
                data = ledger.objects.read(entry.sha256)
                assert data is not None
                assert hashlib.sha256(data).hexdigest() == entry.sha256


HOLDER = """
    import sys
    from streetrecall.store.ledger import Ledger
    with Ledger(sys.argv[1]) as ledger, ledger.hold("city", "scrape"):
        print("held", flush=True)
        sys.stdin.read()
"""


def test_two_runs_of_one_work_are_kept_apart(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    with Ledger(tmp_path) as ledger:
        assert child.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"scrape of city: process {child.pid} is at it"),
            ledger.hold("city", "scrape", tries=1),
        ):
            pass
        assert ledger.is_held("city", "scrape")
        with ledger.hold("city", "metadata"), ledger.hold("other", "scrape"):
            pass
        ledger.record("city", [ok(1)])  # the store itself stays open to both
        child.kill()
        child.wait()
        with ledger.hold("city", "scrape"):
            pass
        assert not ledger.is_held("city", "scrape")
    child.stdin.close()
    child.stdout.close()


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"something else entirely, long enough to be read" * 40)
    with pytest.raises(UserError, match="not a readable ledger"):
        Ledger(tmp_path)
    assert (tmp_path / "ledger.sqlite").read_bytes().startswith(b"something else")


def test_a_ledger_of_another_version_is_left_alone(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UserError, match="another version"):
        Ledger(tmp_path)


VERSION_1 = """
CREATE TABLE coverage (
    namespace TEXT NOT NULL, lat REAL NOT NULL, lon REAL NOT NULL, radius_m REAL NOT NULL,
    status TEXT NOT NULL, pano_id TEXT, pano_lat REAL, pano_lon REAL, month TEXT, licence TEXT, attribution TEXT,
    asked_at REAL NOT NULL,
    UNIQUE (namespace, lat, lon, radius_m)
) STRICT;
CREATE TABLE notes (
    namespace TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, noted_at REAL NOT NULL,
    UNIQUE (namespace, key)
) STRICT;
CREATE TABLE captures (
    namespace TEXT NOT NULL, pano_id TEXT NOT NULL, direction TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'blank', 'gone', 'failed')),
    reason TEXT NOT NULL, tries INTEGER NOT NULL, next_try REAL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, format TEXT NOT NULL,
    scraped_at REAL NOT NULL,
    UNIQUE (namespace, pano_id, direction)
) STRICT;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, pid INTEGER NOT NULL, planned INTEGER NOT NULL,
    missing INTEGER NOT NULL, started_at REAL NOT NULL, captures_from REAL, ended_at REAL, attempts INTEGER NOT NULL
) STRICT;
INSERT INTO coverage VALUES ('n', 59.1, 18.2, 50.0, 'OK', 'p', 59.2, 18.3, '2020-01', 'l', 'a', 100.0);
INSERT INTO coverage VALUES ('n', 59.2, 18.2, 50.0, 'ZERO_RESULTS', NULL, NULL, NULL, NULL, NULL, NULL, 200.0);
INSERT INTO notes VALUES ('n', 'dates p', '[]', 300.0);
INSERT INTO captures VALUES ('n 4x3', 'p', '0.00', 'gone', 'http 404', 1, NULL, '', 0, 0, 0, '', 400.0);
INSERT INTO runs VALUES (7, 'n 4x3', 1, 4, 4, 390.0, 400.0, 410.0, 1);
PRAGMA user_version = 1;
"""


def of_version_1(folder: Path) -> Path:
    """A ledger as the version before snapshots wrote it."""
    db = sqlite3.connect(folder / "ledger.sqlite")
    db.executescript("PRAGMA journal_mode = WAL;" + VERSION_1)
    db.close()
    return folder


def test_a_ledger_without_snapshots_opens_and_loses_nothing(tmp_path: Path, params: Params) -> None:
    first = params.metadata.snapshot
    for _ in range(2):
        with Ledger(of_version_1(tmp_path) if not list(tmp_path.iterdir()) else tmp_path) as ledger:
            assert ledger.answers("n", first, 50.0) == {
                (59.1, 18.2): Answer(59.1, 18.2, "OK", "p", 59.2, 18.3, "2020-01", "l", "a"),
                (59.2, 18.2): Answer(59.2, 18.2, "ZERO_RESULTS"),
            }
            assert ledger.answers("n", "2026-11", 50.0) == {}
            assert dict(ledger.notes("n", first)) == {"dates p": "[]"}
            assert ledger.entries("n 4x3") == {("p", "0.00"): Entry("p", "0.00", "gone", "http 404")}
            (run,) = ledger.last_runs()
            assert (run.namespace, run.planned, run.missing, run.ended_at) == ("n 4x3", 4, 4, 410.0)
            (snapshot,) = ledger.snapshots()
            assert (snapshot.points, snapshot.points_with_panorama, snapshot.notes) == (2, 1, 1)
            assert (snapshot.first_at, snapshot.last_at) == (100.0, 300.0)
            report = status.report(ledger, run, ledger.snapshots(), 500.0)
            assert (report["planned"], report["left"], report["by_status"]) == (4, None, {"gone": 1})
            assert "unknown until the next run" in status.table(report)


def test_a_conversion_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_version_1(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(schema.CHANGES, 1, schema.CHANGES[1] + "INSERT INTO notes VALUES (NULL, '', '', '', 0);\n")
        with pytest.raises(UserError, match="not a readable ledger"):
            Ledger(tmp_path)
    with Ledger(tmp_path) as ledger:
        assert len(ledger.answers("n", schema.FIRST_SNAPSHOT, 50.0)) == 2


def test_a_run_replaces_the_plan_of_its_namespace(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.start_run("a", [("p", "0.00"), ("q", "0.00"), ("q", "0.00")], 2)
        ledger.start_run("b", [("p", "90.00")], 1)
        ledger.start_run("a", [("q", "0.00"), ("r", "0.00")], 1)
        assert ledger.plan("a") == {("q", "0.00"), ("r", "0.00")}
        assert ledger.plan("b") == {("p", "90.00")}
        assert [(r.namespace, r.planned) for r in ledger.last_runs()] == [("a", 2), ("b", 1)]


def test_a_store_that_cannot_be_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="STREETRECALL_STORE"):
        Ledger(tmp_path / "file" / "store")


def test_rate_is_of_the_last_run_alone(tmp_path: Path) -> None:
    now = [1000.0]
    with Ledger(tmp_path, clock=lambda: now[0]) as ledger:
        assert ledger.rate("n") is None
        for start in (1000.0, 90_000.0):
            now[0] = start
            run = ledger.start_run("n", [(f"pano{i}", "0.00") for i in range(20)], 10)
            for i in range(11):
                now[0] = start + i / 2
                ledger.record("n", [ok(int(start) + i)])
            ledger.update_run(run, 11, ended=True)
        assert ledger.rate("n") == pytest.approx(2.0)
        (run_,) = ledger.last_runs()
        assert (run_.planned, run_.missing, run_.started_at, run_.ended_at) == (20, 10, 90_000.0, 90_005.0)
