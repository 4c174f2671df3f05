"""The stages `metadata` and `scrape` on real worker processes: the same bytes, one pace for all, lost workers."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cutlink import PLACES, hashes, locations
from daskcluster import scheduler
from killable import hasty, tiny_provider
from tinyopen import START, STEP_DEG, TinyOpen, open_box_provider, street
from tinyservice import TinyService, serving

from streetrecall import cluster, tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.boxes import BoxProvider
from streetrecall.providers.http import Client, DeniedError, Secret
from streetrecall.providers.mapillary import BadTokenError
from streetrecall.providers.network import NetworkProvider
from streetrecall.stages import metadata, scrape
from streetrecall.store.ledger import Ledger

__all__ = ["scheduler"]  # a fixture


@pytest.fixture
def quick(params: Params) -> Params:
    params = hasty(params)
    return params.model_copy(
        update={
            "metadata": params.metadata.model_copy(update={"beyond_m": 0.0}),
            "network": params.network.model_copy(update={"timeout_s": 30.0, "ready_s": 60.0, "browsers": 1}),
        }
    )


def paced(params: Params, **change: Any) -> Params:
    return params.model_copy(update={"network": params.network.model_copy(update=change)})


def grid(folder: Path) -> Path:
    points = pd.DataFrame({"point_id": range(PLACES)})
    points = points.assign(lat=(START[0] + STEP_DEG * points["point_id"]).round(6), lon=START[1])
    return tables.write(tables.GRID, points, folder / "grid.parquet")


def run(
    stage: str, provider: NetworkProvider, params: Params, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Run a stage with a store of its own; returns the hashes of what it wrote."""
    monkeypatch.setenv("STREETRECALL_STORE", str(out.with_name(f"{out.name}_store")))
    out.mkdir()
    if stage == "metadata":
        monkeypatch.setattr(metadata, "open_provider", lambda *_: provider)
        metadata.run(params, source, out / "panoramas.parquet", out / "gaps.parquet", out / "metrics.json")
    else:
        monkeypatch.setattr(scrape, "open_provider", lambda *_: provider)
        scrape.run(params, source, out / "captures", out / "metrics.json")
    return hashes(out)


def forbidden(*_: object) -> None:
    raise AssertionError("a request of the client process")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["metadata", "scrape"])
def test_workers_ask_and_the_bytes_are_those_of_one_machine(
    stage: str, quick: Params, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(TinyOpen(street(PLACES))) as service:
        source = (grid if stage == "metadata" else locations)(tmp_path)
        here = open_box_provider("panoramax", quick, service.base)
        alone = run(stage, here, quick, source, tmp_path / "alone", monkeypatch)
        asked = service.asked.copy()
        service.asked.clear()
        monkeypatch.setenv(cluster.ADDRESS, scheduler)
        monkeypatch.setattr(Client, "_send", forbidden)
        there = open_box_provider("panoramax", quick, service.base)
        assert run(stage, there, quick, source, tmp_path / "cluster", monkeypatch) == alone
        assert service.asked == asked


@pytest.mark.slow
@pytest.mark.browser
def test_each_worker_has_browsers_of_its_own(
    quick: Params, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(TinyService()) as service:
        source = locations(tmp_path, 4)
        alone = run("scrape", tiny_provider(quick, service.base), quick, source, tmp_path / "alone", monkeypatch)
        asked = _of_panoramas(service)
        service.asked.clear()
        monkeypatch.setenv(cluster.ADDRESS, scheduler)
        there = tiny_provider(quick, service.base)
        assert run("scrape", there, quick, source, tmp_path / "cluster", monkeypatch) == alone
        assert there._browsers is None
        assert {k: n for k, n in service.asked.items() if "pano" in k} == {
            k: n for k, n in asked.items() if "pano" in k
        }


def _of_panoramas(service: TinyService) -> dict[str, int]:
    """How often each panorama's dates and pictures were asked for; the page itself is loaded by each browser."""
    return {what: count for what, count in service.asked.items() if what != "/viewer" and "favicon" not in what}


def ask_one(provider: BoxProvider, number: int) -> Iterator[int]:
    yield provider.client.get(f"{provider._endpoint}/search", {"bbox": f"{number},0,{number},0"}, lambda a: number)


@pytest.mark.slow
def test_all_workers_together_keep_one_pace(quick: Params, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.ADDRESS, scheduler)
    rate, burst, count = 20.0, 4, 60
    params = paced(quick, requests_per_second=rate, burst=burst)
    with serving(TinyOpen([])) as service:
        provider = open_box_provider("panoramax", params, service.base)
        try:
            list(provider.each(ask_one, range(4)))  # the workers have opened their providers
            service.times.clear()
            assert sorted(provider.each(ask_one, range(count))) == list(range(count))
        finally:
            provider.close()
        assert len(service.times) == count
        assert service.times[-1] - service.times[0] >= (count - 1 - burst) / rate - 0.2


@pytest.mark.slow
def test_a_retry_after_to_one_worker_holds_all_of_them(
    quick: Params, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cluster.ADDRESS, scheduler)
    fault = lambda path, query, n: "429" if query["bbox"].startswith("10,") and n == 1 else None  # noqa: E731
    with serving(TinyOpen([], fault)) as service:
        service.retry_after = "6"
        provider = open_box_provider("panoramax", paced(quick, requests_per_second=20.0, burst=1), service.base)
        try:
            list(provider.each(ask_one, range(1000, 1004)))
            service.times.clear()
            assert sorted(provider.each(ask_one, range(60))) == list(range(60))
        finally:
            provider.close()
        assert service.asked.total() == 65
        assert max(b - a for a, b in pairwise(service.times)) > 4.0


@pytest.mark.slow
def test_a_service_that_keeps_refusing_ends_the_run_of_all_workers(
    quick: Params, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cluster.ADDRESS, scheduler)
    params = paced(quick, breaker_refusals=3, breaker_pause_s=0.1, breaker_pauses=1, tries=50)
    with serving(TinyOpen([], lambda path, query, n: "429")) as service:
        service.retry_after = "0"
        provider = open_box_provider("panoramax", params, service.base)
        try:
            with pytest.raises(UserError, match="keeps refusing"):
                list(provider.each(ask_one, range(100)))
        finally:
            provider.close()
        assert service.asked.total() < 60


@pytest.mark.slow
def test_a_worker_that_would_ask_another_service_is_an_error(
    quick: Params, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cluster.ADDRESS, scheduler)
    with serving(TinyOpen([])) as service:
        provider = open_box_provider("panoramax", quick, service.base)
        provider.reopen = partial(open_box_provider, "panoramax", quick, "http://127.0.0.1:9")
        try:
            with pytest.raises(
                UserError, match=r"would ask 'panoramax http://127\.0\.0\.1:9/api .*set the same variables"
            ):
                list(provider.each(ask_one, range(4)))
        finally:
            provider.close()
        assert not service.asked


def deadly_provider(params: Params, base: str, target: str, folder: Path, deaths: int) -> BoxProvider:
    """A provider whose request for ``target`` kills its process so often."""
    provider = open_box_provider("panoramax", params, base)
    send = provider.client._send

    def send_or_die(url: str, *rest: Any) -> Any:
        if target in url and len(list(folder.iterdir())) < deaths:
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return send(url, *rest)

    provider.client._send = send_or_die  # type: ignore[method-assign]
    provider.reopen = partial(deadly_provider, params, base, target, folder, deaths)
    return provider


@pytest.mark.slow
def test_the_items_of_a_killed_worker_are_asked_by_others(
    quick: Params, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deaths").mkdir()
    with serving(TinyOpen(street(PLACES))) as service:
        source = locations(tmp_path)
        here = open_box_provider("panoramax", quick, service.base)
        alone = run("scrape", here, quick, source, tmp_path / "alone", monkeypatch)
        asked = service.asked.copy()
        service.asked.clear()
        monkeypatch.setenv(cluster.ADDRESS, scheduler)
        there = deadly_provider(quick, service.base, "/pictures/s6-2019", tmp_path / "deaths", 1)
        assert run("scrape", there, quick, source, tmp_path / "cluster", monkeypatch) == alone
        assert len(list((tmp_path / "deaths").iterdir())) == 1
        assert set(service.asked) == set(asked)
        assert service.asked.total() <= asked.total() + 2 * quick.network.threads  # those that it had under way


@pytest.mark.slow
def test_a_picture_that_kills_every_worker_is_named_and_the_others_are_stored(
    quick: Params, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the last test with the cluster, for Dask may give up replacing workers."""
    (tmp_path / "deaths").mkdir()
    count, pano = 4, "s2-2019"
    with serving(TinyOpen(street(count))) as service:
        source = locations(tmp_path, count)
        here = open_box_provider("panoramax", quick, service.base)
        alone = run("scrape", here, quick, source, tmp_path / "alone", monkeypatch)
        monkeypatch.setenv(cluster.ADDRESS, scheduler)
        bad = deadly_provider(quick, service.base, f"/pictures/{pano}", tmp_path / "deaths", 100)
        with pytest.raises(UserError, match="workers died on") as died:
            run("scrape", bad, quick, source, tmp_path / "cluster", monkeypatch)
        with Ledger() as ledger:
            namespace = scrape.capture_namespace(quick, bad)
            plan, known = ledger.plan(namespace), ledger.entries(namespace)
        missing = {key for key in plan if key not in known}
        assert {key for key in plan if key[0] == pano} <= missing
        if "none is left" not in str(died.value):  # else the rest waits for workers too
            assert pano in str(died.value)
            assert {key[0] for key in missing} == {pano}
        service.asked.clear()
        monkeypatch.delenv(cluster.ADDRESS)
        monkeypatch.setattr(scrape, "open_provider", lambda *_: open_box_provider("panoramax", quick, service.base))
        scrape.run(quick, source, tmp_path / "cluster" / "captures", tmp_path / "cluster" / "metrics.json")
        assert hashes(tmp_path / "cluster") == alone
        assert any(f"/pictures/{pano}" in path for path in service.asked)
        stored = {key[0] for key in plan} - {key[0] for key in missing}
        assert stored and not [path for path in service.asked for one in stored if f"/pictures/{one}" in path]


def test_no_secret_is_sent_and_a_denial_keeps_its_text() -> None:
    with pytest.raises(TypeError, match="not sent"):
        pickle.dumps(Secret("MLY|secret"))
    denied = BadTokenError("HTTP 401")
    copy = pickle.loads(pickle.dumps(denied))
    assert isinstance(copy, DeniedError) and str(copy) == str(denied)
