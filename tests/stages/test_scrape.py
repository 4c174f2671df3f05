from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from fakeprovider import FakeProvider, locations, picture
from killable import hasty
from tinyarchive import of_archive

from streetrecall import tables
from streetrecall.cli import main as cli
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.pictures import shards
from streetrecall.providers.base import Capture, CaptureRequest
from streetrecall.stages import scrape
from streetrecall.store.ledger import Ledger

TESTS = Path(__file__).parents[1]


@pytest.fixture
def quick(params: Params) -> Params:
    return hasty(params)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the captures, by path."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def run(
    params: Params, provider: FakeProvider, out: Path, monkeypatch: pytest.MonkeyPatch, places: int = 10, **more: bool
) -> tuple[pd.DataFrame, dict]:
    source = tables.write(tables.LOCATIONS, locations(places), out / "locations.parquet")
    monkeypatch.setattr(scrape, "open_provider", lambda *_: provider)
    scrape.run(params, source, out / "captures", out / "metrics.json", **more)
    return tables.read(tables.CAPTURES, out / "captures" / "captures.parquet"), json.loads(
        (out / "metrics.json").read_text()
    )


def test_shards_hold_what_was_captured(quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = FakeProvider()
    table, counts = run(quick, provider, tmp_path, monkeypatch)
    assert len(table) == 10 * 2 * 4
    assert set(table["status"]) == {"ok"}
    assert sorted(name for name in hashes(tmp_path / "captures") if not name.endswith(".txt")) == [
        "captures.parquet",
        "shared/test/test_v1-level1-00000.tar",
        "shared/train/train_v1-level0-00000.tar",
    ]
    assert (tmp_path / "captures" / "local").is_dir()
    with shards.ShardReader(tmp_path / "captures") as reader:
        for row in table.itertuples():
            assert reader.read(row.shard, row.offset, row.size) == picture(f"{(row.pano_id, row.heading_deg)}")
            assert row.shard.startswith(f"shared/{row.split}/")
    assert set(zip(table["width"], table["height"], table["format"], strict=True)) == {(32, 16, "JPEG")}
    assert counts["by_status"] == {"ok": 80, "blank": 0, "gone": 0, "failed": 0}
    assert counts["places"] == 10
    assert provider.closed
    assert set(provider.asked.values()) == {1}


def test_a_second_run_makes_no_request_and_the_same_bytes(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick, FakeProvider(), tmp_path, monkeypatch)
    before = hashes(tmp_path)
    again = FakeProvider()
    run(quick, again, tmp_path, monkeypatch)
    assert again.asked.total() == 0
    assert hashes(tmp_path) == before


def test_more_places_add_shards_and_ask_for_no_more_than_they_need(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick, FakeProvider(), tmp_path, monkeypatch, places=16)
    before = hashes(tmp_path / "captures")
    more = FakeProvider()
    run(quick, more, tmp_path, monkeypatch, places=20)
    after = hashes(tmp_path / "captures")
    assert {k: v for k, v in after.items() if k in before and k.endswith(".tar")} == {
        k: v for k, v in before.items() if k.endswith(".tar")
    }
    assert len(after) == len(before) + 2
    assert more.asked.total() == 4 * 2 * 4
    assert set(hashes(tmp_path / "captures")) == set(after)
    run(quick, FakeProvider(), tmp_path, monkeypatch, places=16)
    assert hashes(tmp_path / "captures") == before  # no shard of a plan that is no more stays behind


def test_pictures_that_may_not_be_shared_lie_in_local(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = run(quick, FakeProvider(network=False), tmp_path, monkeypatch)
    assert table["shard"].str.startswith("local/").all()
    assert list((tmp_path / "captures" / "shared").glob("**/*.tar")) == []


def only(pano: str, then: Capture | None, times: int = 1000) -> object:
    def fault(request: CaptureRequest, n: int) -> Capture | None:
        if request.panorama.pano_id != pano or n > times or then is None:
            return None
        return Capture(request, then.status, then.reason, then.data, then.temporary, then.retry_after_s)

    return fault


ANY = CaptureRequest(0, 0, 0.0, 0, None, "", "")  # type: ignore[arg-type]


def outcome(status: str, reason: str = "", data: bytes = b"", temporary: bool = False, wait: float = 0.0) -> Capture:
    return Capture(ANY, status, reason, data, temporary, wait)


def test_what_fails_for_a_while_is_tried_until_it_comes_good(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick, FakeProvider(), tmp_path, monkeypatch)
    smooth = hashes(tmp_path / "captures")
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / "other"))
    flaky = FakeProvider(fault=only("pano3-1", outcome("failed", "http 500", temporary=True), times=2))
    run(quick, flaky, tmp_path, monkeypatch)
    assert hashes(tmp_path / "captures") == smooth
    assert flaky.asked["pano3-1", 90.0] == 3
    assert flaky.asked["pano3-0", 90.0] == 1


def test_waiting_for_another_try_does_not_fill_the_log(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flaky = FakeProvider(fault=only("pano3-1", outcome("failed", "http 500", temporary=True), times=4))
    run(quick, flaky, tmp_path, monkeypatch)
    assert flaky.asked["pano3-1", 90.0] == 5
    shown = capsys.readouterr().err.replace("\r", "\n").split("\n")
    assert len([line for line in shown if line.startswith("scrape:")]) <= 2  # when it begins and when it ends


@pytest.mark.parametrize(
    ("special", "status", "reason", "tries"),
    [
        (outcome("failed", "http 500", temporary=True), "failed", "http 500", 5),
        (outcome("failed", "bad heading"), "failed", "bad heading", 1),
        (outcome("gone", "http 404"), "gone", "http 404", 1),
        (outcome("ok", data=b"<html>"), "failed", "not a picture: not a JPEG or PNG picture", 5),
        (outcome("ok", data=picture("cut")[:-20]), "failed", "not a picture: ", 5),
        (outcome("ok", data=picture("dark", colour=3)), "blank", "near-black", 5),
    ],
)
def test_what_cannot_be_had_is_recorded_and_the_rest_is_there(
    quick: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    special: Capture,
    status: str,
    reason: str,
    tries: int,
) -> None:
    provider = FakeProvider(fault=only("pano3-1", special))
    table, counts = run(quick, provider, tmp_path, monkeypatch)
    bad = table[table["pano_id"] == "pano3-1"]
    assert set(bad["status"]) == {status}
    assert bad["reason"].str.startswith(reason).all()
    assert (bad["shard"] == "").all() == (status != "blank")
    assert set(table.loc[table["pano_id"] != "pano3-1", "status"]) == {"ok"}
    assert counts["by_status"][status] == 4
    assert sum(counts["by_reason"].values()) == 4
    assert provider.asked["pano3-1", 0.0] == tries
    again = FakeProvider()
    run(quick, again, tmp_path, monkeypatch)
    assert again.asked.total() == 0  # final is final


def test_retry_failed_tries_final_failures_again_and_nothing_else(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick, FakeProvider(fault=only("pano3-1", outcome("failed", "bad heading"))), tmp_path, monkeypatch)
    again = FakeProvider()
    table, counts = run(quick, again, tmp_path, monkeypatch, retry_failed=True)
    assert again.asked == {("pano3-1", h): 1 for h in quick.scrape.headings_deg}
    assert counts["by_status"]["ok"] == len(table)


def test_retry_after_is_waited_for(quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = FakeProvider(fault=only("pano0-0", outcome("failed", "http 429", temporary=True, wait=0.7), times=1))
    start = time.monotonic()
    run(quick, slow, tmp_path, monkeypatch, places=2)
    assert time.monotonic() - start >= 0.7


def test_a_picture_that_the_store_lost_is_captured_again(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = run(quick, FakeProvider(), tmp_path, monkeypatch)
    before = hashes(tmp_path)
    with Ledger() as ledger:
        ledger.objects.path(table["sha256"][0]).unlink()
        ledger.objects.path(table["sha256"][5]).write_bytes(b"rotten")
    again = FakeProvider()
    run(quick, again, tmp_path, monkeypatch)
    assert again.asked.total() == 2
    assert hashes(tmp_path) == before


def test_other_picture_settings_are_other_pictures(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick, FakeProvider(), tmp_path, monkeypatch)
    finer = quick.model_copy(update={"scrape": quick.scrape.model_copy(update={"quality": 99})})
    again = FakeProvider()
    run(finer, again, tmp_path, monkeypatch)
    assert again.asked.total() == 80


def test_a_local_file_that_changed_is_noticed(quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = run(quick, FakeProvider(network=False), tmp_path, monkeypatch)
    changed = FakeProvider(network=False, fault=only("pano1-0", outcome("ok", data=picture("new"))))
    second, _ = run(quick, changed, tmp_path, monkeypatch)
    differs = first["sha256"] != second["sha256"]
    assert set(second.loc[differs, "pano_id"]) == {"pano1-0"}
    broken = FakeProvider(network=False, fault=only("pano1-0", outcome("ok", data=b"junk")))
    third, _ = run(quick, broken, tmp_path, monkeypatch)
    assert set(third.loc[third["status"] == "failed", "pano_id"]) == {"pano1-0"}
    assert set(broken.asked.values()) == {1}  # a file on disk is not tried five times


def test_before_it_starts_a_run_says_how_much_it_will_take(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(quick, FakeProvider(), tmp_path, monkeypatch)
    assert "fake: 80 pictures planned, 0 in the store, 80 to capture; about 0.2 minutes at a guess" in caplog.text


def test_no_picture_at_all_is_an_error(quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no picture of any of its places"):
        run(quick, FakeProvider(dates=0), tmp_path, monkeypatch)


class Refusing(FakeProvider):
    def capture(self, requests):  # type: ignore[no-untyped-def]
        for i, capture in enumerate(super().capture(requests)):
            if i == 7:
                raise UserError("the service keeps refusing")
            yield capture


def test_what_was_got_before_a_refusal_is_kept(quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="keeps refusing"):
        run(quick, Refusing(), tmp_path, monkeypatch)
    rest = FakeProvider()
    run(quick, rest, tmp_path, monkeypatch)
    assert rest.asked.total() == 80 - 7


def test_killed_at_many_points_it_ends_with_the_hashes_of_an_undisturbed_run(
    tmp_path: Path, quick: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick, FakeProvider(), tmp_path, monkeypatch)
    undisturbed = hashes(tmp_path / "captures")
    store = tmp_path / "store"
    out = tmp_path / "killed"
    out.mkdir()
    environment = {
        **os.environ,
        "STREETRECALL_STORE": str(store),
        "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}",
    }
    command = [sys.executable, str(TESTS / "killable.py"), "scrape", str(tmp_path / "locations.parquet"), str(out)]

    def recorded() -> int:
        with Ledger(store) as ledger:
            return sum(len(ledger.entries(r.namespace)) for r in ledger.last_runs())

    done = 0
    for point in (1, 9, 30, 64):
        child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while recorded() < point and child.poll() is None:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert recorded() >= max(done, point)
        done = recorded()
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert hashes(out / "captures") == undisturbed


def test_status_tells_of_done_failed_and_waiting(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = str(TESTS.parent / "params.yaml")
    assert cli(["scrape-status", "--params", params]) == 0
    assert "no picture has been asked for yet" in capsys.readouterr().out

    class Stopped(FakeProvider):
        def capture(self, requests):  # type: ignore[no-untyped-def]
            requests = list(requests)
            yield from super().capture(requests[:6])
            yield Capture(requests[6], "gone", "http 404", b"")
            yield Capture(requests[7], "failed", "http 503", b"", temporary=True, retry_after_s=500)
            raise UserError("stop")

    with pytest.raises(UserError, match="stop"):
        run(quick, Stopped(), tmp_path, monkeypatch)
    assert cli(["scrape-status", "--params", params]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for part in ("planned 80", "done (ok) 6", "gone: http 404 1", "to be tried again: http 503 1", "left 73",
                 "next tries in ", "not running"):  # fmt: skip
        assert part in said
    cli(["scrape-status", "--json", "--params", params])
    (report,) = json.loads(capsys.readouterr().out)
    assert report["by_status"] == {"ok": 6, "gone": 1}
    cli(["scrape-status", "--retry-failed", "--params", params])
    assert "2 pictures are to be tried again" in capsys.readouterr().out
    rest = FakeProvider()
    run(quick, rest, tmp_path, monkeypatch)
    assert rest.asked.total() == 74


def status(capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    assert cli(["scrape-status", "--json", "--params", str(TESTS.parent / "params.yaml")]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    return report


def test_status_counts_the_pictures_of_the_last_plan_and_no_others(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`order` picked other places, or it is another city of the same provider: the ledger holds both plans."""
    run(quick, FakeProvider(), tmp_path, monkeypatch)
    report = status(capsys)
    assert (report["planned"], report["left"], report["of_other_plans"]) == (80, 0, 0)

    others = locations(10).assign(pano_id=[f"pano{i}" for i in range(8, 18)])  # two places of the first plan
    source = tables.write(tables.LOCATIONS, others, tmp_path / "others.parquet")
    monkeypatch.setattr(scrape, "open_provider", lambda *_: Refusing())
    with pytest.raises(UserError, match="keeps refusing"):
        scrape.run(quick, source, tmp_path / "captures", tmp_path / "metrics.json")
    report = status(capsys)
    assert report["by_status"] == {"ok": 2 * 8 + 7}
    assert (report["planned"], report["left"], report["of_other_plans"]) == (80, 80 - 2 * 8 - 7, 8 * 8)


def test_status_of_a_plan_that_is_complete_already(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(quick, FakeProvider(), tmp_path, monkeypatch)
    run(quick, FakeProvider(), tmp_path, monkeypatch, places=4)
    report = status(capsys)
    assert (report["planned"], report["left"], report["of_other_plans"]) == (32, 0, 48)


class Dated(FakeProvider):
    """Asks its service for the dates of a place, and notes them; the service has more of them each year."""

    def __init__(self, year: int) -> None:
        super().__init__(dates=year - 2020)
        self.dates_asked = 0

    def plan(self, places):  # type: ignore[no-untyped-def]
        for row in places.itertuples():
            if row.pano_id not in self.notes:
                self.dates_asked += 1
                self.notes[row.pano_id] = str(self._dates)
        yield from (r for r in super().plan(places) if r.date_index < int(self.notes[f"pano{r.place}"]))


def test_a_new_snapshot_asks_for_dates_again_and_captures_what_is_new(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def at(snapshot: str) -> Params:
        return quick.model_copy(update={"metadata": quick.metadata.model_copy(update={"snapshot": snapshot})})

    run(at("2022"), Dated(2022), tmp_path, monkeypatch)
    before = hashes(tmp_path)
    later = Dated(2023)
    run(at("2022"), later, tmp_path, monkeypatch)
    assert (later.dates_asked, later.asked.total()) == (0, 0)
    assert hashes(tmp_path) == before

    table, _ = run(at("2023"), later, tmp_path, monkeypatch)
    assert later.dates_asked == 10
    assert later.asked == {(f"pano{i}-2", h): 1 for i in range(10) for h in quick.scrape.headings_deg}
    assert len(table) == 10 * 3 * 4
    run(at("2022"), later, tmp_path, monkeypatch)  # the old answers are still there
    assert later.dates_asked == 10
    assert hashes(tmp_path) == before

    shown = [(s["snapshot"], s["places_with_dates"]) for s in status(capsys)["snapshots"]]
    assert shown == [("2022", 10), ("2023", 10)]
    cli(["scrape-status", "--params", str(TESTS.parent / "params.yaml")])
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["fake", "2023", "0", "0", "10"] in [line[:5] for line in said]


def test_a_run_that_fails_while_it_writes_leaves_the_captures_as_they_were(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick, FakeProvider(), tmp_path, monkeypatch)
    before = hashes(tmp_path / "captures")

    def full(path: Path, members: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_shard", full)
        with pytest.raises(OSError, match="No space left"):
            run(quick, FakeProvider(), tmp_path, patch, places=12)
    assert hashes(tmp_path / "captures") == before
    assert sorted(p.name for p in (tmp_path / "captures").iterdir()) == ["captures.parquet", "local", "shared"]


@pytest.mark.archive
@pytest.mark.slow
def test_the_real_archive(tmp_path: Path, params: Params, archive: Path) -> None:
    from streetrecall.providers.archive import Archive
    from streetrecall.stages import grid as grid_stage
    from streetrecall.stages import metadata, order

    real = of_archive(params, archive)
    at = {name: tmp_path / f"{name}.parquet" for name in ("grid", "panoramas", "gaps", "locations")}
    m = tmp_path / "m.json"
    grid_stage.run(real, TESTS.parent / "data" / "cities", at["grid"], tmp_path / "grid.png", m)
    metadata.run(real, at["grid"], at["panoramas"], at["gaps"], m)
    order.run(real, at["panoramas"], at["locations"], m)
    scrape.run(real, at["locations"], tmp_path / "captures", m)
    table = tables.read(tables.CAPTURES, tmp_path / "captures" / "captures.parquet")
    counts = json.loads(m.read_text())
    collection = Archive(archive)
    planned = {r.source: r for r in collection.plan(tables.read(tables.LOCATIONS, at["locations"]))}
    assert set(table["source"]) == set(planned)
    assert counts["planned"] + len(counts["left_out"]) >= len(list((archive / "data" / "images").rglob("*.jpg")))
    assert table["shard"].str.startswith("local/").all()
    with shards.ShardReader(tmp_path / "captures") as reader:
        for row in table.iloc[::97].itertuples():
            data = (archive / "data" / "images" / row.source).read_bytes()
            assert reader.read(row.shard, row.offset, row.size) == data
            assert hashlib.sha256(data).hexdigest() == row.sha256
    before = hashes(tmp_path / "captures")
    scrape.run(real, at["locations"], tmp_path / "captures", m)
    assert hashes(tmp_path / "captures") == before
