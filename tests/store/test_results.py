"""Kept results: read back as written, by any process, and computed again where they are damaged."""

from __future__ import annotations

import logging
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from streetrecall.store import leases
from streetrecall.store.results import Results, kept


def _write(folder: Path, number: int) -> None:
    for part in range(20):
        Results(folder).write({f"{number}-{part}": bytes([number]) * 1000})


def test_what_is_written_is_read_and_the_rest_is_missing(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert results.read(["a"]) == {}
    results.write({"a": b"1", "b": b""})
    results.write({"a": b"2"})
    assert results.read(["a", "b", "c", "a"]) == {"a": b"2", "b": b""}
    many = {str(n): str(n).encode() for n in range(1200)}
    results.write(many)
    assert results.read(many) == many


def test_processes_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(tmp_path, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    keys = [f"{n}-{part}" for n in range(3) for part in range(20)]
    assert set(Results(tmp_path).read(keys)) == set(keys)


def test_other_facts_have_other_results_and_the_oldest_are_removed() -> None:
    with kept("test", code="1", size=(1, 2)) as first:
        first.write({"a": b"1"})
    with kept("test", code="2", size=(1, 2)) as second:
        assert second.read(["a"]) == {}
    with kept("test", size=[1, 2], code="1") as again:
        assert again.read(["a"]) == {"a": b"1"}
    for number in range(leases.KEPT + 2):
        with kept("test", code="more", number=number):
            pass
    assert not first.folder.exists()


def test_damage_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = Results(tmp_path)
    results.write({"a": b"right", "b": b"right"})
    with sqlite3.connect(tmp_path / "results.sqlite") as file:
        file.execute("UPDATE result SET value = ? WHERE key = 'a'", (b"wrong",))
    file.close()
    assert results.read(["a", "b"]) == {"b": b"right"}
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "results.sqlite").write_bytes(b"no database at all" * 100)
    with caplog.at_level(logging.WARNING):
        assert results.read(["a"]) == {}
    assert str(tmp_path) in caplog.text and "computed again" in caplog.text
    results.write({"a": b"1"})
    assert results.read(["a"]) == {"a": b"1"}


def test_a_disk_that_takes_nothing_stops_no_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    results = Results(tmp_path / "file" / "missing")
    with caplog.at_level(logging.WARNING):
        results.write({"a": b"1"})
        assert results.read(["a"]) == {}
    assert "cannot be kept" in caplog.text
