from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from fakeprovider import locations
from killable import hasty, tiny_provider
from tinyservice import TinyService, serving

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.pictures.inspect import inspect
from streetrecall.providers.browser import browser as module
from streetrecall.providers.browser import chromium, pool, reaper
from streetrecall.providers.google.provider import GoogleProvider
from streetrecall.providers.http import Client
from streetrecall.providers.proxies import Proxies
from streetrecall.stages import scrape
from streetrecall.store.ledger import Ledger

pytestmark = pytest.mark.browser
TESTS = Path(__file__).parents[2]


@pytest.fixture
def quick(params: Params) -> Params:
    if chromium.find_browser() is None:
        pytest.skip("there is no Chromium on PATH")
    return hasty(params)


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Whatever a test does, no browser and no profile outlives it."""
    place = Path(tempfile.mkdtemp(prefix="sr"))
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield place
    deadline = time.monotonic() + 15
    while (left := reaper.processes(str(place))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    while (kept := list(place.glob("streetrecall-*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not kept
    shutil.rmtree(place)


def network(params: Params, **update: object) -> Params:
    return params.model_copy(update={"network": params.network.model_copy(update=update)})


def places(*panos: str) -> pd.DataFrame:
    return pd.DataFrame({"place": range(len(panos)), "pano_id": panos, "level": 0, "split": "train", "radius_m": 100.0})


def take(provider: GoogleProvider, *panos: str) -> dict[tuple[str, float], tuple[str, str, bytes]]:
    """Status, reason and bytes by panorama and heading, each view asked for once."""
    requests = list(provider.plan(places(*panos)))
    got = {}
    for c in provider.capture(requests):
        key = (c.request.panorama.pano_id, c.request.heading_deg)
        assert key not in got
        got[key] = (c.status, c.reason, c.data)
    assert len(got) == len(requests)
    return got


def test_every_request_gets_its_own_picture_without_loading_the_page_again(quick: Params) -> None:
    with serving(TinyService()) as service:
        provider = tiny_provider(quick, service.base)
        try:
            first = take(provider, "a", "b", "c")
            loads = [q for q in service.queries if q.startswith("/viewer?")]
            again = take(provider, "c", "b", "a")
        finally:
            provider.close()
    assert {status for status, _, _ in first.values()} == {"ok"}
    assert len({data for _, _, data in first.values()}) == len(first) == 24
    assert again == first  # the same bytes, whichever browser takes it, in whatever order
    for _, _, data in first.values():
        picture = inspect(data)
        assert (picture.width, picture.height, picture.format) == (320, 180, "JPEG")
    assert len(loads) <= quick.network.browsers
    assert all("labels=0" in load and "ui=0" in load for load in loads)
    tiles = {q: n for q, n in service.asked.items() if q.startswith("/tile")}
    assert set(tiles.values()) == {2}  # twice taken, twice asked for


def test_what_the_service_lacks_is_gone_and_the_rest_is_taken(quick: Params) -> None:
    with serving(TinyService(dates=1)) as service:
        provider = tiny_provider(quick, service.base)
        try:
            got = take(provider, "a", "gone", "b")
        finally:
            provider.close()
    for (pano, _), (status, reason, _) in got.items():
        assert (status, reason) == (("gone", "http 404") if pano == "gone-0" else ("ok", ""))


def test_a_browser_that_hangs_costs_its_own_view_and_is_replaced(
    quick: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 1.0)
    impatient = network(quick, ready_s=1.0, browsers=2)
    with serving(TinyService(dates=1)) as service:
        provider = tiny_provider(impatient, service.base)
        try:
            requests = list(provider.plan(places("a", "hang", "b", "c")))
            hanging = [r for r in requests if r.panorama.pano_id == "hang-0"]
            got = list(provider.capture([r for r in requests if r not in hanging[1:]]))
        finally:
            provider.close()
    assert len(got) == 13
    failed = [c for c in got if c.status != "ok"]
    assert [c.request.panorama.pano_id for c in failed] == ["hang-0"]
    assert failed[0].temporary
    assert failed[0].reason.startswith("browser: ")


def browser_of(place: Path) -> int | None:
    """A Chromium's main process below the folder ``place``."""
    for pid in reaper.processes(str(place)):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"--user-data-dir=" in line and b"--type=" not in line and b"chromedriver" not in line:
            return pid
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the browser in /proc")
def test_a_killed_browser_costs_no_more_than_one_try(quick: Params, place: Path) -> None:
    with serving(TinyService(dates=2)) as service:
        provider = tiny_provider(quick, service.base)
        kills = 0
        try:
            got = []
            for capture in provider.capture(list(provider.plan(places("a", "b", "c")))):
                got.append(capture)
                if len(got) in (3, 12) and (pid := browser_of(place)):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
        finally:
            provider.close()
    assert len(got) == 24
    failed = [c for c in got if c.status != "ok"]
    assert kills == 2
    assert len(failed) <= kills
    assert all(c.temporary for c in failed)


def test_an_interrupted_run_leaves_no_browser_and_starts_none(quick: Params) -> None:
    with serving(TinyService(dates=3)) as service:
        provider = tiny_provider(quick, service.base)
        captures = provider.capture(list(provider.plan(places("a", "b", "c"))))
        next(captures)
        provider.close()  # as `finally` does while the generator is still referred to
        assert not any(thread.name.startswith("browser-") for thread in threading.enumerate())
        captures.close()  # type: ignore[attr-defined]


def test_browsers_are_replaced_after_so_many_pictures(quick: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []
    start = module.Browser.__init__

    def counted(self: module.Browser, params: Params, folder: Path, *rest: object) -> None:
        started.append(folder)
        start(self, params, folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module.Browser, "__init__", counted)
    with serving(TinyService(dates=1)) as service:
        provider = tiny_provider(network(quick, browsers=1, recycle_captures=4), service.base)
        try:
            got = take(provider, "a", "b", "c")
        finally:
            provider.close()
    assert {status for status, _, _ in got.values()} == {"ok"}
    assert len(started) == 3


def test_a_refusal_reported_by_the_page_pauses_the_run(quick: Params) -> None:
    refusing = network(quick, breaker_refusals=2, breaker_pause_s=0.05, breaker_pauses=1)
    with serving(TinyService(lambda p, q, n: "429" if p == "/tile" else None, dates=1)) as service:
        provider = tiny_provider(refusing, service.base)
        try:
            with pytest.raises(UserError, match="keeps refusing"):
                take(provider, "a", "b", "c")
            assert sum(n for what, n in service.asked.items() if what.startswith("/tile")) < 10
        finally:
            provider.close()


def test_no_browser_is_a_clear_error(params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("STREETRECALL_CHROMIUM", raising=False)
    monkeypatch.setenv("SE_OFFLINE", "true")
    monkeypatch.setenv("SE_CACHE_PATH", str(tmp_path))
    browsers = pool.BrowserPool(params, "http://127.0.0.1:9/viewer", "127.0.0.1:9", Client(params.network), True)
    try:
        with pytest.raises(UserError, match=r"no browser can be started.*apt-get install chromium"):
            browsers._start()
    finally:
        browsers.close()
    monkeypatch.setenv("STREETRECALL_CHROMIUM", str(tmp_path / "chromium"))
    with pytest.raises(UserError, match="STREETRECALL_CHROMIUM"):
        chromium.find_browser()


@pytest.mark.parametrize("driver", ["chromedriver", None])
def test_selenium_calls_nobody_where_there_is_a_driver_and_never_tells_statistics(
    params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: str | None
) -> None:
    for name in ("SE_OFFLINE", "SE_AVOID_STATS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(module, "find_browser", lambda: "/opt/chromium")
    monkeypatch.setattr(shutil, "which", lambda name: driver and f"/opt/{driver}")
    seen = []

    def start(options: object, service: object) -> None:
        seen.append((options.binary_location, service.path, dict(os.environ)))  # type: ignore[attr-defined]
        raise OSError("no browser in this test")

    monkeypatch.setattr(module.webdriver, "Chrome", start)
    with pytest.raises(module.BrowserError):
        module.Browser(params, tmp_path / "b", "http://127.0.0.1/viewer", None, True)
    ((binary, path, environment),) = seen
    assert (binary, path or None) == ("/opt/chromium", driver and "/opt/chromedriver")
    assert environment["SE_AVOID_STATS"] == "true"
    assert environment.get("SE_OFFLINE") == (driver and "true")


def test_root_alone_runs_without_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    for user, expected in ((0, True), (1000, False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert ("--no-sandbox" in chromium.arguments("/p", "http://127.0.0.1/viewer", None, True)) is expected
    assert any("MAP * ~NOTFOUND" in a for a in chromium.arguments("/p", "http://127.0.0.1/viewer", None, True))
    assert not any("MAP *" in a for a in chromium.arguments("/p", "https://maps.example/viewer", None, False))
    with pytest.raises(UserError, match="password"):
        chromium.arguments("/p", "https://maps.example/viewer", "http://me:secret@proxy:3128", False)


def test_a_proxy_serves_the_browser_too_and_nobody_else_is_asked(quick: Params) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    with serving(TinyService(dates=1)) as proxy:
        proxies = Proxies([dead, proxy.base])
        provider = tiny_provider(network(quick, browsers=1), "http://127.0.0.9:81")
        provider.client = Client(quick.network, proxies, environment=False)
        try:
            assert {status for status, _, _ in take(provider, "a").values()} == {"ok"}
            assert proxies.current == proxy.base
        finally:
            provider.close()
        assert any(q.startswith("http://127.0.0.9:81/tile") for q in proxy.queries)
        strangers = [q for q in proxy.queries if not q.startswith("http://127.0.0.9:81/")]
        assert strangers == []


def test_a_browser_leaves_a_dead_proxy_for_the_next(quick: Params) -> None:
    with serving(TinyService(dates=1)) as proxy:
        first = TinyService(dates=1)
        with serving(first):
            proxies = Proxies([first.base, proxy.base])
            provider = tiny_provider(network(quick, browsers=1), "http://127.0.0.9:81")
            provider.client = Client(quick.network, proxies, environment=False)
            requests = list(provider.plan(places("a", "b")))
            try:
                list(provider.capture(requests[:1]))
            except BaseException:
                provider.close()
                raise
        try:
            got = list(provider.capture(requests[1:]))
        finally:
            provider.close()
        assert proxies.current == proxy.base
        assert sum(c.status != "ok" for c in got) <= 1
        assert all(c.temporary for c in got if c.status != "ok")


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def stage(params: Params, service: TinyService, out: Path, monkeypatch: pytest.MonkeyPatch, count: int = 4) -> dict:
    source = tables.write(tables.LOCATIONS, locations(count), out / "locations.parquet")
    monkeypatch.setattr(scrape, "open_provider", lambda *_: tiny_provider(params, service.base))
    scrape.run(params, source, out / "captures", out / "metrics.json")
    return json.loads((out / "metrics.json").read_text())


KINDS = ("429", "500", "reset", "stall", "truncated", "malformed", "html", "black")


@pytest.mark.slow
def test_under_every_fault_all_that_can_be_had_is_there_once(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(TinyService()) as service:
        smooth = stage(quick, service, tmp_path, monkeypatch)
    undisturbed = hashes(tmp_path / "captures")
    assert smooth["by_status"]["ok"] == 32
    out = tmp_path / "faulty"
    out.mkdir()
    monkeypatch.setenv("STREETRECALL_STORE", str(out / "store"))
    shown: dict[str, int] = {}

    def fault(path: str, query: dict[str, str], n: int) -> str | None:
        """Each kind at the first request of one heading of one panorama."""
        if path != "/tile" or n > 1 or query["heading"] != "90":
            return None
        place, _, date = query["pano"].removeprefix("pano").partition("-")
        kind = KINDS[2 * int(place) + int(date)]
        shown[kind] = shown.get(kind, 0) + 1
        return kind

    with serving(TinyService(fault)) as service:
        counts = stage(network(quick, ready_s=2.0), service, out, monkeypatch)
        tiles = {what: n for what, n in service.asked.items() if what.startswith("/tile")}
    assert shown == dict.fromkeys(KINDS, 1)
    assert counts == smooth
    assert hashes(out / "captures") == undisturbed
    assert all(n >= 2 for what, n in tiles.items() if what.endswith(" 90"))
    with Ledger(out / "store") as ledger:
        (run,) = ledger.last_runs()
        entries = ledger.entries(run.namespace)
    assert len(entries) == 32
    assert {key for key, e in entries.items() if e.tries > 1} <= {key for key in entries if key[1] == "90.00"}
    assert max(e.tries for e in entries.values()) == 2


def test_a_frame_that_was_black_is_asked_for_again_by_the_browser_that_shows_it(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = lambda path, query, n: "black" if path == "/tile" and query["heading"] == "270" and n == 1 else None  # noqa: E731
    with serving(TinyService(fault, dates=1)) as service:
        counts = stage(network(quick, browsers=1), service, tmp_path, monkeypatch, count=1)
        asked = {what.rpartition(" ")[2]: n for what, n in service.asked.items() if what.startswith("/tile")}
    assert counts["by_status"] == {"ok": 4, "blank": 0, "gone": 0, "failed": 0}
    assert asked == {"0": 1, "90": 1, "180": 1, "270": 2}


def test_what_stays_faulty_is_reported_by_id_and_reason(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting = {"pano0-0": "500", "pano1-1": "black", "pano2-0": "truncated"}
    with serving(TinyService(lambda p, q, n: lasting.get(q.get("pano", "")) if p == "/tile" else None)) as service:
        counts = stage(network(quick, tries=2), service, tmp_path, monkeypatch, count=3)
    table = tables.read(tables.CAPTURES, tmp_path / "captures" / "captures.parquet")
    by_pano = table.groupby("pano_id")["status"].unique().map(list).to_dict()
    assert by_pano == {
        "pano0-0": ["failed"], "pano0-1": ["ok"], "pano1-0": ["ok"], "pano1-1": ["blank"], "pano2-0": ["failed"],
        "pano2-1": ["ok"],
    }  # fmt: skip
    assert set(table.loc[table["pano_id"] == "pano0-0", "reason"]) == {"http 500"}
    assert counts["by_reason"]["http 500"] == 4
    assert counts["by_reason"]["near-black"] == 4
    assert (table.loc[table["status"] == "blank", "size"] > 0).all()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the browser in /proc")
def test_stage_and_browsers_killed_at_many_points_end_with_equal_hashes(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    with serving(TinyService()) as service:
        stage(quick, service, tmp_path, monkeypatch)
        undisturbed = hashes(tmp_path / "captures")
        store, out = tmp_path / "store2", tmp_path / "killed"
        out.mkdir()
        environment = {
            **os.environ,
            "STREETRECALL_STORE": str(store),
            "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}",
        }
        command = [sys.executable, str(TESTS / "killable.py"), "scrape", str(tmp_path / "locations.parquet"), str(out),
                   service.base]  # fmt: skip

        def recorded() -> int:
            with Ledger(store) as ledger:
                return sum(len(ledger.entries(run.namespace)) for run in ledger.last_runs())

        for point in (0, 2, 9, 17):
            child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
            while (recorded() < point or not browser_of(place)) and child.poll() is None:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.wait()
            deadline = time.monotonic() + 15
            while reaper.processes(str(place)) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not reaper.processes(str(place)), "orphans"
        before = recorded()
        child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while recorded() <= before and child.poll() is None:
            time.sleep(0.01)
        if pid := browser_of(place):
            os.kill(pid, signal.SIGKILL)
        assert child.wait() == 0
        assert hashes(out / "captures") == undisturbed
